"""Tints: what the colours of a picture show that its grey view does not.

Two colours of one grey differ in red or in blue, each taken without the brightness: a colour
picture has these two views more. Each holds the edges that no other view shows as well, and is
read round these only: what is legible in grey, the tint of a whole picture and slow changes of
colour cost nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pleura.anonymizer.burnedin.boxes import Box, around
from pleura.anonymizer.burnedin.view import (
    LUMA,
    Frame,
    Grey,
    Values,
    brightness,
    colours_of,
    grey_view,
    stretched,
)

_RANGE: Final = ((0, 179.0), (2, 226.0))  # channel, and how far it may lie from the brightness
_NO_COLOUR: Final = 128
_LEAST: Final = 24  # levels of 255: less is noise of compression
_LEGIBLE_GREY: Final = 64
_OUTWEIGHED: Final = 0.5
_STEP_PX: Final = 3  # an edge of colours stored at half the size is so wide
_CELL_PX: Final = 16
_CELL_EDGES: Final = 10
_ROUND_PX: Final = 48
_MOST_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True)
class Tint:
    """One colour less the brightness, and where it has an edge that no other view shows."""

    view: Grey
    edges: NDArray[np.bool_]

    def places(self, areas: Sequence[Box]) -> list[Box]:
        """Return where within some areas this view has to be read."""
        places = [
            place.moved(area.x0, area.y0)
            for area in areas
            for place in _joined(_rounds(self.edges[area.slices()]))
        ]
        is_most = sum(p.area for p in places) > _MOST_SHARE * sum(a.area for a in areas)
        return list(areas) if is_most else places


@dataclass(frozen=True, slots=True)
class Views:
    """Every view of a frame; one without colours has no tints."""

    grey: Grey
    tints: tuple[Tint, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.grey.shape

    @property
    def pictures(self) -> tuple[Grey, ...]:
        """The grey view first, then the tints."""
        return (self.grey, *(tint.view for tint in self.tints))


class Sheets:
    """Working copies of the views of one frame: what is found in one is blacked out in all."""

    def __init__(self, views: Views) -> None:
        self._grey = views.grey.copy()
        self._tints = [Tint(tint.view.copy(), tint.edges.copy()) for tint in views.tints]

    def blacken(self, boxes: Sequence[Box]) -> None:
        """Fill boxes with black, which in a tint is no colour."""
        for box in boxes:
            self._grey[box.slices()] = 0
            for tint in self._tints:
                tint.view[box.slices()] = _NO_COLOUR
        self.pass_over(boxes)

    def pass_over(self, boxes: Sequence[Box]) -> None:
        """Let nothing within boxes be a reason to read a tint."""
        for tint in self._tints:
            for box in boxes:
                tint.edges[box.slices()] = False

    def to_read(self, areas: Sequence[Box]) -> Iterator[tuple[Grey, list[Box]]]:
        """Yield each view and where within some areas it has to be read, seen as it is then."""
        yield self._grey, list(areas)
        for tint in self._tints:
            if places := tint.places(areas):
                yield tint.view, places


def views_of(frame: Frame, photometric: str) -> Views:
    """Return the views of a decoded frame."""
    if frame.ndim != 3:
        return Views(grey_view(frame, photometric))
    colours = colours_of(frame, photometric)
    shown = brightness(colours)
    return Views(stretched(shown), _tints(colours, shown))


def _tints(colours: Values, shown: Values) -> tuple[Tint, ...]:
    if not _is_coloured(colours):
        return ()
    luma = colours @ LUMA
    values = [(colours[..., channel] - luma) for channel, _ in _RANGE]
    edges = [_edges(v) for v in values]
    strongest = np.maximum(*edges)
    grey = _widened(_edges(shown))
    is_hidden = (grey < _LEGIBLE_GREY) | (grey < _OUTWEIGHED * strongest)
    is_edge = (strongest >= _LEAST) & is_hidden
    return tuple(
        Tint(_toned(v, reach), is_edge & (e >= strongest))
        for v, e, (_, reach) in zip(values, edges, _RANGE, strict=True)
    )


def _is_coloured(colours: Values) -> bool:
    red, green, blue = (colours[..., channel] for channel in range(3))
    return any(float(np.abs(other - green).max()) >= _LEAST / 2 for other in (red, blue))


def _toned(values: Values, reach: float) -> Grey:
    view: Grey = np.clip(_NO_COLOUR + values * (127 / reach), 0, 255).astype(np.uint8)
    return view


def _edges(values: Values) -> Values:
    """Return how much each value differs from those a step to the left and above."""
    out: Values = np.zeros_like(values)
    out[:, _STEP_PX:] = np.abs(values[:, _STEP_PX:] - values[:, :-_STEP_PX])
    out[_STEP_PX:] = np.maximum(out[_STEP_PX:], np.abs(values[_STEP_PX:] - values[:-_STEP_PX]))
    return out


def _widened(values: Values) -> Values:
    """Return the largest of each value and its neighbours."""
    for axis in (0, 1):
        edge = [(1, 1) if a == axis else (0, 0) for a in (0, 1)]
        wide, length = np.pad(values, edge, mode="edge"), values.shape[axis]
        parts = [np.take(wide, range(i, i + length), axis=axis) for i in range(3)]
        values = np.maximum(np.maximum(parts[0], parts[1]), parts[2])
    return values


def _rounds(edges: NDArray[np.bool_]) -> list[Box]:
    """Return boxes round the cells of the picture that hold enough edges, a row of cells each."""
    rows, columns = edges.shape
    down, across = (-(-side // _CELL_PX) for side in (rows, columns))
    whole = np.zeros((down * _CELL_PX, across * _CELL_PX), np.bool_)
    whole[:rows, :columns] = edges
    counts = whole.reshape(down, _CELL_PX, across, _CELL_PX).sum(axis=(1, 3))
    boxes: list[Box] = []
    for row, column in np.argwhere(counts >= _CELL_EDGES).tolist():
        x, y = column * _CELL_PX, row * _CELL_PX
        box = Box(x, y, x + _CELL_PX, y + _CELL_PX).grown(_ROUND_PX, _ROUND_PX, edges.shape)
        if boxes and boxes[-1].y0 == box.y0 and boxes[-1].x1 >= box.x0:
            box = around([boxes.pop(), box])
        boxes.append(box)
    return boxes


def _joined(boxes: Sequence[Box]) -> list[Box]:
    """Return boxes that share no pixel, together round the given ones."""
    joined: list[Box] = []
    for box in boxes:
        while near := [other for other in joined if box.shared(other)]:
            joined = [other for other in joined if other not in near]
            box = around([box, *near])
        joined.append(box)
    return joined
