"""Judging: what one output shows of its source, noted in the tally of the ten scores.

No truth is at hand, only two files, the marks in the output and the rule tables, so each score
asks what these can answer:

- `tag_retained`: attributes at the top that the object's definition wants there (types 1, 2) or
  that Table E.1-1 empties, maps or fills with a dummy (Z, U, D), and that the source has.
- `text_notnull`: of these, what has to have a value (type 1; D, U) and had one.
- `text_retained`: values at the top that no rule touches (no row in the table, types 1 to 2C) or
  that an option in the marks keeps. Not asked of a value that names the patient, nor of the
  image attributes of a picture that something was blacked out of. Which words of prose are
  harmless cannot be known, so none is asked for.
- `text_removed`: every word, number and identifier of the source's own names, IDs, addresses and
  dates that its texts show. Names that stand only in prose cannot be known.
- `date_shifted`: every date at any depth; it is gone or another, and where dates are shifted it
  moved as most of its patient's. A year alone, a dummy, and the first of January where the year
  stays, look the same before and after and are not asked.
- `uid_changed`, `uid_consistent`: every UID at any depth that is neither the standard's nor kept
  by an option; old and new belong to each other alone in all pairs.
- `patid_consistent`: as much of PatientID (the study, where there is none), and it is not the old.
- `pixels_retained`: pictures; equal but for what was blacked out. `matching` compares them.
- `pixels_hidden`: which text stood where cannot be known, so nothing is required.

Leaks are told apart from the scores: attributes the rules take away that came through unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pleura.anonymizer.iod import AttributeType, attribute_type
from pleura.anonymizer.leaves import Leaf, Step
from pleura.anonymizer.matching import Match
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.pseudonyms import clean_patient_id, patient_value
from pleura.anonymizer.residues import (
    DUMMY_TEXT,
    READ_VRS,
    Expectation,
    collect,
    tokens_left,
)
from pleura.anonymizer.rules import Rules, load_rules
from pleura.anonymizer.scoring import (
    AUTHORED,
    DUMMY_DAY,
    OBJECT_UIDS,
    STANDARD_UIDS,
    Tally,
    day_of,
    must_be_same,
    must_be_there,
    must_have_value,
)

_PATIENT_ID, _STUDY, _SOP_CLASS = 0x00100020, 0x0020000D, 0x00080016
_IMAGE_GROUP: Final = 0x0028
_TAKEN: Final = frozenset({"X", "Z", "D", "U", "shift"})
_TAKEN_VRS: Final = frozenset({"PN", "UR", "AE"})  # of what has no row
_DUMMIES: Final = frozenset({"", DUMMY_TEXT, DUMMY_DAY, f"{DUMMY_DAY}000000", "000000", "000Y"})
_OLDEST_AGE: Final = "089Y"

Place = tuple[tuple[Step, ...], int]


@dataclass(frozen=True, slots=True)
class Leaks:
    """What came through: unchanged attributes at the top and nested, and words of the source."""

    top: int = 0
    nested: int = 0
    words: int = 0


@dataclass(frozen=True, slots=True)
class Sides:
    """A pair as `elements_of` reads it, and what the output's marks claim."""

    before: Sequence[Leaf]
    after: Sequence[Leaf]
    profile: Profile
    expected: Expectation
    rules: Rules = field(default_factory=load_rules)


def judge(sides: Sides, pixels: Match, tally: Tally) -> Leaks:
    """Note in `tally` what a pair shows, and return what leaked.

    Raises:
        RulesDamaged: a table is missing or damaged.
    """
    return _Judgement(sides, pixels, tally).leaks()


