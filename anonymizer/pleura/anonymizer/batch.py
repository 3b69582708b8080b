"""Batches: many files, several processes, whole studies in or out, and resumable.

Files are de-identified into a staging folder beside `out` and noted in a journal there; only
after all of them are done are the studies judged and moved, each as a whole. A batch that was
killed goes on when it is run again: what the journal calls finished is not touched, what is
staged and complete is used, and everything else there is swept away.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from pleura.anonymizer.audit import GENESIS, AuditLog
from pleura.anonymizer.burnedin.policy import Mode
from pleura.anonymizer.engine import Deidentified
from pleura.anonymizer.errors import (
    DuplicateDiffers,
    InternalFault,
    MediaDirectory,
    NotDicom,
    OcrUnavailable,
    PatientConflict,
    Unreadable,
)
from pleura.anonymizer.journal import Journal, Row
from pleura.anonymizer.naming import Ending, told_of, write_name_map
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.pseudonyms import Pseudonyms
from pleura.anonymizer.quarantine import sweep_half_copies
from pleura.anonymizer.receipt import Receipt
from pleura.anonymizer.sampling import sample_of
from pleura.anonymizer.settling import Settler, has_bytes
from pleura.anonymizer.staging import DeidJob, claim, staging_for, sweep
from pleura.anonymizer.targets import audit_of, check_origin, check_targets
from pleura.anonymizer.workers import Outcome, Pool, Task, ThisProcess, WorkerPool
from pleura.common import events
from pleura.common.clock import Clock, SystemClock
from pleura.common.database import named
from pleura.common.files import raise_if_disk_full

FILE_LIMIT_S: Final = 3600.0
# Refusals that other files, this installation or this host decide: tried again on every run.
_TRIED_AGAIN: Final = frozenset(
    {
        PatientConflict.code,
        DuplicateDiffers.code,
        InternalFault.code,
        OcrUnavailable.code,
        Unreadable.code,
    }
)
# What lies beside the objects on a hospital's disc: nothing is lost where it stays behind.
LEFT_OUT: Final = frozenset({NotDicom.code, MediaDirectory.code})


@dataclass(frozen=True, slots=True)
class BatchItem:
    """The fate of one source: `result` if accepted, else a quarantine `code`.

    `is_duplicate`: an equal object was accepted already and this one adds nothing.
    """

    source: Path
    result: Deidentified | None = None
    code: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    is_duplicate: bool = False


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """Counts over all inputs; `resumed` of them were finished by an earlier run already."""

    accepted: int
    duplicates: int
    quarantined: Mapping[str, int]
    seconds: float
    audit_head: str
    resumed: int = 0

    @property
    def refused(self) -> Mapping[str, int]:
        """What was quarantined and is an object, by code."""
        return {code: n for code, n in self.quarantined.items() if code not in LEFT_OUT}

    @property
    def left_out(self) -> int:
        """How many files are no objects: text, programs, a DICOMDIR."""
        return sum(self.quarantined.values()) - sum(self.refused.values())

    @property
    def has_audit(self) -> bool:
        """Whether the audit has a line; its head is all zeros otherwise."""
        return self.audit_head != GENESIS.hex()

    @property
    def is_clean(self) -> bool:
        """Whether there were objects and every one of them is in the output."""
        return not self.refused and self.accepted + self.duplicates > 0


def run_batch(
    files: Sequence[Path],
    out: Path,
    quarantine: Path,
    *,
    profile: Profile,
    key: Pseudonyms,
    jobs: int = 0,
    ocr: Mode = "policy",
    allow_unread_text: bool = False,
    on_result: Callable[[BatchItem], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_total: Callable[[int], None] | None = None,
    on_look: Callable[[int, int], None] | None = None,
    audit: Path | None = None,
    journal: Path | None = None,
    clock: Clock | None = None,
    tombstones: Callable[[], frozenset[str]] = frozenset,
    follow_archives: bool = False,
    root: Path | None = None,
    mirror: bool = False,
    name_map: Path | None = None,
) -> BatchSummary:
    """De-identify `files` into `out/<patient>/<study>/<series>/<sop>.dcm`.

    `on_progress` gets the number of files processed so far, `on_total` the number of all once
    an archive added its members, `on_look` how many of how many slices were looked at once more
    for text; `on_result` the final fate of each file of this run, after its study is in place.
    Audit and journal default to
    `<out>.audit.jsonl` and `<out>.journal.db`; they belong to this output alone. `jobs` is the
    number of worker processes, each of which may crash at the cost of its one file; with 0 this
    process does the work, and a decoder that crashes ends it.
    `ocr` says whose pixels are read for burned-in text, as in `deidentify_file`.
    `root` is the folder that names of sources are told relative to: with `mirror` as the places
    of the outputs, and in `name_map`, which gets a line for each source. Both identify people.
    `tombstones` (`erasure.ErasureIndex.tombstones`): erased patients, turned away as ERASED;
    asked for once nobody can erase from this output any more until the batch ends.

    Raises:
        MappingRequired: the profile wants pseudonyms drawn at random and `key` computes them.
        OutputNotSeparate: `quarantine` and `out` contain each other.
        OutputForeign: `out` holds files and no batch ever wrote there.
        KeysMixed, MappingsMixed, ProfilesMixed: the output was made with another key, mapping,
            profile or options.
        WriteRefused: a target cannot be written; no file was read.
        StagingForeign: the folder for unfinished files holds somebody else's.
        BatchRunning: another batch works on `out`.
        DiskFull, DiskFailed: no room; nothing partial is in `out`, run again once there is room.
        AuditBroken: the audit file's chain does not hold, or its end is missing; no file was read.
        NameMapDamaged: `name_map` holds something else.
    """
    started = time.monotonic()
    profile.check_kind(key.kind)
    out = out.resolve()
    audit = audit or out.with_name(out.name + ".audit.jsonl")
    state = journal or out.with_name(out.name + ".journal.db")
    check_targets(out, quarantine, audit, state, name_map)
    staging = staging_for(out, journal)
    job = DeidJob(
        profile, key, staging, allow_unread_text, follow_archives=follow_archives, ocr=ocr
    )
    book = Journal(state, job.settings)
    try:
        log = audit_of(book, audit, job)
        check_origin(key.origin, book.note_origin(key.origin, quarantine))
        sweep_half_copies(quarantine)
        job = replace(job, tombstones=tombstones())
        batch = _Batch(files, out, job, book, on_progress, on_total, on_look)
        batch.process(jobs)
        settler = Settler(
            book, log, out=out, staging=job.staging, quarantine=quarantine, profile=profile,
            key=key, clock=clock or SystemClock(), task_of=batch.task_of,
            mirror=(lambda task: _mirrored(task, root)) if mirror else None,
        )  # fmt: skip
        for row in settler.settle():
            if on_result is not None:
                on_result(_item(row, batch.task_of(row.seq).path, out))
        if name_map is not None:
            write_name_map(name_map, batch.endings(), root)
        shutil.rmtree(job.staging, ignore_errors=True)
        return _summary(book, log, batch.resumed, time.monotonic() - started)
    except OSError as exc:
        raise_if_disk_full(exc)
        raise
    except sqlite3.DatabaseError as exc:
        raise named(exc) from exc
    finally:
        book.close()


class _Batch:
    """The files of one run: which need work, and what came of it."""

    def __init__(
        self,
        files: Sequence[Path],
        out: Path,
        job: DeidJob,
        journal: Journal,
        on_progress: Callable[[int], None] | None,
        on_total: Callable[[int], None] | None,
        on_look: Callable[[int, int], None] | None,
    ) -> None:
        self._sources: list[tuple[Path, int | None]] = [(path, None) for path in files]
        self._out, self._job, self._journal = out, job, journal
        self._on_progress, self._on_total, self._on_look = on_progress, on_total, on_look
        self._archives = self._done = self.resumed = self._next_seq = 0
        self._looks = self._looked = 0

    def process(self, jobs: int) -> None:
        """Bring every file to a row of the journal."""
        claim(self._job.staging)
        sweep(self._job.staging, self._journal.knows_staged)
        if jobs < 1:
            self._process_in(ThisProcess(self._job))
        else:
            count = min(jobs, len(self._sources) or 1)
            with WorkerPool(self._job, count, limit_s=FILE_LIMIT_S) as pool:
                self._process_in(pool)
        self._journal.flush()

    def task_of(self, seq: int) -> Task:
        """Return input number `seq`."""
        path, member = self._sources[seq]
        spelled = str(path) if member is None else f"{path}\0{member}"
        return Task(seq, path, member, name=self._job.key.keyed("name", spelled))

    def _process_in(self, pool: Pool) -> None:
        for task, outcome in _done_in(pool, self._upcoming):
            self._take(task, outcome)
        if self._job.looks_at_series:
            self._look_at_series(pool)

    def _look_at_series(self, pool: Pool) -> None:
        """Have every slice of a series read again where some of its slices show text."""
        found = self._journal.unread_series()
        suspects = {number for number, series in enumerate(found) if series.is_suspect}
        looks = {
            seq: number
            for number, series in enumerate(found)
            for seq in (() if series.is_suspect else sample_of(series.unread))
            if seq not in series.looked
        }
        for task, outcome in self._again(pool, looks, "look"):
            shows_text = outcome.shows_text or bool(outcome.code)
            self._journal.note_look(task.seq, shows_text=shows_text)
            if shows_text:
                suspects.add(looks[task.seq])
        unread = [seq for number in sorted(suspects) for seq in found[number].unread]
        staged = self._journal.staged_inputs() if unread else {}
        for seq in unread:
            (self._job.staging / staged[seq]).unlink(missing_ok=True)
        for task, outcome in self._again(pool, unread, "read"):
            self._journal.put(_row_of(task, outcome))

    def _again(
        self, pool: Pool, inputs: Collection[int], purpose: Literal["look", "read"]
    ) -> Iterator[tuple[Task, Outcome]]:
        self._looks += len(inputs)
        waiting = iter(list(inputs))
        for done in _done_in(
            pool,
            lambda count: [
                self._stamped(seq)._replace(purpose=purpose) for seq in islice(waiting, count)
            ],
        ):
            self._looked += 1
            if self._on_look is not None:
                self._on_look(self._looked, self._looks)
            yield done

    def _stamped(self, seq: int) -> Task:
        task = self.task_of(seq)
        return task._replace(stamp=self._stamp(task.path))

    def _upcoming(self, count: int) -> list[Task]:
        """Return the next tasks, at most `count`; members of archives come after all files."""
        tasks: list[Task] = []
        while len(tasks) < count and self._next_seq < len(self._sources):
            task = self._stamped(self._next_seq)
            self._next_seq += 1
            row = self._journal.find(task.name)
            if row is not None and self._is_done(row, task):
                self._journal.adopt(row, task.seq)
                self.resumed += row.state not in ("staged", "refused")
                self._step()
            else:
                tasks.append(task)
        return tasks

    def _stamp(self, path: Path) -> str:
        try:
            status = path.stat()
        except OSError:
            return ""
        return self._job.key.keyed("stamp", f"{status.st_size}:{status.st_mtime_ns}")

    def _is_done(self, row: Row, task: Task) -> bool:
        """Return whether nothing has to be done again for an input."""
        if not task.stamp or (row.stamp, row.settings) != (task.stamp, self._journal.settings):
            return False
        if self._job.bars(row.patient):
            return False
        if row.state == "staged":
            path = self._job.staging / row.staged
            return has_bytes(path, row.sha256, row.size_bytes)
        if row.state in ("accepted", "duplicate"):
            path = self._out / row.placed
            return path.exists() and path.stat().st_size == row.size_bytes
        return row.code not in _TRIED_AGAIN

    def _take(self, task: Task, outcome: Outcome) -> None:
        if outcome.members is not None:
            self._archives += 1
            self._sources += [(task.path, member) for member in range(outcome.members)]
            self._tell_total()
            return
        self._journal.put(_row_of(task, outcome))
        self._step()

    def _tell_total(self) -> None:
        if self._on_total is not None:
            self._on_total(len(self._sources) - self._archives)

    def _step(self) -> None:
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(self._done)

    def endings(self) -> Iterator[Ending]:
        """Yield what became of each input."""
        for seq, code, placed in self._journal.ends():
            yield Ending(*self._sources[seq], code, placed)


def _row_of(task: Task, outcome: Outcome) -> Row:
    return outcome.staged or Row(
        task.name, task.stamp, seq=task.seq, code=outcome.code, counts=json.dumps(outcome.counts)
    )


def _done_in(
    pool: Pool, upcoming: Callable[[int], Sequence[Task]]
) -> Iterator[tuple[Task, Outcome]]:
    """Yield what comes of tasks; `upcoming` gives some more, at most as many as asked for."""
    pool.submit(upcoming(pool.room))
    while not pool.is_idle:
        yield from pool.outcomes()
        pool.submit(upcoming(pool.room))


def _mirrored(task: Task, root: Path | None) -> Path:
    # A name that is no UTF-8 is told byte by byte (`\\xfc`): not every system takes it.
    place = Path(os.fsencode(told_of(task.path, root)).decode("utf-8", "backslashreplace"))
    return place if task.member is None else place / f"{task.member}.dcm"


def _item(row: Row, source: Path, out: Path) -> BatchItem:
    if row.state == "quarantined":
        return BatchItem(source, code=row.code, counts=row.numbers)
    result = Deidentified(
        path=out / row.placed,
        receipt=Receipt.model_validate_json(row.receipt),
        patient=row.patient, study_uid=row.study, series_uid=row.series, sop_uid=row.sop,
        modality=row.modality, accession_key=row.accession_key, sop_key=row.sop_key,
        sha256=row.sha256, size_bytes=row.size_bytes, slice_number=row.slice_number,
    )  # fmt: skip
    return BatchItem(source, result=result, is_duplicate=row.state == "duplicate")


def _summary(journal: Journal, log: AuditLog, resumed: int, seconds: float) -> BatchSummary:
    fates = journal.fates()
    counts = dict.fromkeys(("accepted", "duplicate", "quarantined"), 0)
    quarantined: dict[str, int] = {}
    for (state, code), count in fates.items():
        counts[state] += count
        if state == "quarantined":
            quarantined[code] = count
    events.emit(
        "batch.finished", accepted=counts["accepted"], quarantined=counts["quarantined"],
        count=sum(counts.values()), seconds=float(seconds),
    )  # fmt: skip
    return BatchSummary(
        accepted=counts["accepted"],
        duplicates=counts["duplicate"],
        quarantined=dict(sorted(quarantined.items())),
        seconds=seconds,
        audit_head=log.head,
        resumed=resumed,
    )
