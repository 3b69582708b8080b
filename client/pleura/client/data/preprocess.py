"""Preprocessing: from the bytes of DICOM files to one float32 array in [0, 1].

One contract for training, validation and results (TASKS.md section 6): the
digest of `PreprocSpec` names it, so a change of this module is a new version.
Scaling uses this image alone; there is no mean of a data set. Nothing here
names a value of the image in an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from pleura.client.data.ct_stack import read_hounsfield_stack
from pleura.client.data.pixels import decode
from pleura.client.errors import ImageUnreadable, ImageUnsupported
from pleura.common.orders import PreprocSpec

Picture = NDArray[np.float32]
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5


def prepare(files: Sequence[bytes], spec: PreprocSpec) -> Picture:
    """Return the picture of one sample, shape [slices, size_px, size_px], in [0, 1].

    Args:
        files: one radiograph, or the slices of one CT stack in any order.
        spec: the plan's preprocessing.

    Raises:
        ImageUnreadable: a file is not DICOM or its pixels cannot be decoded.
        ImageUnsupported: colour, several frames, blank, or the wrong number of files.
        StackRefused: the slices do not form one regular axial-parallel stack.
    """
    datasets = [read_dicom(data) for data in files]
    if spec.modality == "CT":
        hounsfield = read_hounsfield_stack(datasets)
        return prepare_ct(hounsfield, spec)
    if len(datasets) != 1:
        raise ImageUnsupported("a radiograph is one file")
    return prepare_radiograph(datasets[0], spec)


def read_dicom(data: bytes) -> Dataset:
    """Return the dataset of a grey, single-frame DICOM file.

    Raises:
        ImageUnreadable: not DICOM.
        ImageUnsupported: colour or several frames.
    """
    try:
        dataset = dcmread(BytesIO(data))
        samples = int(dataset.get("SamplesPerPixel", 1))
        frames = int(dataset.get("NumberOfFrames", 1) or 1)
        photometric = str(dataset.get("PhotometricInterpretation", ""))
    except Exception as exc:
        raise ImageUnreadable("header") from exc
    if samples != 1 or frames != 1 or not photometric.startswith("MONOCHROME"):
        raise ImageUnsupported("grey single-frame images only")
    return dataset


def prepare_radiograph(dataset: Dataset, spec: PreprocSpec) -> Picture:
    """Return one radiograph as [1, size_px, size_px]; dark air, bright bone.

    Modality LUT, VOI LUT or window, inversion of MONOCHROME1, percentiles of this
    image to [0, 1], padding to a square, antialiased resize (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2).

    Raises:
        ImageUnreadable: the pixels or a lookup table cannot be decoded.
        ImageUnsupported: every pixel has the same value.
    """
    try:
        values = apply_modality_lut(decode(dataset), dataset)
        values = np.asarray(apply_voi_lut(values, dataset), dtype=np.float64)
    except Exception as exc:
        raise ImageUnreadable("pixels") from exc
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ImageUnreadable("pixels")
    if is_inverted(dataset):
        values = values.max() - values
    return square_picture(scale_to_unit(values), spec.size_px)[np.newaxis]


def is_inverted(dataset: Dataset) -> bool:
    """Return whether low values are to be shown bright (PS3.3 C.7.6.3.1.2, C.11.6.1.2)."""
    is_monochrome1 = str(dataset.PhotometricInterpretation) == "MONOCHROME1"
    return is_monochrome1 or str(dataset.get("PresentationLUTShape", "")) == "INVERSE"


def scale_to_unit(values: NDArray[np.float64]) -> Picture:
    """Return `values` with their 0.5 and 99.5 percentiles at 0 and 1, clipped.

    The percentiles are order statistics taken symmetrically, so that an image and
    its negative inverted give equal bytes.

    Raises:
        ImageUnsupported: the image is blank.
    """
    low = np.percentile(values, LOW_PERCENTILE, method="lower")
    high = np.percentile(values, HIGH_PERCENTILE, method="higher")
    if high <= low:
        low, high = values.min(), values.max()
    if high <= low:
        raise ImageUnsupported("blank image")
    return np.clip((values - low) / (high - low), 0.0, 1.0).astype(np.float32)


def square_picture(picture: Picture, size_px: int) -> Picture:
    """Return the picture padded with black to a square and resized; never stretched."""
    rows, columns = picture.shape
    if (rows, columns) == (size_px, size_px):
        return picture
    side = max(rows, columns)
    top, left = (side - rows) // 2, (side - columns) // 2
    square = np.zeros((side, side), dtype=np.float32)
    square[top : top + rows, left : left + columns] = picture
    if side == size_px:
        return square
    resized = Image.fromarray(square).resize((size_px, size_px), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized, dtype=np.float32), 0.0, 1.0)


def prepare_ct(hounsfield: NDArray[np.int16], spec: PreprocSpec) -> Picture:
    """Return a stack in Hounsfield units windowed to [0, 1], [slices, size_px, size_px].

    More planes than `slices` are picked evenly; fewer are centred between black ones.
    A plane that already has `size_px` is not resampled.
    """
    span = float(spec.hu_high - spec.hu_low)
    windowed = (hounsfield.astype(np.float32) - spec.hu_low) / np.float32(span)
    windowed = np.clip(windowed, 0.0, 1.0)
    if len(windowed) > spec.slices:
        windowed = windowed[np.linspace(0, len(windowed) - 1, spec.slices).round().astype(int)]
    stack = np.zeros((spec.slices, spec.size_px, spec.size_px), dtype=np.float32)
    first = (spec.slices - len(windowed)) // 2
    for index, plane in enumerate(windowed):
        stack[first + index] = square_picture(plane, spec.size_px)
    return stack
