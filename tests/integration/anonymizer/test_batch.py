"""Batches: whole studies in or out, several processes, nothing partial."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydicom import dcmread

from pleura.anonymizer import batch, settling
from pleura.anonymizer.audit import AuditLog, verify_audit
from pleura.anonymizer.batch import BatchItem, BatchSummary, run_batch
from pleura.anonymizer.errors import AuditBroken, BatchRunning, OutputNotSeparate
from pleura.anonymizer.journal import Journal, Row
from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.staging import OWNER
from pleura.anonymizer.workers import Outcome, Task
from pleura.common.errors import DiskFull
from tests.builders.identified import PLANTED, STUDY, ct_dataset, project_key, write

KEY = project_key()
PROFILE = load_profile("gdpr_pseudonymous")


class Bench:
    """One site: an input folder, an output and a quarantine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.quarantine = folder / "in", folder / "out", folder / "q"
        self.items: list[BatchItem] = []
        self.progress: list[int] = []
        self.on_progress: Callable[[int], None] = self.progress.append

    def add(self, name: str, **changes: object) -> Path:
        changes.setdefault("SOPInstanceUID", f"1.2.3.{sum(name.encode())}")
        return write(self.folder / name, ct_dataset(**changes))

    def run(self, *, jobs: int = 0, files: list[Path] | None = None) -> BatchSummary:
        self.items.clear()
        return run_batch(
            files or sorted(self.folder.iterdir()),
            self.out,
            self.quarantine,
            profile=PROFILE,
            key=KEY,
            jobs=jobs,
            on_result=self.items.append,
            on_progress=self.on_progress,
        )

    def accepted(self) -> list[Path]:
        return sorted(self.out.rglob("*.dcm"))

    def codes(self) -> dict[str, str | None]:
        return {item.source.name: item.code for item in self.items}

    def leftovers(self) -> list[Path]:
        return [p for p in self.out.rglob("*") if p.suffix == ".part" or ".staging" in str(p)]

    def staging(self) -> Path:
        return self.out.with_name("out.staging")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_a_batch_accepts_and_quarantines_side_by_side(bench: Bench, jobs: int) -> None:
    for name in "abc":
        bench.add(name)
    bench.add("d", StudyInstanceUID="1.2.7", BodyPartExamined="HEAD")
    (bench.folder / "Quibbleworth.txt").write_text("Quibbleworth")
    summary = bench.run(jobs=jobs)
    assert (summary.accepted, summary.duplicates) == (3, 0)
    assert dict(summary.quarantined) == {"NOT_DICOM": 1, "FACE_IN_FIELD": 1}
    assert not summary.is_clean
    assert bench.progress == [1, 2, 3, 4, 5]
    assert sorted(i.result.path for i in bench.items if i.result) == bench.accepted()
    assert all(path.exists() for path in bench.accepted())
    assert not bench.leftovers()
    assert verify_audit(bench.out.with_name("out.audit.jsonl")) == summary.audit_head
    audit = bench.out.with_name("out.audit.jsonl").read_text()
    assert "Quibbleworth" not in audit
    assert audit.count("\n") == 5
    held = [p for p in bench.quarantine.rglob("*") if p.is_file()]
    assert len(held) == 3  # a file that is no DICOM object gets a note only
    assert not [p for p in held if "Quibbleworth" in str(p)]


def test_case_2_one_patient_with_outer_spaces_is_one_patient(bench: Bench) -> None:
    bench.add("a", PatientID="A1")
    bench.add("b", PatientID="A1 ")
    assert bench.run().accepted == 2
    assert {dcmread(p).PatientID for p in bench.accepted()} == {"PMDLX4PGOORP6P4HP"}


def test_case_2_two_patients_in_one_study_quarantine_all_of_it(bench: Bench) -> None:
    bench.add("a", PatientID="A1")
    bench.add("b", PatientID="B2")
    bench.add("c", PatientID="A1")
    bench.add("d", StudyInstanceUID="1.2.7")
    summary = bench.run()
    assert summary.accepted == 1
    assert dict(summary.quarantined) == {"PATIENT_CONFLICT": 3}
    assert {dcmread(p).StudyInstanceUID for p in bench.accepted()} == {KEY.uid("1.2.7")}


