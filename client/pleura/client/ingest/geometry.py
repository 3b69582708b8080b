"""Geometry: where a slice lies, and which files of a study form one stack in order.

Read once at ingest from the de-identified file and kept in the catalog, so the
trainer never has to open a file to know its place. Order is anatomical, along
the normal of the image plane; instance numbers and file names are not trusted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import pydicom

_TAGS = [
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "InstanceNumber",
    "Manufacturer",
    "NumberOfFrames",
]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Place of one object. `position_mm` runs along the plane's normal."""

    position_mm: float | None = None
    orientation: str = ""  # six direction cosines with two decimals, or empty
    instance_number: int | None = None
    frames: int = 1
    manufacturer: str = ""


class Placed(Protocol):
    """A catalog row that can be put in anatomical order."""

    @property
    def sop_uid(self) -> str: ...
    @property
    def series_uid(self) -> str: ...
    @property
    def geometry(self) -> Geometry: ...


P = TypeVar("P", bound=Placed)


def read_geometry(path: Path) -> Geometry:
    """Return the place of a de-identified file; pixels are not read.

    Malformed or absent values become None or empty: such a slice joins no stack.
    """
    ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    orientation = _numbers(ds, "ImageOrientationPatient", 6)
    position = _numbers(ds, "ImagePositionPatient", 3)
    number = _numbers(ds, "InstanceNumber", 1)
    frames = _numbers(ds, "NumberOfFrames", 1)
    along = None
    if orientation is not None and position is not None:
        along = _along_normal(orientation, position)
    return Geometry(
        position_mm=along,
        orientation="" if orientation is None else _rounded(orientation),
        instance_number=None if number is None else int(number[0]),
        frames=1 if frames is None else max(1, int(frames[0])),
        manufacturer=str(ds.get("Manufacturer") or "")[:64],
    )


def pick_stack(rows: Sequence[P]) -> tuple[P, ...]:
    """Return the largest stack of one study in anatomical order, feet to head.

    A stack is the slices of one series in one plane; scouts and reformats lie in
    another series or plane and lose by count. Ties go to the smaller series UID.
    At equal positions the first instance wins, so one anatomy is there once. A
    single file (multi-frame, or one slice) needs no position. Returns an empty
    tuple when several files have no known place.
    """
    groups: dict[tuple[str, str], list[P]] = defaultdict(list)
    for row in rows:
        if row.geometry.position_mm is not None:
            groups[row.series_uid, row.geometry.orientation].append(row)
    if not groups:
        return tuple(rows) if len(rows) == 1 else ()
    stacks = [(key, _in_order(group)) for key, group in groups.items()]
    return min(stacks, key=lambda item: (-len(item[1]), item[0]))[1]


def _in_order(rows: Sequence[P]) -> tuple[P, ...]:
    placed: dict[float, P] = {}
    for row in sorted(rows, key=_place):
        placed.setdefault(_position(row), row)
    return tuple(placed[position] for position in sorted(placed))


def _position(row: Placed) -> float:
    return round(row.geometry.position_mm or 0.0, 3)


def _place(row: Placed) -> tuple[float, int, str]:
    return (_position(row), row.geometry.instance_number or 0, row.sop_uid)


def _along_normal(cosines: Sequence[float], point: Sequence[float]) -> float | None:
    """Project a point on the plane's normal (PS3.3 C.7.6.2.1.1)."""
    rx, ry, rz, cx, cy, cz = cosines
    normal = (ry * cz - rz * cy, rz * cx - rx * cz, rx * cy - ry * cx)
    length = math.hypot(*normal)
    if not 0.9 <= length <= 1.1:
        return None
    return sum(n * p for n, p in zip(normal, point, strict=True)) / length


def _rounded(cosines: Sequence[float]) -> str:
    return "\\".join(f"{round(value, 2) + 0.0:.2f}" for value in cosines)


def _numbers(ds: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    try:
        value = ds.get(keyword)
        if value is None:
            return None
        items = [value] if count == 1 else list(value)
        numbers = tuple(float(item) for item in items)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None
