"""Batches: many files, several processes, whole studies in or out, and resumable.

Files are de-identified into a staging folder beside `out` and noted in a journal there; only
after all of them are done are the studies judged and moved, each as a whole. A batch that was
killed goes on when it is run again: what the journal calls finished is not touched, what is
staged and complete is used, and everything else there is swept away.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from pleura.anonymizer.audit import AuditLog, cut_back
from pleura.anonymizer.burnedin.policy import Mode
from pleura.anonymizer.engine import Deidentified
from pleura.anonymizer.errors import (
    DuplicateDiffers,
    InternalFault,
    KeysMixed,
    NameMapDamaged,
    OcrUnavailable,
    OutputNotSeparate,
    PatientConflict,
)
from pleura.anonymizer.journal import Journal, Row
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.pseudonyms import Pseudonyms
from pleura.anonymizer.quarantine import sweep_half_copies
from pleura.anonymizer.receipt import Receipt
from pleura.anonymizer.sampling import sample_of
from pleura.anonymizer.settling import Settler, has_bytes
from pleura.anonymizer.staging import DeidJob, claim, staging_for, sweep
from pleura.anonymizer.workers import Outcome, Pool, Task, ThisProcess, WorkerPool
from pleura.common import events
from pleura.common.clock import Clock, SystemClock
from pleura.common.files import atomic_writer, create_private, raise_if_disk_full

FILE_LIMIT_S: Final = 3600.0
# Refusals that other files, or this installation, decide: tried again on every run.
_TRIED_AGAIN: Final = frozenset(
    {PatientConflict.code, DuplicateDiffers.code, InternalFault.code, OcrUnavailable.code}
)


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
    def is_clean(self) -> bool:
        """Whether nothing was quarantined."""
        return not self.quarantined


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
    audit: Path | None = None,
    journal: Path | None = None,
    clock: Clock | None = None,
    tombstones: Callable[[], frozenset[str]] = frozenset,
    follow_archives: bool = False,
    mirror: Callable[[Path], Path] | None = None,
    name_map: Path | None = None,
) -> BatchSummary:
    """De-identify `files` into `out/<patient>/<study>/<series>/<sop>.dcm`.

    `on_progress` gets the number of files processed so far, `on_total` the number of all once
    an archive added its members, or slices are looked at once more; `on_result` the final fate
    of each file of this run, after its study is in place. Audit and journal default to
    `<out>.audit.jsonl` and `<out>.journal.db`; they belong to this output alone. `jobs` is the
    number of worker processes, each of which may crash at the cost of its one file; with 0 this
    process does the work, and a decoder that crashes ends it.
    `ocr` says whose pixels are read for burned-in text, as in `deidentify_file`.
    `mirror` gives the place of a source instead of the layout, `name_map` is where a line for
    each accepted source is written; both hold file names, which identify people.
    `tombstones` (`erasure.ErasureIndex.tombstones`): erased patients, turned away as ERASED;
    asked for once nobody can erase from this output any more until the batch ends.

    Raises:
        MappingRequired: the profile wants pseudonyms drawn at random and `key` computes them.
        OutputNotSeparate: `quarantine` and `out` contain each other.
        KeysMixed: the output was made with another key.
        StagingForeign: the folder for unfinished files holds somebody else's.
        BatchRunning: another batch works on `out`.
        DiskFull: no room; nothing partial is in `out`, run again once there is room.
        AuditBroken: the audit file's chain does not hold; nothing was written.
    """
    started = time.monotonic()
    profile.check_kind(key.kind)
    out = out.resolve()
    _check_separate(out, quarantine)
    audit = audit or out.with_name(out.name + ".audit.jsonl")
    AuditLog(audit, may_be_cut=True)  # refuses a broken one before anything is written
    create_private(out)
    staging = staging_for(out, journal)
    job = DeidJob(
        profile, key, staging, allow_unread_text, follow_archives=follow_archives, ocr=ocr
    )
    book = Journal(journal or out.with_name(out.name + ".journal.db"), job.settings)
    try:
        cut_back(audit, book.audit_bytes())
        log = AuditLog(audit)
        if log.key_ids - {key.key_id}:
            raise KeysMixed("the output was made with another key")
        sweep_half_copies(quarantine)
        job = replace(job, tombstones=tombstones())
        batch = _Batch(files, out, job, book, on_progress, on_total)
        batch.process(jobs)
        settler = Settler(
            book, log, out=out, staging=job.staging, quarantine=quarantine, profile=profile,
            key=key, clock=clock or SystemClock(), task_of=batch.task_of,
            mirror=None if mirror is None else lambda task: _mirrored(task, mirror),
        )  # fmt: skip
        for row in settler.settle():
            if on_result is not None:
                on_result(_item(row, batch.task_of(row.seq).path, out))
        if name_map is not None:
            lines = list(batch.name_lines())
            earlier = _other_lines(name_map, lines)
            with atomic_writer(name_map, mode=0o600) as file:
                file.writelines((*earlier, *lines))
        shutil.rmtree(job.staging, ignore_errors=True)
        return _summary(book, log, batch.resumed, time.monotonic() - started)
    except OSError as exc:
        raise_if_disk_full(exc)
        raise
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
    ) -> None:
        self._sources: list[tuple[Path, int | None]] = [(path, None) for path in files]
        self._out, self._job, self._journal = out, job, journal
        self._on_progress, self._on_total = on_progress, on_total
        self._archives = self._extra = self._done = self.resumed = self._next_seq = 0

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
        suspects = {number for number, series in enumerate(found) if series.shows_text}
        looks = {
            seq: number
            for number, series in enumerate(found)
            for seq in (() if series.shows_text else sample_of(series.unread))
        }
        for task, outcome in self._again(pool, looks, "look"):
            if outcome.shows_text or outcome.code:
                suspects.add(looks[task.seq])
            self._step()
        unread = [seq for number in sorted(suspects) for seq in found[number].unread]
        staged = self._journal.staged_inputs() if unread else {}
        for seq in unread:
            (self._job.staging / staged[seq]).unlink(missing_ok=True)
        for task, outcome in self._again(pool, unread, "read"):
            self._take(task, outcome)

    def _again(
        self, pool: Pool, inputs: Collection[int], purpose: Literal["look", "read"]
    ) -> Iterator[tuple[Task, Outcome]]:
        self._extra += len(inputs)
        self._tell_total()
        waiting = iter(list(inputs))
        return _done_in(
            pool,
            lambda count: [
                self._stamped(seq)._replace(purpose=purpose) for seq in islice(waiting, count)
            ],
        )

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
        row = outcome.staged or Row(
            task.name, task.stamp, seq=task.seq, code=outcome.code,
            counts=json.dumps(outcome.counts),
        )  # fmt: skip
        self._journal.put(row)
        self._step()

    def _tell_total(self) -> None:
        if self._on_total is not None:
            self._on_total(len(self._sources) - self._archives + self._extra)

    def _step(self) -> None:
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(self._done)

    def name_lines(self) -> Iterator[bytes]:
        """Yield a JSON line of source, member and place for each accepted input."""
        for seq, placed in self._journal.places():
            path, member = self._sources[seq]
            line = {"in": str(path), "member": member, "out": placed}
            yield json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"


def _done_in(
    pool: Pool, upcoming: Callable[[int], Sequence[Task]]
) -> Iterator[tuple[Task, Outcome]]:
    """Yield what comes of tasks; `upcoming` gives some more, at most as many as asked for."""
    pool.submit(upcoming(pool.room))
    while not pool.is_idle:
        yield from pool.outcomes()
        pool.submit(upcoming(pool.room))


def _check_separate(out: Path, quarantine: Path) -> None:
    inside, outside = quarantine.resolve(), out.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise OutputNotSeparate("the quarantine folder and the output folder overlap")


def _other_lines(name_map: Path, lines: Sequence[bytes]) -> list[bytes]:
    """Return the lines an earlier run wrote of other outputs."""
    if not name_map.exists():
        return []
    now = {json.loads(line)["out"] for line in lines}
    try:
        earlier = name_map.read_bytes().splitlines(keepends=True)
        return [line for line in earlier if json.loads(line)["out"] not in now]
    except (ValueError, KeyError, TypeError):
        raise NameMapDamaged("the file holds something else") from None


def _mirrored(task: Task, mirror: Callable[[Path], Path]) -> Path:
    place = mirror(task.path)
    return place if task.member is None else place / f"{task.member}.dcm"


def _item(row: Row, source: Path, out: Path) -> BatchItem:
    if row.state == "quarantined":
        return BatchItem(source, code=row.code, counts=row.numbers)
    result = Deidentified(
        path=out / row.placed,
        receipt=Receipt.model_validate_json(row.receipt),
        **json.loads(row.record),
    )
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