def test_ct_beside_pet_is_refused_and_stays_refused(bench: Bench) -> None:
    bench.add("a")
    bench.add("b", Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128")
    bench.add("c", StudyInstanceUID="1.2.7")
    assert dict(bench.run().quarantined) == {"FACE_IN_FIELD": 2}
    assert len(bench.accepted()) == 1
    alone = bench.run(files=[bench.folder / "a"])
    assert dict(alone.quarantined) == {"FACE_IN_FIELD": 1}


def test_an_equal_object_of_a_later_run_is_a_duplicate_until_the_first_is_gone(
    bench: Bench,
) -> None:
    first = bench.add("a")
    assert bench.run().accepted == 1
    (bench.folder / "copy").write_bytes(first.read_bytes())
    again = bench.run()
    assert (again.accepted, again.duplicates, again.resumed) == (1, 1, 1)  # the first was resumed
    bench.accepted()[0].unlink()
    (bench.folder / "other").write_bytes(first.read_bytes())
    bench.run()
    assert len(bench.accepted()) == 1


def test_a_study_accepted_for_another_patient_is_a_conflict(bench: Bench) -> None:
    first = bench.add("a", PatientID="A1")
    assert bench.run(files=[first]).accepted == 1
    second = bench.add("b", PatientID="B2")
    assert dict(bench.run(files=[second]).quarantined) == {"PATIENT_CONFLICT": 1}
    assert len(bench.accepted()) == 1


def test_differing_objects_of_one_uid_both_go(bench: Bench) -> None:
    bench.add("a", SOPInstanceUID="1.5")
    bench.add("b", SOPInstanceUID="1.5", SliceThickness="9")
    bench.add("c")
    summary = bench.run()
    assert bench.codes() == {"a": "DUPLICATE_DIFFERS", "b": "DUPLICATE_DIFFERS", "c": None}
    assert summary.accepted == 1


def test_equal_objects_count_once(bench: Bench) -> None:
    first = bench.add("a", SOPInstanceUID="1.5")
    (bench.folder / "b").write_bytes(first.read_bytes())
    summary = bench.run()
    assert (summary.accepted, summary.duplicates) == (1, 1)
    assert summary.is_clean
    assert len({i.result.path for i in bench.items if i.result}) == 1


def test_a_second_run_adds_to_a_study_and_changes_nothing_else(bench: Bench) -> None:
    first = bench.add("a")
    bench.run(files=[first])
    before = bench.accepted()[0].read_bytes()
    bench.add("b")
    other = bench.add("x", SOPInstanceUID="1.9", SeriesInstanceUID="1.8")
    summary = bench.run()
    assert summary.accepted == 3
    assert len(bench.accepted()) == 3
    assert other.exists()
    assert before in {p.read_bytes() for p in bench.accepted()}


def test_a_changed_object_never_replaces_an_accepted_one(bench: Bench) -> None:
    first = bench.add("a")
    bench.run(files=[first])
    before = bench.accepted()[0].read_bytes()
    bench.add("a", SliceThickness="9")
    assert dict(bench.run(files=[first]).quarantined) == {"DUPLICATE_DIFFERS": 1}
    assert bench.accepted()[0].read_bytes() == before


def test_a_missing_source_is_quarantined_by_note(bench: Bench) -> None:
    bench.folder.mkdir()
    summary = bench.run(files=[bench.folder / "gone"])
    assert dict(summary.quarantined) == {"UNREADABLE": 1}


def test_overlapping_folders_are_refused(bench: Bench) -> None:
    source = bench.add("a")
    for quarantine in (bench.out, bench.out / "q", bench.out.parent):
        with pytest.raises(OutputNotSeparate):
            run_batch([source], bench.out, quarantine, profile=PROFILE, key=KEY)


def test_a_broken_audit_file_stops_the_batch_before_anything_is_written(bench: Bench) -> None:
    bench.add("a")
    bench.out.with_name("out.audit.jsonl").write_text("{}\n")
    with pytest.raises(AuditBroken):
        bench.run()
    assert not any(bench.out.iterdir())
    assert not bench.staging().exists()


def test_a_full_disk_leaves_no_study_begun(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        bench.add(name)
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull):
        bench.run()
    monkeypatch.undo()
    assert not bench.accepted()
    assert not bench.leftovers()


def test_a_disk_that_fills_while_studies_move_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add("a")

    def full(*args: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(settling, "move_in", full)
    with pytest.raises(DiskFull):
        bench.run()
    assert not bench.accepted()


def test_a_batch_stopped_twice_between_audit_and_journal_has_each_line_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time after the refusals of another study, which are tried again, got lines."""
    for letter in "ab":
        uid = {"SOPInstanceUID": "1.2.3.9", "StudyInstanceUID": "1.2.4"}
        bench.add(letter, InstanceNumber=ord(letter), **uid)
    for letter in "cd":
        bench.add(letter, StudyInstanceUID="1.2.7")
    assert KEY.uid("1.2.4") < KEY.uid("1.2.7")  # the refused study is settled first
    settle = Journal.settle

    def stops(journal: Journal, rows: Sequence[Row] | str, audit_bytes: int) -> None:
        if isinstance(rows, str) or any(row.state == "accepted" for row in rows):
            raise DiskFull
        settle(journal, rows, audit_bytes)

    monkeypatch.setattr(Journal, "settle", stops)
    monkeypatch.setattr(Journal, "settle_whole", stops)
    for _ in range(2):
        with pytest.raises(DiskFull):
            bench.run()
    monkeypatch.undo()
    summary = bench.run()
    assert (summary.accepted, dict(summary.quarantined)) == (2, {"DUPLICATE_DIFFERS": 2})
    lines = list(AuditLog(bench.out.with_name("out.audit.jsonl")).lines_after(0))
    assert sum(line.code == "ACCEPTED" for line in lines) == 2
    assert verify_audit(bench.out.with_name("out.audit.jsonl")) == summary.audit_head


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_worker_that_dies_accepts_none_of_its_files(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    for name in "ab":
        bench.add(name)
    monkeypatch.setattr(batch, "DeidJob", _DyingJob)
    summary = bench.run(jobs=jobs)
    assert dict(summary.quarantined) == {"INTERNAL": 2}
    assert not bench.accepted()


def test_an_error_in_a_worker_stops_the_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        bench.add(name)
    monkeypatch.setattr(batch, "DeidJob", _FullJob)
    with pytest.raises(DiskFull):
        bench.run(jobs=2)
    assert not bench.accepted()
    assert not bench.leftovers()


def test_what_a_killed_batch_left_is_swept(bench: Bench) -> None:
    bench.add("a")
    for name in (OWNER, "tree/P/x.dcm", "tree/P/x.dcm.part", "ready/P/x.dcm"):
        left = bench.staging() / name
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"half")
    bench.run()
    assert not bench.staging().exists()
    assert len(bench.accepted()) == 1
    assert STUDY not in str(bench.accepted())


def test_a_file_nobody_reported_does_not_move_with_its_study(bench: Bench) -> None:
    """As a worker leaves one that is killed between the file and its answer, twice."""
    bench.add("a")
    lost: list[Path] = []

    def leave_a_file(_: int) -> None:
        (staged,) = bench.staging().rglob("*.dcm")
        lost.append(staged.with_name("2.25.1.dcm"))
        lost[0].write_bytes(b"whole, but nobody knows it")

    bench.on_progress = leave_a_file
    assert bench.run().accepted == 1
    assert lost
    assert [path.name for path in bench.accepted()] != [lost[0].name]
    assert len(bench.accepted()) == 1


def test_two_batches_never_write_to_one_output(bench: Bench) -> None:
    bench.add("a")
    bench.out.mkdir(parents=True)
    held = Journal(bench.out.with_name("out.journal.db"), "x")
    with pytest.raises(BatchRunning):
        bench.run()
    held.close()
    assert bench.run().accepted == 1


def test_the_same_run_again_does_nothing_twice(bench: Bench) -> None:
    for name in "ab":
        bench.add(name)
    (bench.folder / "n.txt").write_text("nothing")
    first = bench.run()
    audit = bench.out.with_name("out.audit.jsonl").read_bytes()
    stamps = [p.stat().st_mtime_ns for p in bench.accepted()]
    again = bench.run(jobs=2)
    assert (first.resumed, again.resumed) == (0, 3)
    assert (again.accepted, again.quarantined) == (first.accepted, first.quarantined)
    assert bench.out.with_name("out.audit.jsonl").read_bytes() == audit
    assert [p.stat().st_mtime_ns for p in bench.accepted()] == stamps
    assert not bench.items


def test_a_file_taken_out_of_the_output_is_made_again(bench: Bench) -> None:
    bench.add("a")
    bench.run()
    bench.accepted()[0].unlink()
    assert (bench.run().resumed, len(bench.accepted())) == (0, 1)


def test_the_journal_is_private_and_holds_no_name(bench: Bench) -> None:
    bench.add("Quibbleworth")
    bench.run()
    journal = bench.out.with_name("out.journal.db")
    assert journal.stat().st_mode & 0o777 == 0o600
    for value in (*PLANTED.values(), "Quibbleworth", "MRN-7733"):
        assert value.encode() not in journal.read_bytes()


class _DyingJob(batch.DeidJob):
    """A job whose process is killed."""

    __slots__ = ()

    def run(self, task: Task) -> Outcome:
        os._exit(9)


class _FullJob(batch.DeidJob):
    """A job whose disk is full; workers import it by name."""

    __slots__ = ()

    def run(self, task: Task) -> Outcome:
        raise DiskFull
