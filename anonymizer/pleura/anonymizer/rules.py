"""The rule tables: PS3.15 Table E.1-1, the keep list and how options change a row.

The tables are data (`tables/*.json`, made by `tools/build_rules.py`); this module only reads
them and resolves a tag to one action. Pure: the same tag, VR and profile give the same action.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, Literal

from pydantic import BaseModel, ValidationError

from pleura.anonymizer.errors import RulesDamaged
from pleura.anonymizer.iod import AttributeType
from pleura.anonymizer.profile import Profile

Action = Literal["X", "Z", "D", "U", "K", "C", "shift", "recurse", "vr"]
"""What happens to an element: PS3.15 letters (`C`: words cleaned),
`shift` a date, `recurse` into kept items,
`vr` = no row, the rule of its value representation decides."""

# Where the object's definition does not tell the type, the dummy is taken where offered and the
# empty value else: never an error, never a leak.
_UNTYPED: Final[Mapping[str, Action]] = {
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
_TYPED: Final[Mapping[AttributeType, Action]] = {
    "1": "D", "1C": "D", "2": "Z", "2C": "Z", "3": "X",
}  # fmt: skip
_DATE_VRS: Final = frozenset({"DA", "TM", "DT"})
Question = tuple[int, str, AttributeType | None]
"""Tag, VR and, for compound codes only, type."""
_TABLES: Final = ("part15.json", "keep.json", "vocab.txt", "names.txt")
PROSE_VRS: Final = frozenset({"LO", "SH", "UC", "LT", "ST", "UT"})
PIXEL_GROUP: Final = 0x7FE0
_OFFSET_TABLES: Final = frozenset({0x7FE00001, 0x7FE00002})


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
    compound: frozenset[int]

    def resolve(
        self, tag: int, vr: str, profile: Profile, kind: AttributeType | None = None
    ) -> Action:
        """Return the action for one element; a tag nobody lists is removed.

        `kind`: its type in the object's definition, which settles compound codes.
        """
        group = tag >> 16
        if group & 1 or group < 8 or tag & 0xFFFF == 0 or group in self.house_groups:
            return "X"
        if 0x5000 <= group <= 0x50FF or 0x6000 <= group <= 0x60FF:
            return "X"  # curves and overlays as a whole: Clean Graphics is never half-done
        row = self.rows.get(tag)
        is_ours = row is None or row.edition == "house"
        if is_ours and profile.keep == "minimal" and group not in self.minimal_groups:
            return "X"
        if row is not None:
            return _resolve_row(row, vr, profile, kind)
        if tag not in self.kept:
            return "X"
        return "recurse" if vr == "SQ" else "vr"

    def basic(self, tag: int, kind: AttributeType | None) -> Action:
        """Return the action of the table without options on a listed attribute.

        It is what is left to do where cleaning leaves no word or a date is none.
        """
        return settle(self.rows[tag].basic, kind)

    def decisions(self, profile: Profile) -> dict[Question, Action]:
        """Return the store of actions already found for listed attributes under a profile."""
        return _decisions(self.digest, profile)

    def decide(
        self,
        tag: int,
        vr: str,
        profile: Profile,
        known: dict[Question, Action],
        kind: AttributeType | None = None,
    ) -> Action:
        """Return `resolve`, from the store where it holds the answer.

        Only attributes of the tables get into the store, so no file can make it grow.
        """
        action = known.get((tag, vr, kind))
        if action is None:
            action = self.resolve(tag, vr, profile, kind)
            if tag in self.rows or tag in self.kept:
                known[(tag, vr, kind)] = action
        return action

    def retained(self, profile: Profile) -> frozenset[int]:
        """Return the tags an active option keeps as they are: no leak when they survive."""
        return _retained(self.digest, profile)


@lru_cache(maxsize=64)
def _decisions(digest: str, profile: Profile) -> dict[Question, Action]:
    """Return one store a pair of tables and profile."""
    return {}


@lru_cache(maxsize=64)
def _retained(digest: str, profile: Profile) -> frozenset[int]:
    """Return the kept tags of the tables with `digest`, which are those of `load_rules`."""
    rows = load_rules().rows
    return frozenset(t for t, row in rows.items() if _resolve_row(row, "LO", profile) == "K")


def settle(code: str, kind: AttributeType | None) -> Action:
    """Return what a code of the table means for an attribute of one type (DEID 2).

    Type 1 gets a dummy, type 2 stays empty, type 3 goes. Where the code does not offer removal
    (Z/D), the empty value is the most that goes.
    """
    if kind is None or code not in ("X/Z", "X/D", "Z/D", "X/Z/D"):
        return _UNTYPED[code]
    action = _TYPED[kind]
    return "Z" if action == "X" and "X" not in code else action


def _resolve_row(row: Row, vr: str, profile: Profile, kind: AttributeType | None = None) -> Action:
    """Return the action of a row: Clean beats Retain, then the basic code."""
    active = {row.options[name] for name in profile.options if name in row.options}
    if vr in _DATE_VRS and "modified_dates" in row.options:
        # A kept device does not keep its dates as they are: they move like all others.
        is_moved = profile.dates == "shift" or (profile.year_only and vr != "TM")
        return "shift" if is_moved else settle(row.basic, kind)
    if "structured" in profile.options and row.options.get("structured") == "C":
        return "recurse" if vr == "SQ" else settle(row.basic, kind)
    if "C" in active:
        is_prose = "descriptors" in profile.options and row.options.get("descriptors") == "C"
        return "C" if is_prose and vr in PROSE_VRS else settle(row.basic, kind)
    if "K" in active:
        return "recurse" if vr == "SQ" else "K"
    return settle(row.basic, kind)


def _read(name: str) -> bytes:
    return (files("pleura.anonymizer") / "tables" / name).read_bytes()


@cache
def load_rules() -> Rules:
    """Read the shipped tables once.

    Raises:
        RulesDamaged: a table is missing or has another shape.
    """
    try:
        raw = tuple(_read(n) for n in _TABLES)
        part15 = Part15.model_validate(json.loads(raw[0]))
        keep = Keep.model_validate(json.loads(raw[1]))
    except (OSError, ValueError, ValidationError) as exc:
        raise RulesDamaged(type(exc).__name__) from None
    rows = {
        int(key, 16): row for key, row in part15.rows.items() if key != "PRIVATE" and "X" not in key
    }
    return Rules(
        rows=rows,
        house_groups=frozenset(int(group, 16) for group in part15.house_groups),
        kept=frozenset(int(g + e, 16) for g, members in keep.keep.items() for e in members),
        bulk=frozenset(int(key, 16) for key in keep.bulk),
        minimal_groups=frozenset(int(group, 16) for group in keep.minimal_groups),
        defined_terms=frozenset(keep.defined_terms),
        identifying=frozenset(int(key, 16) for key in keep.identifying),
        edition=part15.edition,
        digest=hashlib.sha256(b"\0".join(raw)).hexdigest(),
        compound=frozenset(tag for tag, row in rows.items() if "/" in row.basic),
    )


def is_misplaced(tag: int, path: Sequence[int], *, is_encapsulated: bool) -> bool:
    """Return whether an element of the pixel group is where PS3.3 has none, so that it goes.

    Nobody reads pictures inside sequences: the one lawful place there is an Icon Image Sequence,
    and its row removes it. Offset tables without encapsulated pixel data say nothing.

    `path`: the sequences around it; `is_encapsulated`: whether the top level's pixel data is.
    """
    if tag >> 16 != PIXEL_GROUP:
        return False
    return bool(path) or (tag in _OFFSET_TABLES and not is_encapsulated)


def describe(tag: int) -> str:
    """Return `(0008,0050)`; private and unknown tags go by kind only, they may say more."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
