"""Boxes: rectangles of whole pixels, end exclusive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """Columns x0..x1 and rows y0..y1, in pixels; x1 and y1 lie outside."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Columns."""
        return max(0, self.x1 - self.x0)

    @property
    def height(self) -> int:
        """Rows."""
        return max(0, self.y1 - self.y0)

    @property
    def area(self) -> int:
        """Pixels."""
        return self.width * self.height

    def moved(self, x: int, y: int) -> Box:
        """Return the box shifted by x columns and y rows."""
        return Box(self.x0 + x, self.y0 + y, self.x1 + x, self.y1 + y)

    def grown(self, x: int, y: int, shape: tuple[int, ...]) -> Box:
        """Return the box with a margin, cut at the edges of an image of this shape."""
        return Box(
            max(0, self.x0 - x), max(0, self.y0 - y),
            min(shape[1], self.x1 + x), min(shape[0], self.y1 + y),
        )  # fmt: skip

    def shared(self, other: Box) -> int:
        """Return the number of pixels both boxes hold."""
        wide = min(self.x1, other.x1) - max(self.x0, other.x0)
        high = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(0, wide) * max(0, high)

    def slices(self) -> tuple[slice, slice]:
        """Return the index of the box in an array of rows and columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def around(boxes: Iterable[Box]) -> Box:
    """Return the smallest box around all boxes (at least one)."""
    given = list(boxes)
    return Box(
        min(b.x0 for b in given), min(b.y0 for b in given),
        max(b.x1 for b in given), max(b.y1 for b in given),
    )  # fmt: skip
