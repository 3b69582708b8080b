"""Comparing: outputs with their sources, pair by pair through the name map of the batch.

Runs the residual scan of `verify` on what lies in the folders, with no key at hand: by how much
a patient's dates moved is taken from the study date, then every other date of the patient must
agree. Whether one time of day carried a date over midnight cannot be seen without the key, so
one day more passes where dates are shifted.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pleura.anonymizer.errors import NameMapDamaged, Quarantined, SelfCheckFailed
from pleura.anonymizer.leaves import Leaf, leaves_of
from pleura.anonymizer.marking import authored
from pleura.anonymizer.members import extracted
from pleura.anonymizer.profile import PROFILE_NAMES, Profile, load_profile
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.verify import Expectation, check_residuals
from pleura.anonymizer.verifying import Facts, Report, examine

_DATES: Final = (0x00080020, 0x00080021, 0x00080022, 0x00080023, 0x00080012)
_CHECKS: Final = (
    "residual", "no source", "shift differs", "UID mapped twice", "patient named twice",
    "output without a pair",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """One line of a name map."""

    source: Path
    member: int | None
    out: str


def read_name_map(path: Path) -> list[Pair]:
    """Return the pairs a batch wrote.

    Raises:
        NameMapDamaged: it cannot be read, or a line is no pair.
    """
    try:
        lines = path.read_bytes().splitlines()
        records = [json.loads(line.decode("utf-8", "surrogateescape")) for line in lines]
        return [Pair(Path(r["in"]), r["member"], str(r["out"])) for r in records]
    except (OSError, ValueError, KeyError, TypeError):
        raise NameMapDamaged from None


def compare(
    out: Path,
    against: Path,
    pairs: list[Pair],
    report: Report,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Add to `report` what the pairs show; a source outside `against` counts as none."""
    report.failed.update(dict.fromkeys(_CHECKS, 0))
    root, named = against.resolve(), set()
    ledger = _Ledger()
    for number, pair in enumerate(pairs, start=1):
        path = out / pair.out
        if path.is_file():
            named.add(pair.out)
            origin = pair.source.resolve()
            if origin != root and root not in origin.parents:
                report.failed["no source"] += 1
            else:
                report.pairs += 1
                report.failed.update(_compared(pair, path, ledger))
        if on_progress is not None:
            on_progress(number)
    here = {p.relative_to(out).as_posix() for p in out.rglob("*.dcm") if p.is_file()}
    report.failed["output without a pair"] += len(here - named)


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


def _compared(pair: Pair, path: Path, ledger: _Ledger) -> set[str]:
    try:
        with _opened(pair) as source, FileSource(path) as output:
            facts, _ = examine(path)
            if facts is None:
                return {"residual"}
            before, after = list(leaves_of(source)), list(leaves_of(output))
            problems = ledger.note(before, facts)
            shift = None
            if "113107" in facts.codes:
                found = _shift(before, after)
                known = ledger.shifts.setdefault(facts.patient, found) if found else 0
                shift = known or ledger.shifts.get(facts.patient, 0)
                if found and not 0 <= found - shift <= 1:
                    problems.add("shift differs")
            try:
                check_residuals(source, output, expectation_for(facts, shift))
            except SelfCheckFailed:
                problems.add("residual")
            return problems
    except (OSError, Quarantined):
        return {"no source"}


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
    )


def claimed_profile(facts: Facts) -> Profile:
    """Return the profile with exactly the options that the codes in the file claim."""
    name = facts.profile if facts.profile in PROFILE_NAMES else "hipaa_safe_harbor"
    is_shifted = "113107" in facts.codes
    return load_profile(name).model_copy(
        update={
            "dates": "shift" if is_shifted else "remove",
            "year_only": facts.is_modified and not is_shifted,
            "retain_patient_characteristics": "113108" in facts.codes,
            "retain_device_identity": "113109" in facts.codes,
            "safe_private": "113111" in facts.codes,
        }
    )


def _shift(before: list[Leaf], after: list[Leaf]) -> int:
    """Return the days between the first date that both have, 0 if none."""
    for tag in _DATES:
        try:
            pair = [datetime.strptime(_text(side, tag), "%Y%m%d") for side in (before, after)]
        except ValueError:
            continue
        return (pair[1] - pair[0]).days
    return 0


def _text(leaves: list[Leaf], tag: int) -> str:
    return next((leaf.text() for leaf in leaves if leaf.tag == tag and not leaf.depth), "")


@contextmanager
def _opened(pair: Pair) -> Iterator[FileSource]:
    if pair.member is None:
        with FileSource(pair.source) as source:
            yield source
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        extracted(pair.source, pair.member, Path(folder)) as path,
        FileSource(path) as source,
    ):
        yield source
