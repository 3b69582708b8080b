"""Strokes: how far a line of text goes on beyond what the reader saw of it.

A device writes its letters in one grey. That grey is what the box holds far more of than the
rows above and below; where it goes on along the line, so does the text. Pure.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pleura.anonymizer.burnedin.boxes import Box
from pleura.anonymizer.burnedin.view import Grey

_NEAR: Final = 2  # greys on either side of the letters' own
_LEAST_SHARE: Final = 0.05
_GOES_ON: Final = 0.35
_MOST_STEPS: Final = 16
_GAP_STEPS: Final = 1


def along_ink(grey: Grey, box: Box) -> Box:
    """Return the box lengthened as far as its letters' grey goes on along the line."""
    if box.height > 1.5 * box.width:
        turned = along_ink(np.ascontiguousarray(grey.T), Box(box.y0, box.x0, box.y1, box.x1))
        return Box(turned.y0, turned.x0, turned.y1, turned.x1)
    box = box.grown(0, 0, grey.shape)
    if box.height < 6 or box.width < 6:
        return box
    above = grey[max(0, box.y0 - box.height) : box.y0]
    below = grey[box.y1 : box.y1 + box.height]
    line, beside = grey[box.y0 : box.y1], np.concatenate([above, below])
    if beside.shape[0] < 3:
        return box
    letters = _letters(line[:, box.x0 : box.x1], beside[:, box.x0 : box.x1])
    if letters is None:
        return box
    value, share = letters
    surplus = _near(line, value).mean(axis=0) - _near(beside, value).mean(axis=0)
    step = max(4, round(0.7 * box.height))
    left = _reach(surplus[: box.x0][::-1], step, _GOES_ON * share)
    right = _reach(surplus[box.x1 :], step, _GOES_ON * share)
    return Box(box.x0 - left, box.y0, box.x1 + right, box.y1)


def _letters(inside: Grey, beside: Grey) -> tuple[int, float] | None:
    """Return the grey of the letters and their share of the box, None where none stands out."""
    counts = [np.bincount(part.ravel(), minlength=256) / part.size for part in (inside, beside)]
    window = np.ones(2 * _NEAR + 1)
    surplus = np.convolve(counts[0] - counts[1], window, mode="same")
    value = int(surplus.argmax())
    share = float(surplus[value])
    return (value, share) if share >= _LEAST_SHARE else None


def _near(part: Grey, value: int) -> NDArray[np.bool_]:
    return (part >= max(0, value - _NEAR)) & (part <= min(255, value + _NEAR))


def _reach(surplus: NDArray[np.float64], step: int, least: float) -> int:
    """Return how many columns the letters go on, one blank between words allowed."""
    end = missed = 0
    for number in range(_MOST_STEPS):
        window = surplus[number * step : (number + 1) * step]
        if window.size == 0 or missed > _GAP_STEPS:
            break
        if float(window.mean()) >= least:
            end, missed = min((number + 1) * step, surplus.size), 0
        else:
            missed += 1
    return end
