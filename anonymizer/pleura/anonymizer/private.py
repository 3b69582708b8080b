"""Retain Safe Private Option (PS3.15 E.3.10): which private elements of a data set may stay.

An element stays only if the table lists its creator, group and offset, its creator is in the
same data set, and its value is what the table's VR and multiplicity allow. Everything else is
removed, nested or not. The rows of Table E.3.10-1 that are sequences, bulk data, free text, UIDs
or absolute times are not in the table, so none of those is ever kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from pydantic import BaseModel, Field, ValidationError

from pleura.anonymizer.characters import hold_seed
from pleura.anonymizer.errors import RulesDamaged
from pleura.anonymizer.numbers import WIDTHS, NumberSeeds
from pleura.anonymizer.text import Seeds, decode_text, has_pattern
from pleura.anonymizer.wire import Element

_PLAIN_RUN: Final = re.compile(rb"[0-9A-Za-z]{4,}")
_LAWFUL: Final[Mapping[str, re.Pattern[str]]] = {
    "DS": re.compile(r" *[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)? *"),
    "IS": re.compile(r" *[+-]?\d{1,11} *"),
    "CS": re.compile(r" *[A-Z0-9_ ]{0,16} *"),
    "SH": re.compile(r"[^\\\x00-\x1f]{0,16}"),
    "LO": re.compile(r"[^\\\x00-\x1f]{0,64}"),
}


class SafeRow(BaseModel, frozen=True, extra="forbid"):
    """One safe attribute; `vm` is the multiplicity PS3.6 writes as `1`, `1-n` or `3-4`."""

    creator: str = Field(min_length=1, max_length=64)
    group: str = Field(pattern=r"^[0-9A-F]{3}[13579BDF]$")
    element: str = Field(pattern=r"^[0-9A-F]{2}$")
    vr: Literal["DS", "IS", "CS", "SH", "LO", "SS", "US", "SL", "UL", "FL", "FD"]
    vm: str = Field(pattern=r"^\d+(-(\d+|n))?$")
    name: str

    def allows(self, count: int) -> bool:
        """Return whether so many values are lawful."""
        low, _, high = self.vm.partition("-")
        return int(low) <= count and (high == "n" or count <= int(high or low))


class SafePrivate(BaseModel, frozen=True, extra="forbid"):
    """`tables/private_safe.json`."""

    source: str
    rows: list[SafeRow]


@cache
def load_safe_rows() -> Mapping[tuple[str, int, int], SafeRow]:
    """Return the rows by creator, group and element offset.

    Raises:
        RulesDamaged: the table is missing or has another shape.
    """
    try:
        raw = (files("pleura.anonymizer") / "tables" / "private_safe.json").read_bytes()
        table = SafePrivate.model_validate(json.loads(raw))
    except (OSError, ValueError, ValidationError) as exc:
        raise RulesDamaged(type(exc).__name__) from None
    return {(row.creator, int(row.group, 16), int(row.element, 16)): row for row in table.rows}


def safe_rows_of(elements: Sequence[Element]) -> dict[int, SafeRow]:
    """Return tag -> row of the listed private elements of one data set or item.

    Raises:
        RulesDamaged: the table is missing or damaged.
    """
    rows = load_safe_rows()
    creators = _creators(elements)
    found = {}
    for element in elements:
        group, number = element.tag >> 16, element.tag & 0xFFFF
        creator = creators.get((group, number >> 8))
        row = rows.get((creator, group, number & 0xFF)) if creator and group & 1 else None
        if row is not None:
            found[element.tag] = row
    return found


def safe_private(
    elements: Sequence[Element], seeds: Seeds, character_sets: Sequence[str]
) -> list[Element]:
    """Return the private elements of one data set or item that stay, with their creators.

    Each gets the VR of the table (the file may say UN). One whose value does not parse, has a
    seed or looks like an identifier goes. Ascending order of tag, each tag once.

    Raises:
        RulesDamaged: the table is missing or damaged.
    """
    rows = safe_rows_of(elements)
    kept: dict[int, Element] = {}
    numbers = NumberSeeds(seeds)
    for element in elements:
        row = rows.get(element.tag)
        if row is None or element.tag in kept:
            continue
        if not _is_clean(element, row, seeds, numbers, character_sets):
            continue
        kept[element.tag] = Element(element.tag, row.vr, bytes(element.value))
        block = element.tag & 0xFFFF0000 | (element.tag >> 8 & 0xFF)
        kept[block] = Element(block, "LO", row.creator.encode("ascii"))
    return [kept[tag] for tag in sorted(kept)]


def _creators(elements: Sequence[Element]) -> dict[tuple[int, int], str]:
    """Return (group, block) -> creator (PS3.5 7.8.1); of two claims on a block none counts."""
    creators: dict[tuple[int, int], str] = {}
    for element in elements:
        group, number = element.tag >> 16, element.tag & 0xFFFF
        if group & 1 and 0x10 <= number <= 0xFF and element.items is None:
            name = bytes(element.value).decode("latin-1").strip(" \0")
            creators[group, number] = "" if (group, number) in creators else name
    return creators


def _is_clean(
    element: Element,
    row: SafeRow,
    seeds: Seeds,
    numbers: NumberSeeds,
    character_sets: Sequence[str],
) -> bool:
    if element.items is not None or element.vr not in (row.vr, "UN"):
        return False
    raw = bytes(element.value)
    width = WIDTHS.get(row.vr)
    if width is not None:
        if len(raw) % width or not row.allows(len(raw) // width):
            return False
        return not (
            any(seeds.found_in(run.decode("ascii")) for run in _PLAIN_RUN.findall(raw))
            or numbers.in_binary(element.tag, row.vr, raw)
            or hold_seed(raw, seeds, numbers.foreign)
        )
    text = decode_text(raw, character_sets, row.vr)
    if text is None:
        return False
    text = text.rstrip("\0")
    parts = text.split("\\")
    if not row.allows(len(parts)) or not all(_LAWFUL[row.vr].fullmatch(p) for p in parts):
        return False
    if row.vr in ("DS", "IS"):
        return not numbers.in_text(element.tag, text.encode("ascii"))
    return not any(seeds.found_in(part) or has_pattern(part) for part in parts)
