"""CT stack: slices of one series to Hounsfield units in anatomical order.

Order comes from position along the slice normal, never from instance numbers or
file names (PS3.3 C.7.6.2). A stack that is not one regular block of parallel
planes is refused: gaps, doubled positions, gantry tilt, unequal planes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pleura.client.data.pixels import decode
from pleura.client.errors import ImageUnreadable, StackRefused

HU_MIN, HU_MAX = -1024, 3071
ORIENTATION_TOLERANCE = 1e-3  # of direction cosines
DOUBLE_MM = 0.01  # two planes closer than this are the same plane
GAP_RATIO = 0.1  # allowed deviation of a step from the median step
SHEAR_RATIO = 0.05  # allowed sideways shift of a step, as part of the step


def read_hounsfield_stack(datasets: Sequence[Dataset]) -> NDArray[np.int16]:
    """Return the stack as [slices, rows, columns] in HU, ascending along the normal.

    Raises:
        StackRefused: no slice, or the slices are not one regular stack.
        ImageUnreadable: pixels, rescale values or geometry cannot be read.
    """
    if not datasets:
        raise StackRefused("no slice")
    try:
        orientation = np.array([_floats(d.ImageOrientationPatient, 6) for d in datasets])
        position = np.array([_floats(d.ImagePositionPatient, 3) for d in datasets])
        spacing = np.array([_floats(d.PixelSpacing, 2) for d in datasets])
    except (AttributeError, TypeError, ValueError) as exc:
        raise ImageUnreadable("geometry") from exc
    order = stack_order(orientation, position, spacing)
    planes = [hounsfield_plane(datasets[index]) for index in order]
    if len({plane.shape for plane in planes}) != 1:
        raise StackRefused("unequal planes")
    return np.stack(planes)


def _floats(values: Sequence[float], count: int) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError("wrong multiplicity")
    return numbers


def stack_order(
    orientation: NDArray[np.float64],
    position: NDArray[np.float64],
    spacing: NDArray[np.float64],
) -> list[int]:
    """Return the indices of the slices in ascending order along the slice normal.

    Args:
        orientation: ImageOrientationPatient, [n, 6].
        position: ImagePositionPatient in mm, [n, 3].
        spacing: PixelSpacing in mm, [n, 2].

    Raises:
        StackRefused: planes are not parallel, doubled, with gaps or sheared (tilt).
    """
    if np.abs(orientation - orientation[0]).max() > ORIENTATION_TOLERANCE:
        raise StackRefused("planes are not parallel")
    if np.abs(spacing - spacing[0]).max() > ORIENTATION_TOLERANCE:
        raise StackRefused("unequal planes")
    normal = np.cross(orientation[0, :3], orientation[0, 3:])
    length = float(np.linalg.norm(normal))
    if abs(length - 1.0) > 10 * ORIENTATION_TOLERANCE:
        raise StackRefused("the image axes are not orthogonal")
    normal = normal / length
    depth = position @ normal
    order = np.argsort(depth, kind="stable")
    steps = np.diff(position[order], axis=0)
    along = np.diff(depth[order])
    if len(along) == 0:
        return [int(index) for index in order]
    if along.min() < DOUBLE_MM:
        raise StackRefused("doubled slice")
    typical = float(np.median(along))
    if np.abs(along - typical).max() > GAP_RATIO * typical:
        raise StackRefused("gap between slices")
    sideways = np.linalg.norm(steps - along[:, None] * normal, axis=1)
    if (sideways > SHEAR_RATIO * along).any():
        raise StackRefused("tilted gantry")
    return [int(index) for index in order]


def hounsfield_plane(dataset: Dataset) -> NDArray[np.int16]:
    """Return one slice in HU, rounded and clipped to [-1024, 3071].

    Raises:
        ImageUnreadable: pixels or rescale values are missing or broken.
    """
    try:
        slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
        pixels = decode(dataset).astype(np.float64)
    except Exception as exc:
        raise ImageUnreadable("pixels") from exc
    if pixels.ndim != 2 or not np.isfinite([slope, intercept]).all() or slope == 0:
        raise ImageUnreadable("pixels")
    values = np.rint(pixels * slope + intercept)
    return np.clip(values, HU_MIN, HU_MAX).astype(np.int16)
