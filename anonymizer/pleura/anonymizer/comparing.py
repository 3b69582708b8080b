"""Comparing: outputs with their sources, pair by pair through the name map of the batch.

Runs the residual scan of `verify` on what lies in the folders, with no key at hand: by how much
a patient's dates moved is taken from the study date, then every other date of the patient must
agree. Whether one time of day carried a date over midnight cannot be seen without the key, so
one day more passes where dates are shifted. `matching` compares the pixels, `judging` notes the
ten scores. Pairs are read one after the other, pictures one frame at a time.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom.config import disable_value_validation

from pleura.anonymizer.checks import COMPARED
from pleura.anonymizer.errors import (
    Quarantined,
    SelfCheckFailed,
    Undecodable,
)
from pleura.anonymizer.judging import Sides, judge
from pleura.anonymizer.leaves import Leaf, elements_of
from pleura.anonymizer.marking import authored
from pleura.anonymizer.matching import match_pixels
from pleura.anonymizer.members import extracted
from pleura.anonymizer.naming import Ending
from pleura.anonymizer.residues import Expectation
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.scoring import REMOVED, Tally, day_of
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.verify import check_residuals
from pleura.anonymizer.verifying import Compared, Facts, Report, claimed_profile, examine

_DATES: Final = (0x00080020, 0x00080021, 0x00080022, 0x00080023, 0x00080012)


def compare(
    out: Path,
    against: Path,
    pairs: Sequence[Ending],
    report: Report,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Add to `report` what the pairs show; a source outside `against` counts as none.

    Sources of `pairs` are told relative to `against`, or to its folder if it is a file.

    `removal score`: how much is missing in the scores of what must go or be consistent. What
    must stay is scored and fails no check, but pixels: those that changed and are not black.
    """
    report.failed.update(dict.fromkeys(COMPARED, 0))
    root, named = against.resolve(), set()
    folder = root if root.is_dir() else root.parent
    comparison = _Comparison()
    for number, pair in enumerate(pairs, start=1):
        path = out / pair.placed
        if pair.placed and path.is_file():
            named.add(pair.placed)
            origin = (folder / pair.source).resolve()
            is_within = origin == root or root in origin.parents
            if not (is_within and origin.is_file()):
                report.blame(pair.placed, {"no source"})
            else:
                report.blame(pair.placed, comparison.add(origin, pair.member, path))
        if on_progress is not None:
            on_progress(number)
    here = {p.relative_to(out).as_posix() for p in out.rglob("*.dcm") if p.is_file()}
    for place in here - named:
        report.blame(place, {"output without a pair"})
    report.compared = comparison.finish()
    report.failed["removal score"] += sum(report.compared.scores[n].missed for n in REMOVED)


class _Ledger:
    """What earlier pairs said of patients and UIDs."""

    def __init__(self) -> None:
        self.shifts: dict[str, int] = {}
        self._uids: dict[str, str] = {}
        self._patients: defaultdict[str, set[str]] = defaultdict(set)

    def note(self, source: list[Leaf], facts: Facts) -> set[str]:
        """Record a pair; return what contradicts an earlier one."""
        problems = set()
        for tag, mapped in ((0x0020000D, facts.study), (0x0020000E, facts.series)):
            if self._uids.setdefault(_text(source, tag), mapped) != mapped:
                problems.add("UID mapped twice")
        patient = _text(source, 0x00100020)
        if patient:
            self._patients[patient].add(facts.patient)
            if len(self._patients[patient]) > 1:
                problems.add("patient named twice")
        return problems


@dataclass(slots=True)
class _Comparison:
    """All pairs so far."""

    _tally: Tally = field(default_factory=lambda: Tally(carries_midnight=True))
    _ledger: _Ledger = field(default_factory=_Ledger)
    _done: Compared = field(default_factory=Compared)

    def add(self, origin: Path, member: int | None, path: Path) -> set[str]:
        """Compare an output with its source; return the checks it fails."""
        self._done.pairs += 1
        try:
            with _opened(origin, member) as source, FileSource(path) as output:
                facts, _ = examine(path)
                return {"residual"} if facts is None else self._add(source, output, facts)
        except (OSError, Quarantined):
            return {"no source"}

    def _add(self, source: FileSource, output: FileSource, facts: Facts) -> set[str]:
        before, after = _elements(source), _elements(output)
        problems = self._ledger.note(before, facts)
        shift = None
        if "113107" in facts.codes:
            found = _shift(before, after)
            known = self._ledger.shifts.setdefault(facts.patient, found) if found else 0
            shift = known or self._ledger.shifts.get(facts.patient, 0)
            if found and not 0 <= found - shift <= 1:
                problems.add("shift differs")
        expected = expectation_for(facts, shift)
        try:
            check_residuals(source, output, expected)
        except SelfCheckFailed:
            problems.add("residual")
        pixels = match_pixels(source, output)
        if pixels.outcome in ("changed", "undecodable"):
            problems.add(f"pixels {pixels.outcome}")
        if pixels.outcome != "none":
            self._done.pixels[pixels.outcome] += 1
            self._done.pixels.update({"pixels": pixels.pixels, "pixels blacked out": pixels.black})
        leaks = judge(Sides(before, after, claimed_profile(facts), expected), pixels, self._tally)
        if leaks.top or leaks.nested:
            problems.add("unchanged value")
        self._done.leaks.update(top=leaks.top, nested=leaks.nested, words=leaks.words)
        return problems

    def finish(self) -> Compared:
        """Return the counts; consistency is known only at the end."""
        self._done.scores, self._done.lost = self._tally.ratios(), self._tally.lost
        return self._done


def _elements(source: FileSource) -> list[Leaf]:
    """Return the elements of a file.

    Raises:
        Undecodable: it cannot be read.
    """
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")  # they quote values
            return list(elements_of(source))
    except Exception:  # noqa: BLE001  whatever a damaged file does to the reader
        raise Undecodable("elements") from None


def expectation_for(facts: Facts, shift_days: int | None) -> Expectation:
    """Return what a file may hold by its own marks: only options it claims."""
    rules, profile = load_rules(), claimed_profile(facts)
    return Expectation(
        pseudonym=facts.patient,
        shift_days=shift_days,
        carries_midnight=shift_days is not None,
        year_only=profile.year_only,
        retained=rules.retained(profile),
        identifying=rules.identifying,
        defined_terms=rules.defined_terms,
        authored=authored(profile),
        safe_private=profile.safe_private,
    )


def _shift(before: list[Leaf], after: list[Leaf]) -> int:
    """Return the days between the first date that both have, 0 if none."""
    for tag in _DATES:
        old, new = (day_of(_text(side, tag)) for side in (before, after))
        if old is not None and new is not None:
            return (new - old).days
    return 0


def _text(leaves: list[Leaf], tag: int) -> str:
    return next((leaf.text() for leaf in leaves if leaf.tag == tag and not leaf.depth), "")


@contextmanager
def _opened(origin: Path, member: int | None) -> Iterator[FileSource]:
    if member is None:
        with FileSource(origin) as source:
            yield source
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        extracted(origin, member, Path(folder)) as path,
        FileSource(path) as source,
    ):
        yield source
