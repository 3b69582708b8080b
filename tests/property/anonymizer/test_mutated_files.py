"""Two thousand damaged files: each is cleaned or refused by name, and nothing else happens.

`python -m tests.benchmarks.deid_fuzz` does the same with more of them, in worker processes.
"""

from __future__ import annotations

import resource
from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks.deid_fuzz import Fuzz, Worker
from tests.builders.mutation_samples import Sample, generated_samples, leaked, real_samples
from tests.builders.mutation_trials import ACCEPTED, Outcome, Trials, recorded_events
from tests.builders.mutations import EDITS, Mutant, mutant, mutants
from tests.builders.shared_data import shared_data

COUNT = 2000
REAL_COUNT = 100
GROWTH_KIB = 200 << 10


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return generated_samples(tmp_path_factory.mktemp("sound"))


def _tried(folder: Path, found: list[Mutant]) -> list[Outcome]:
    trials = Trials(folder)
    try:
        return [trials.attempt(m) for m in found]
    finally:
        trials.close()


def _faulty(outcomes: list[Outcome]) -> list[Outcome]:
    return [o for o in outcomes if o.faults]


def test_every_sound_sample_is_accepted_and_clean(tmp_path: Path, samples: list[Sample]) -> None:
    sound = [Mutant(s.name, s.data, s.planted) for s in samples for _ in range(3)]
    outcomes = _tried(tmp_path, sound)
    assert [o for o in outcomes if o.faults or o.code != ACCEPTED] == []


@pytest.mark.parametrize("part", range(2))
def test_damaged_files_are_cleaned_or_refused_by_name(
    tmp_path: Path, samples: list[Sample], part: int, capfd: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with recorded_events(tmp_path / "events.jsonl"):
        outcomes = _tried(tmp_path, list(mutants(samples, f"ci-{part}", COUNT // 2)))
    assert _faulty(outcomes) == []
    codes = Counter(o.code for o in outcomes)
    assert codes["INTERNAL"] == 0
    assert codes[ACCEPTED] >= COUNT // 20
    assert len(codes) >= 6
    streams = capfd.readouterr()
    said = (tmp_path / "events.jsonl").read_text(encoding="utf-8") + streams.out + streams.err
    assert not {v for s in samples for v in leaked(said.encode(), s.planted)}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH_KIB


def test_damaged_real_files_are_cleaned_or_refused_by_name(tmp_path: Path) -> None:
    real = real_samples(shared_data("dicom"))
    assert real
    outcomes = _tried(tmp_path, list(mutants(real, "ci", REAL_COUNT)))
    assert _faulty(outcomes) == []


def test_a_seed_always_stands_for_the_same_mutant(samples: list[Sample]) -> None:
    first = [mutant(s, "x-1") for s in samples]
    assert first == [mutant(s, "x-1") for s in samples]
    again = [mutant(s, "x-2") for s in samples]
    assert all(m.data != n.data for m, n in zip(first, again, strict=True))


def test_every_edit_is_used_and_every_sample_holds_what_is_planted(samples: list[Sample]) -> None:
    names = " ".join(m.name for m in mutants(samples, "ci-0", COUNT // 2))
    assert all(edit.__name__.strip("_") in names for edit in EDITS)
    assert all(leaked(s.data, s.planted) for s in samples)


def test_a_trial_that_leaks_is_a_fault(tmp_path: Path, samples: list[Sample]) -> None:
    kept = Mutant(samples[0].name, samples[0].data, ("ACME Imaging",))  # kept by every profile
    (outcome,) = _tried(tmp_path, [kept])
    assert outcome.code == ACCEPTED
    assert outcome.faults == ("leaked ACME Imaging",)


def test_a_worker_that_dies_is_counted_and_its_share_goes_on(tmp_path: Path) -> None:
    fuzz = Fuzz("x", tmp_path)
    worker = fuzz._start(range(80))  # too many to be done before it is killed
    while worker.at < 2:
        assert fuzz._hear(worker) is worker
    worker.process.kill()
    successor: Worker | None = worker
    while successor is worker:
        successor = fuzz._hear(worker)
    while successor is not None:
        successor = fuzz._hear(successor)
    (crash,) = fuzz.tally.crashes
    assert crash.endswith("SIGKILL")
    assert fuzz.tally.codes.total() in (79, 80)  # it died in a mutant or between two
    assert fuzz.tally.faults == []
