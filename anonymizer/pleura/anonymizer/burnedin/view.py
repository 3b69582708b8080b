"""Views: a decoded frame as the 8-bit grey picture that text is looked for in."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Frame = NDArray[Any]
Values = NDArray[np.float32]
LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
_TAIL_PERCENT: Final = 0.05
_GROUND_PX: Final = 16


def grey_view(frame: Frame, photometric: str) -> Grey:
    """Return rows x columns, 0..255: the whole range of values, bright on dark."""
    if frame.ndim == 3:
        return stretched(brightness(colours_of(frame, photometric)))
    return stretched(_finite(frame), is_inverted=photometric == "MONOCHROME1")


def colours_of(frame: Frame, photometric: str) -> Values:
    """Return red, green and blue, 0..255, of a frame in colour."""
    values = _finite(frame)
    full = 255.0 if frame.dtype.itemsize == 1 else max(float(values.max()), 1.0)
    values = _rgb(values, full) if photometric.startswith("YBR") else values[..., :3]
    return values if full == 255.0 else values * np.float32(255.0 / full)


def brightness(colours: Values) -> Values:
    """Return colours as greys, 0..255.

    That is the mean of the luma and the strongest (on dark ground) or weakest (on bright
    ground) channel: text of most hues differs from its ground.
    """
    strong, weak = colours.max(axis=2), colours.min(axis=2)
    is_bright = _blurred(strong) > 255.0 / 2
    shown: Values = (colours @ LUMA + np.where(is_bright, weak, strong)) / 2
    return shown


def stretched(values: Values, *, is_inverted: bool = False) -> Grey:
    """Return values as 0..255; flat ones are all zero."""
    low, high = np.percentile(values[::2, ::2], (_TAIL_PERCENT, 100 - _TAIL_PERCENT))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = np.clip((values - low) * (255.0 / (high - low)), 0, 255)
    view: Grey = (255.0 - scaled if is_inverted else scaled).astype(np.uint8)
    return view


def _finite(frame: Frame) -> Values:
    values = np.asarray(frame, dtype=np.float32)
    finite: Values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return finite


def _rgb(values: Values, full: float) -> Values:
    """Return full-range YBR as RGB (PS3.3 C.7.6.3.1.2)."""
    luma, blue, red = (values[..., i] for i in range(3))
    blue, red = blue - (full + 1) / 2, red - (full + 1) / 2
    channels = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
    rgb: Values = np.clip(np.stack(channels, axis=2), 0, full)
    return rgb


def _blurred(values: Values) -> Values:
    """Return the mean over a square of pixels around each pixel."""
    out: NDArray[Any] = values
    for axis in (0, 1):
        edge = [(_GROUND_PX + 1, _GROUND_PX) if a == axis else (0, 0) for a in (0, 1)]
        sums = np.cumsum(np.pad(out, edge, mode="edge"), axis=axis, dtype=np.float64)
        side, length = 2 * _GROUND_PX + 1, values.shape[axis]
        ends = np.take(sums, range(side, side + length), axis=axis)
        out = (ends - np.take(sums, range(length), axis=axis)) / side
    mean: Values = out.astype(np.float32)
    return mean


def black_of(frame: Frame, photometric: str) -> Any:
    """Return the value (or one value a sample) that shows as black."""
    if frame.ndim == 3:
        if photometric.startswith("YBR"):
            return np.array([0, 128, 128], frame.dtype)
        return np.zeros(frame.shape[2], frame.dtype)
    return frame.max() if photometric == "MONOCHROME1" else frame.min()
