"""Strokes: how far a line of text goes on beyond what the reader saw of it.

A device writes its letters in one grey. That grey is what the box holds far more of than the
rows above and below; where it goes on along the line, so does the text. A line that nobody can
read is told by it as well: letters of an unknown script are drawn in the lightest or darkest
grey of the picture, with sharp edges, and anatomy is not. Pure.
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
_DRAWN_ASPECT: Final = 3.0
_DRAWN_SHARES: Final = (0.05, 0.5)  # of the box
_DRAWN_BESIDE: Final = 0.02  # of the rows above and below
_DRAWN_NEAR: Final = 4  # greys from the end of the range
_DRAWN_JUMP: Final = 30  # greys from a letter to its ground
_DRAWN_EDGES: Final = 1.0  # a row, on a length of one height
_DRAWN_COLUMNS: Final = 0.35


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


def is_drawn(grey: Grey, box: Box) -> bool:
    """Return whether a line looks like letters drawn into the picture, whatever they say."""
    if box.height > box.width:
        return is_drawn(np.ascontiguousarray(grey.T), Box(box.y0, box.x0, box.y1, box.x1))
    box = box.grown(0, 0, grey.shape)
    if box.height < 6 or box.width < _DRAWN_ASPECT * box.height:
        return False
    inside = grey[box.slices()]
    rows = (slice(max(0, box.y0 - box.height), box.y0), slice(box.y1, box.y1 + box.height))
    beside = np.concatenate([grey[part, box.x0 : box.x1] for part in rows])
    return any(_is_ink(inside, beside, value) for value in (0, 255))


def _is_ink(inside: Grey, beside: Grey, value: int) -> bool:
    """Return whether the lightest or darkest grey makes letters in a line, and none beside it."""
    ink = _near(inside, value, _DRAWN_NEAR)
    edges = ink[:, 1:] != ink[:, :-1]
    least, most = _DRAWN_SHARES
    if not least <= ink.mean() <= most or edges.sum() < _DRAWN_EDGES * inside.shape[1]:
        return False
    jumps = np.abs(np.diff(inside.astype(np.int16), axis=1))[edges]
    around_it = _near(beside, value, _DRAWN_NEAR)
    return bool(
        np.median(jumps) >= _DRAWN_JUMP
        and ink.any(axis=0).mean() >= _DRAWN_COLUMNS
        and (beside.size == 0 or around_it.mean() <= _DRAWN_BESIDE)
    )


def _letters(inside: Grey, beside: Grey) -> tuple[int, float] | None:
    """Return the grey of the letters and their share of the box, None where none stands out."""
    counts = [np.bincount(part.ravel(), minlength=256) / part.size for part in (inside, beside)]
    window = np.ones(2 * _NEAR + 1)
    surplus = np.convolve(counts[0] - counts[1], window, mode="same")
    value = int(surplus.argmax())
    share = float(surplus[value])
    return (value, share) if share >= _LEAST_SHARE else None


def _near(part: Grey, value: int, near: int = _NEAR) -> NDArray[np.bool_]:
    return (part >= max(0, value - near)) & (part <= min(255, value + near))


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
