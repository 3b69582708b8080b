"""Regions known without reading: outside the ultrasound image, and text areas of makers.

They add to what is read and never replace it (DEID 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Final

from pydantic import BaseModel

from pleura.anonymizer.burnedin.boxes import Box
from pleura.anonymizer.encoding import Element
from pleura.anonymizer.errors import RulesDamaged

_REGIONS: Final = 0x00186011
_EDGES: Final = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)  # x0, y0, x1, y1, inclusive


class MakerRegion(BaseModel, frozen=True, extra="forbid"):
    """Rectangles (x0, y0, x1, y1; end exclusive) a device of this size writes text in."""

    maker: str
    model: str
    rows: int
    columns: int
    boxes: tuple[tuple[int, int, int, int], ...]


class _Table(BaseModel, frozen=True, extra="forbid"):
    regions: tuple[MakerRegion, ...]


@lru_cache(maxsize=1)
def load_regions() -> tuple[MakerRegion, ...]:
    """Return the table of makers.

    Raises:
        RulesDamaged: the table of this installation cannot be read.
    """
    path = files("pleura.anonymizer") / "tables" / "regions.json"
    try:
        return _Table.model_validate_json(path.read_bytes()).regions
    except (OSError, ValueError) as exc:
        raise RulesDamaged("regions.json") from exc


def maker_boxes(
    maker: str, model: str, rows: int, columns: int, table: Sequence[MakerRegion] | None = None
) -> tuple[Box, ...]:
    """Return the rectangles a device of this maker, model and image size writes text in."""
    wanted = (maker.strip().casefold(), model.strip().casefold(), rows, columns)
    return tuple(
        Box(*box)
        for entry in (load_regions() if table is None else table)
        if (entry.maker.casefold(), entry.model.casefold(), entry.rows, entry.columns) == wanted
        for box in entry.boxes
    )


def ultrasound_boxes(
    elements: Sequence[Element], rows: int, columns: int, *, big_endian: bool = False
) -> tuple[Box, ...]:
    """Return what lies outside every ultrasound region (PS3.3 C.8.5.5), nothing without one."""
    order = "big" if big_endian else "little"
    inside: list[Box] = []
    for element in elements:
        for item in (element.items or ()) if element.tag == _REGIONS else ():
            values = {e.tag: bytes(e.value) for e in item if e.items is None}
            edges = [values.get(tag, b"") for tag in _EDGES]
            if any(len(edge) < 4 for edge in edges):
                continue
            x0, y0, x1, y1 = (
                int.from_bytes(e[:4], "big" if order == "big" else "little") for e in edges
            )
            box = Box(x0, y0, min(x1 + 1, columns), min(y1 + 1, rows))
            if 0 <= x0 < box.x1 and 0 <= y0 < box.y1:
                inside.append(box)
    return outside(inside, rows, columns) if inside else ()


def outside(inside: Sequence[Box], rows: int, columns: int) -> tuple[Box, ...]:
    """Return rectangles that cover exactly what no box of `inside` covers."""
    cuts = sorted({0, rows, *(b.y0 for b in inside), *(b.y1 for b in inside)})
    blank: list[Box] = []
    for top, bottom in pairwise(cuts):
        left = 0
        for box in sorted(b for b in inside if b.y0 <= top and b.y1 >= bottom):
            if box.x0 > left:
                blank.append(Box(left, top, box.x0, bottom))
            left = max(left, box.x1)
        if left < columns:
            blank.append(Box(left, top, columns, bottom))
    return tuple(blank)
