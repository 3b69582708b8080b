"""Slants: lines of text that lie at an angle, seen level in a strip of their own.

In the strip a line is an upright box like any other; what it covers comes back to the picture
as a chain of small boxes, because one box round a slanted line would hide far more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pleura.anonymizer.burnedin.boxes import Box
from pleura.anonymizer.burnedin.view import Grey

_LEAST_DEGREES: Final = 2.0
_LEAST_LENGTH: Final = 2.0  # of the height
_RISE: Final = 1.4  # a box round the line is so many times as high as the line: it is no level one
_REACH: Final = 6  # heights beyond each end
_BESIDE: Final = 2  # heights above and below


@dataclass(frozen=True, slots=True)
class Slant:
    """A line by its middle, its length and height in pixels, and its angle in radians."""

    x: float
    y: float
    length: float
    height: float
    angle: float

    def moved(self, x: int, y: int) -> Slant:
        """Return the line shifted by x columns and y rows."""
        return replace(self, x=self.x + x, y=self.y + y)

    def holds(self, x: float, y: float) -> bool:
        """Return whether a point lies on the line."""
        along, over = self._axes()
        apart = np.array([x - self.x, y - self.y])
        on_line = abs(float(apart @ along)) <= self.length / 2
        return on_line and abs(float(apart @ over)) <= self.height / 2

    def strip_box(self) -> Box:
        """Return where the line lies in its strip."""
        high, wide = max(1, round(self.height)), max(1, round(self.length))
        left, top = _REACH * high, _BESIDE * high
        return Box(left, top, left + wide, top + high)

    def strip(self, cv2: Any, grey: Grey) -> Grey:
        """Return the picture round the line, turned until the line is level."""
        box = self.strip_box()
        size = (box.x1 + box.x0, box.y1 + box.y0)
        level: Grey = cv2.warpAffine(
            grey, self._to_picture(), size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        return level

    def chain(self, box: Box, shape: tuple[int, ...]) -> tuple[Box, ...]:
        """Return small boxes of the picture that cover a box of the strip together."""
        count = max(1, round(box.width / max(1, box.height)))
        edges = np.linspace(box.x0, box.x1, count + 1)
        back = self._to_picture()
        links = []
        for start, end in pairwise(edges):
            corners = np.array([(x, y, 1.0) for x in (start, end) for y in (box.y0, box.y1)])
            points = corners @ back.T
            low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
            link = Box(int(low[0]), int(low[1]), int(high[0]), int(high[1])).grown(0, 0, shape)
            if link.area:
                links.append(link)
        return tuple(links)

    def _axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return np.array([cosine, sine]), np.array([-sine, cosine])

    def _to_picture(self) -> NDArray[np.float64]:
        box = self.strip_box()
        along, over = self._axes()
        middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
        turn = np.stack([along, over], axis=1)
        start = np.array([self.x, self.y]) - turn @ middle
        return np.concatenate([turn, start[:, None]], axis=1)


def slant_of(cv2: Any, quad: NDArray[np.float32]) -> Slant | None:
    """Return the line in four corners, or None where an upright box round them fits it."""
    (x, y), (wide, high), degrees = cv2.minAreaRect(np.asarray(quad, np.float32))
    if wide < high:
        wide, high, degrees = high, wide, degrees + 90
    degrees = (degrees + 90) % 180 - 90
    low = float(np.ptp(quad, axis=0).min())
    is_level = abs((degrees + 45) % 90 - 45) < _LEAST_DEGREES or low < _RISE * high
    if is_level or wide < _LEAST_LENGTH * high:
        return None
    return Slant(float(x), float(y), float(wide), float(high), float(np.radians(degrees)))


def distinct(slants: list[Slant]) -> list[Slant]:
    """Return the largest of the lines that lie on one another."""
    kept: list[Slant] = []
    for slant in sorted(slants, key=lambda s: -s.length * s.height):
        if not any(other.holds(slant.x, slant.y) for other in kept):
            kept.append(slant)
    return kept
