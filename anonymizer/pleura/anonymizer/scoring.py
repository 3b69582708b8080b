"""Scoring: the ten categories of the MIDI-B validation, counted up pair by pair.

Five ask that something went (`REMOVED`), the others that something stayed: deleting everything
passes half of them, so all ten are told, each as correct of required. What is asked of a pair
is decided elsewhere: by `judging` from what input and output show, by the bench from what it
planted. Here are the counting, the consistency over all pairs and the rules common to both.
Memory grows with the number of different UIDs and patients, not with the size of files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal

Category = Literal[
    "tag_retained", "text_notnull", "text_retained", "text_removed", "date_shifted",
    "uid_changed", "uid_consistent", "patid_consistent", "pixels_retained", "pixels_hidden",
]  # fmt: skip

NAMES: Final[tuple[Category, ...]] = (
    "tag_retained", "text_notnull", "text_retained", "text_removed", "date_shifted",
    "uid_changed", "uid_consistent", "patid_consistent", "pixels_retained", "pixels_hidden",
)  # fmt: skip
REMOVED: Final[tuple[Category, ...]] = (
    "text_removed", "date_shifted", "uid_changed", "uid_consistent", "patid_consistent",
)  # fmt: skip
"""Where one miss is a leak, or joins or splits what belongs together."""
STANDARD_UIDS: Final = "1.2.840.10008."
OBJECT_UIDS: Final = (0x00080018, 0x0020000D, 0x0020000E)
AUTHORED: Final = frozenset(
    {0x00080005, 0x00120062, 0x00120063, 0x00120064, 0x00280301, 0x00280302, 0x00280303}
)
"""A de-identifier writes these itself: character set, method, burned-in, temporal information."""
COMPARED_VRS: Final = frozenset(
    ("CS", "LO", "SH", "UC", "LT", "ST", "UT", "IS", "DS", "US", "SS", "UL", "SL", "FL", "FD")
)
"""Where a value without a row in Table E.1-1 has to come through as it is."""
DUMMY_DAY: Final = "19000101"
_NEEDED: Final = frozenset({"1", "1C", "2", "2C"})


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many of the required were done."""

    correct: int
    required: int

    @property
    def share(self) -> float:
        """From 0 to 1; 1 where nothing was required."""
        return self.correct / self.required if self.required else 1.0

    @property
    def missed(self) -> int:
        """How many were not done."""
        return self.required - self.correct


@dataclass(slots=True)
class OneToOne:
    """Whether old and new names belong to each other alone, pair by pair."""

    _new_of: dict[str, str] = field(default_factory=dict)
    _old_of: dict[str, str] = field(default_factory=dict)

    def agrees(self, old: str, new: str) -> bool:
        """Record a pair; return whether neither had another partner before. Empty is wrong."""
        if not new:
            return False
        first_new = self._new_of.setdefault(old, new)
        return self._old_of.setdefault(new, old) == old and first_new == new


@dataclass(slots=True)
class Tally:
    """Counts up; `lost` holds what failed by category and attribute (0: no one attribute).

    `carries_midnight`: times move too, so that a date may be one day further than others.
    """

    carries_midnight: bool = False
    lost: Counter[tuple[Category, int]] = field(default_factory=Counter)
    _correct: Counter[Category] = field(default_factory=Counter)
    _required: Counter[Category] = field(default_factory=Counter)
    _uids: OneToOne = field(default_factory=OneToOne)
    _patients: OneToOne = field(default_factory=OneToOne)
    _shifts: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def note(self, name: Category, is_correct: bool, tag: int = 0) -> None:
        """Count one requirement."""
        self._required[name] += 1
        self._correct[name] += is_correct
        if not is_correct:
            self.lost[name, tag] += 1

    def note_uid(self, old: str, new: str, tag: int = 0) -> None:
        """Count a UID and what became of it; it is wrong from the first pair that disagrees."""
        self.note("uid_consistent", self._uids.agrees(old, new), tag)

    def note_patient(self, patient: str, new: str, *, is_changed: bool) -> None:
        """Count a patient of one file: the same new ID everywhere, nobody else's, not the old."""
        self.note("patid_consistent", self._patients.agrees(patient, new) and is_changed)

    def note_shift(self, patient: str, before: str, after: str) -> None:
        """Record by how much a date of a patient moved; what is no date says nothing."""
        old, new = day_of(before), day_of(after)
        if old is not None and new is not None and not after.startswith(DUMMY_DAY):
            self._shifts[patient][(new - old).days] += 1

    def ratios(self) -> dict[Category, Ratio]:
        """Return all ten; a date that moved unlike most of its patient's dates is wrong."""
        stray = sum(self._strays(moved) for moved in self._shifts.values())
        correct = self._correct.copy()
        correct["date_shifted"] -= stray
        return {name: Ratio(correct[name], self._required[name]) for name in NAMES}

    def _strays(self, moved: Counter[int]) -> int:
        further = 1 if self.carries_midnight else 0
        together = (moved[d] + (moved[d + 1] if further else 0) for d in list(moved))
        return moved.total() - max(together)


def total(ratios: Iterable[Ratio]) -> Ratio:
    """Return several in one figure: those with most required outweigh the others in it."""
    every = list(ratios)
    return Ratio(sum(r.correct for r in every), sum(r.required for r in every))


def must_be_there(kind: str | None, basic: str) -> bool:
    """Return whether an attribute has to stay, by its type and its action in Table E.1-1."""
    return kind in ("1", "2") or basic in ("D", "U", "Z")


def must_have_value(kind: str | None, basic: str) -> bool:
    """Return whether an attribute that has a value has to keep one, be it a dummy."""
    return kind == "1" or basic in ("D", "U")


def must_be_same(kind: str | None, vr: str) -> bool:
    """Return whether the value of an attribute without a row has to come through as it is."""
    return kind in _NEEDED and vr in COMPARED_VRS


def day_of(text: str) -> date | None:
    """Return the day of a DA or DT in any spelling that scanners write."""
    parts = text.replace(".", "-").split("-") if not text[:8].isdigit() else []
    try:
        if len(parts) == 3:
            return date(int(parts[0]), int(parts[1]), int(parts[2]))
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def scores_to_json(ratios: Mapping[Category, Ratio]) -> dict[str, list[int]]:
    """Return `[correct, required]` of each and of all together."""
    every = {str(name): [ratio.correct, ratio.required] for name, ratio in ratios.items()}
    both = total(ratios.values())
    return every | {"all": [both.correct, both.required]}
