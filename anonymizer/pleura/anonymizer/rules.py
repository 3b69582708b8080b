"""The rule tables: PS3.15 Table E.1-1, the keep list and how options change a row.

The tables are data (`tables/*.json`, made by `tools/build_rules.py`); this module only reads
them and resolves a tag to one action. Pure: the same tag, VR and profile give the same action.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, Literal

from pydantic import BaseModel, ValidationError

from pleura.anonymizer.errors import RulesDamaged
from pleura.anonymizer.profile import Profile

Action = Literal["X", "Z", "D", "U", "K", "shift", "recurse", "vr"]
"""What happens to an element: PS3.15 letters, `shift` a date, `recurse` into kept items,
`vr` = no row, the rule of its value representation decides."""

# Compound codes depend on the type in the object's definition. It is not known here, so the
# dummy is taken where offered and the empty value else: never an error, never a leak.
_COMPOUND: Final[Mapping[str, Action]] = {
    "X": "X",
    "Z": "Z",
    "D": "D",
    "U": "U",
    "X/Z": "Z",
    "X/D": "D",
    "Z/D": "D",
    "X/Z/D": "D",
    "X/Z/U*": "recurse",
}
_DATE_VRS: Final = frozenset({"DA", "TM", "DT"})


class Row(BaseModel, frozen=True, extra="forbid"):
    """One row of the table; `options` maps an option column to C or K."""

    name: str
    basic: Literal["X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*"]
    options: dict[str, Literal["C", "K"]]
    edition: Literal["2024e", "2026c", "house"]


class Part15(BaseModel, frozen=True, extra="forbid"):
    """`tables/part15.json`."""

    edition: str
    source: str
    rows: dict[str, Row]
    house_groups: dict[str, Literal["X"]]


class Keep(BaseModel, frozen=True, extra="forbid"):
    """`tables/keep.json`: attributes without a row that may stay, and word lists."""

    keep: dict[str, list[str]]
    bulk: list[str]
    minimal_groups: list[str]
    defined_terms: list[str]
    identifying: list[str]


@dataclass(frozen=True, slots=True)
class Rules:
    """Both tables in the form the engine looks things up in."""

    rows: Mapping[int, Row]
    house_groups: frozenset[int]
    kept: frozenset[int]
    bulk: frozenset[int]
    minimal_groups: frozenset[int]
    defined_terms: frozenset[str]
    identifying: frozenset[int]
    edition: str
    digest: str

    def resolve(self, tag: int, vr: str, profile: Profile) -> Action:
        """Return the action for one element; a tag nobody lists is removed."""
        group = tag >> 16
        if group & 1 or group < 8 or tag & 0xFFFF == 0 or group in self.house_groups:
            return "X"
        if 0x5000 <= group <= 0x50FF or 0x6000 <= group <= 0x60FF:
            return "X"  # curves and overlays as a whole: Clean Graphics is never half-done
        row = self.rows.get(tag)
        if row is not None:
            return _resolve_row(row, vr, profile)
        if tag not in self.kept:
            return "X"
        if profile.keep == "minimal" and group not in self.minimal_groups:
            return "X"
        return "recurse" if vr == "SQ" else "vr"

    def retained(self, profile: Profile) -> frozenset[int]:
        """Return the tags an active option keeps as they are: no leak when they survive."""
        return _retained(self.digest, profile)


@lru_cache(maxsize=64)
def _retained(digest: str, profile: Profile) -> frozenset[int]:
    """Return the kept tags of the tables with `digest`, which are those of `load_rules`."""
    rows = load_rules().rows
    return frozenset(t for t, row in rows.items() if _resolve_row(row, "LO", profile) == "K")


def _resolve_row(row: Row, vr: str, profile: Profile) -> Action:
    """Return the action of a row: Clean beats Retain, then the basic code."""
    active = {row.options[name] for name in profile.options if name in row.options}
    if vr in _DATE_VRS and "modified_dates" in row.options:
        # A kept device does not keep its dates as they are: they move like all others.
        return "shift" if profile.dates == "shift" else _COMPOUND[row.basic]
    if "structured" in profile.options and row.options.get("structured") == "C":
        return "recurse" if vr == "SQ" else _COMPOUND[row.basic]
    if "C" in active:
        return _COMPOUND[row.basic]  # prose is not cleaned word by word yet: the strict code
    if "K" in active:
        return "recurse" if vr == "SQ" else "K"
    return _COMPOUND[row.basic]


def _read(name: str) -> bytes:
    return (files("pleura.anonymizer") / "tables" / name).read_bytes()


@cache
def load_rules() -> Rules:
    """Read the shipped tables once.

    Raises:
        RulesDamaged: a table is missing or has another shape.
    """
    try:
        raw = _read("part15.json"), _read("keep.json")
        part15 = Part15.model_validate(json.loads(raw[0]))
        keep = Keep.model_validate(json.loads(raw[1]))
    except (OSError, ValueError, ValidationError) as exc:
        raise RulesDamaged(type(exc).__name__) from None
    return Rules(
        rows={
            int(key, 16): row
            for key, row in part15.rows.items()
            if key != "PRIVATE" and "X" not in key
        },
        house_groups=frozenset(int(group, 16) for group in part15.house_groups),
        kept=frozenset(int(g + e, 16) for g, members in keep.keep.items() for e in members),
        bulk=frozenset(int(key, 16) for key in keep.bulk),
        minimal_groups=frozenset(int(group, 16) for group in keep.minimal_groups),
        defined_terms=frozenset(keep.defined_terms),
        identifying=frozenset(int(key, 16) for key in keep.identifying),
        edition=part15.edition,
        digest=hashlib.sha256(raw[0] + b"\0" + raw[1]).hexdigest(),
    )


def describe(tag: int) -> str:
    """Return `(0008,0050)`; private and unknown tags go by kind only, they may say more."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
