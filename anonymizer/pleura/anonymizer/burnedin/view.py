"""Views: a decoded frame as the 8-bit grey picture that text is looked for in."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Frame = NDArray[Any]
_TAIL_PERCENT: Final = 0.05
_GROUND_PX: Final = 16


def grey_view(frame: Frame, photometric: str) -> Grey:
    """Return rows x columns, 0..255: the whole range of values, bright on dark.

    Colour becomes the mean of its luma and its strongest (on dark ground) or weakest (on bright
    ground) channel: text of any hue differs from its ground.
    """
    values = np.asarray(frame, dtype=np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if values.ndim == 3:
        full = 255.0 if frame.dtype.itemsize == 1 else max(float(values.max()), 1.0)
        values = _colourless(_rgb(values, full) if photometric.startswith("YBR") else values, full)
    low, high = np.percentile(values[::2, ::2], (_TAIL_PERCENT, 100 - _TAIL_PERCENT))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = np.clip((values - low) * (255.0 / (high - low)), 0, 255)
    if photometric == "MONOCHROME1":
        scaled = 255.0 - scaled
    view: Grey = scaled.astype(np.uint8)
    return view


def _rgb(values: NDArray[np.float32], full: float) -> NDArray[np.float32]:
    """Return full-range YBR as RGB (PS3.3 C.7.6.3.1.2)."""
    luma, blue, red = (values[..., i] for i in range(3))
    blue, red = blue - (full + 1) / 2, red - (full + 1) / 2
    channels = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
    rgb: NDArray[np.float32] = np.clip(np.stack(channels, axis=2), 0, full)
    return rgb


def _colourless(values: NDArray[np.float32], full: float) -> NDArray[np.float32]:
    channels = values[..., :3]
    strong, weak = channels.max(axis=2), channels.min(axis=2)
    is_bright = _blurred(strong) > full / 2
    luma = channels @ np.array([0.299, 0.587, 0.114], np.float32)
    shown: NDArray[np.float32] = (luma + np.where(is_bright, weak, strong)) / 2
    return shown


def _blurred(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over a square of pixels around each pixel."""
    out: NDArray[Any] = values
    for axis in (0, 1):
        edge = [(_GROUND_PX + 1, _GROUND_PX) if a == axis else (0, 0) for a in (0, 1)]
        sums = np.cumsum(np.pad(out, edge, mode="edge"), axis=axis, dtype=np.float64)
        side, length = 2 * _GROUND_PX + 1, values.shape[axis]
        ends = np.take(sums, range(side, side + length), axis=axis)
        out = (ends - np.take(sums, range(length), axis=axis)) / side
    mean: NDArray[np.float32] = out.astype(np.float32)
    return mean


def black_of(frame: Frame, photometric: str) -> Any:
    """Return the value (or one value a sample) that shows as black."""
    if frame.ndim == 3:
        if photometric.startswith("YBR"):
            return np.array([0, 128, 128], frame.dtype)
        return np.zeros(frame.shape[2], frame.dtype)
    return frame.max() if photometric == "MONOCHROME1" else frame.min()