class _Judgement:
    """One pair."""

    def __init__(self, sides: Sides, pixels: Match, tally: Tally) -> None:
        self._sides, self._tally, self._pixels = sides, tally, pixels
        self._out: Mapping[Place, Leaf] = {(leaf.path, leaf.tag): leaf for leaf in sides.after}
        self._sop_class = _top(sides.before, _SOP_CLASS)
        self._residues = collect(sides.before, sides.expected)
        self._known = sides.rules.decisions(sides.profile)

    def leaks(self) -> Leaks:
        top = nested = 0
        for leaf in self._sides.before:
            group = leaf.tag >> 16
            if group & 1 or group == 2 or leaf.tag & 0xFFFF == 0 or leaf.tag in AUTHORED:
                continue
            out = self._out.get((leaf.path, leaf.tag))
            if not leaf.path:
                self._note_retained(leaf, out)
            if leaf.vr == "UI":
                self._note_uids(leaf, out)
            elif leaf.vr in ("DA", "DT"):
                self._note_date(leaf, out)
            if self._is_leak(leaf, out):
                nested, top = nested + bool(leaf.path), top + (not leaf.path)
        self._note_patient()
        if self._pixels.outcome not in ("none", "undecodable"):
            self._tally.note("pixels_retained", self._pixels.outcome != "changed")
        return Leaks(top, nested, self._note_words())

    def _action(self, leaf: Leaf) -> str:
        rules, profile = self._sides.rules, self._sides.profile
        return rules.decide(leaf.tag, leaf.vr, profile, self._known)

    def _note_retained(self, leaf: Leaf, out: Leaf | None) -> None:
        kind = attribute_type(self._sop_class, (), leaf.tag)
        row = self._sides.rules.rows.get(leaf.tag)
        basic, is_filled = row.basic if row else "", not _is_empty(leaf)
        if must_be_there(kind, basic):
            self._tally.note("tag_retained", out is not None, leaf.tag)
        if is_filled and must_have_value(kind, basic):
            is_kept = out is not None and not _is_empty(out)
            self._tally.note("text_notnull", is_kept, leaf.tag)
        if is_filled and self._has_to_stay(leaf, kind, has_row=row is not None):
            same = out is not None and _value(out) == _value(leaf)
            self._tally.note("text_retained", same, leaf.tag)

    def _has_to_stay(self, leaf: Leaf, kind: AttributeType | None, *, has_row: bool) -> bool:
        if has_row:
            is_capped = leaf.vr == "AS" and leaf.text() > _OLDEST_AGE
            is_asked = self._action(leaf) == "K" and leaf.vr not in ("PN", "SQ") and not is_capped
        else:
            is_asked = must_be_same(kind, leaf.vr) and not self._is_redrawn(leaf)
        return is_asked and not tokens_left([leaf], self._residues, self._sides.expected)

    def _is_redrawn(self, leaf: Leaf) -> bool:
        return leaf.tag >> 16 == _IMAGE_GROUP and self._pixels.outcome == "blacked out"

    def _note_uids(self, leaf: Leaf, out: Leaf | None) -> None:
        uids = [uid.strip(" \0") for uid in leaf.text().split("\\")]
        uids = [uid for uid in uids if uid and not uid.startswith(STANDARD_UIDS)]
        if not uids or leaf.tag in self._sides.expected.retained:
            return
        new = out.text() if out is not None else ""
        left = {uid.strip(" \0") for uid in new.split("\\")}
        for uid in uids:
            self._tally.note("uid_changed", uid not in left, leaf.tag)
        is_own = not leaf.path and leaf.tag in OBJECT_UIDS
        if len(uids) == 1 and "\\" not in leaf.text() and (new or is_own):
            self._tally.note_uid(uids[0], new, leaf.tag)

    def _note_date(self, leaf: Leaf, out: Leaf | None) -> None:
        text, new = leaf.text(), out.text() if out is not None else ""
        if not self._shows_date(leaf.vr, text) or leaf.tag in self._sides.expected.retained:
            return
        self._tally.note("date_shifted", text != new, leaf.tag)
        if text != new and self._sides.profile.dates == "shift":
            self._tally.note_shift(self._sides.expected.pseudonym, text, new)

    def _shows_date(self, vr: str, text: str) -> bool:
        """Return whether it can be seen that a date is another one."""
        if text in _DUMMIES or (vr == "DT" and not text[:8].isdigit()):
            return False
        day = day_of(text)
        is_new_year = day is not None and (day.month, day.day) == (1, 1)
        return not (self._sides.profile.year_only and is_new_year)

    def _is_leak(self, leaf: Leaf, out: Leaf | None) -> bool:
        """Return whether an attribute that has to go, or to become another, came through."""
        if out is None or leaf.vr == "SQ" or _value(out) != _value(leaf):
            return False
        text = leaf.text() if leaf.vr in READ_VRS else ""
        if leaf.vr in READ_VRS and (text in _DUMMIES or text == self._sides.expected.pseudonym):
            return False
        if not leaf.raw.strip(b" \0"):
            return False
        action = self._action(leaf)
        if action == "shift":
            return leaf.vr != "TM" and self._shows_date(leaf.vr, text)
        if leaf.vr == "UI":
            return action in _TAKEN and not text.startswith(STANDARD_UIDS)
        if leaf.vr in ("DS", "IS") and not text.strip("0."):
            return False
        if leaf.vr == "CS" and text in self._sides.expected.defined_terms:
            return False
        return action in _TAKEN or (action == "vr" and leaf.vr in _TAKEN_VRS)

    def _note_patient(self) -> None:
        before = _top(self._sides.before, _PATIENT_ID)
        new = self._sides.expected.pseudonym
        who = patient_value(before, _top(self._sides.before, _STUDY))
        self._tally.note_patient(who, new, is_changed=new != clean_patient_id(before))

    def _note_words(self) -> int:
        shown, left = (
            tokens_left(side, self._residues, self._sides.expected)
            for side in (self._sides.before, self._sides.after)
        )
        for token in shown | left:
            self._tally.note("text_removed", token not in left)
        return len(left)


def _is_empty(leaf: Leaf) -> bool:
    if leaf.vr in READ_VRS or leaf.vr == "SQ":
        return not leaf.raw.strip(b" \0")
    return not leaf.raw


def _value(leaf: Leaf) -> str | bytes:
    return leaf.text() if leaf.vr in READ_VRS else leaf.raw


def _top(leaves: Sequence[Leaf], tag: int) -> str:
    return next((leaf.text() for leaf in leaves if leaf.tag == tag and not leaf.path), "")
