"""Batches: many files, several processes, whole studies in or out.

Files are de-identified into a staging folder inside `out`; only after all of them are done
are the studies judged and moved, each as a whole. A study that names two patients goes to
quarantine completely, two differing objects of one SOP UID go both.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from pleura.anonymizer import audit as audit_file
from pleura.anonymizer.engine import Deidentified, deidentify_file
from pleura.anonymizer.errors import (
    DuplicateDiffers,
    InternalFault,
    OutputNotSeparate,
    PatientConflict,
    Quarantined,
)
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.anonymizer.quarantine import quarantine_file
from pleura.common import events
from pleura.common.clock import Clock, SystemClock
from pleura.common.files import fsync_folder, raise_if_disk_full
from pleura.common.supervision import die_with_parent

_STAGING: Final = ".staging-"


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
    """Counts of a batch; `audit_head` is the chain's head after it."""

    accepted: int
    duplicates: int
    quarantined: Mapping[str, int]
    seconds: float
    audit_head: str

    @property
    def is_clean(self) -> bool:
        """Whether nothing was quarantined."""
        return not self.quarantined


@dataclass(frozen=True, slots=True)
class _Job:
    profile: Profile
    key: ProjectKey
    staging: Path
    allow_unread_text: bool

    def run(self, index: int, source: Path) -> BatchItem:
        """De-identify one file into a staging folder of its own."""
        try:
            result = deidentify_file(
                source,
                self.staging / str(index),
                profile=self.profile,
                key=self.key,
                allow_unread_text=self.allow_unread_text,
            )
        except Quarantined as exc:
            return BatchItem(source, code=exc.code, counts=exc.counts)
        return BatchItem(source, result=result)


def run_batch(
    files: Sequence[Path],
    out: Path,
    quarantine: Path,
    *,
    profile: Profile,
    key: ProjectKey,
    jobs: int = 1,
    allow_unread_text: bool = False,
    on_result: Callable[[BatchItem], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
    audit: Path | None = None,
    clock: Clock | None = None,
) -> BatchSummary:
    """De-identify `files` into `out/<patient>/<study>/<series>/<sop>.dcm`.

    `on_progress` gets the number of files processed so far; `on_result` the final fate of each
    file, after its study is in place. The audit file defaults to `<out>.audit.jsonl`.

    Raises:
        OutputNotSeparate: `quarantine` and `out` contain each other.
        DiskFull: no room; nothing partial is left and no study was begun.
        AuditBroken: the audit file's chain does not hold; nothing was written.
    """
    started = time.monotonic()
    _check_separate(out, quarantine)
    audit = audit or out.with_name(out.name + ".audit.jsonl")
    if audit.exists():
        audit_file.verify_audit(audit)
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    _sweep_dead_staging(out)
    staging = Path(tempfile.mkdtemp(prefix=f"{_STAGING}{os.getpid()}-", dir=out))
    try:
        job = _Job(profile, key, staging, allow_unread_text)
        judged = _judge(_process(files, job, jobs, on_progress), out)
        final = _settle(judged, staging, out)
        entries = [_settle_rejected(item, quarantine, profile, key) for item in final]
        head = audit_file.append(audit, entries, now=(clock or SystemClock()).now())
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _report(final, on_result, profile, head, time.monotonic() - started)


def _check_separate(out: Path, quarantine: Path) -> None:
    inside, outside = quarantine.resolve(), out.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise OutputNotSeparate("the quarantine folder and the output folder overlap")


def _sweep_dead_staging(out: Path) -> None:
    """Remove what a killed batch left behind; a living one keeps its own."""
    for folder in out.glob(f"{_STAGING}*"):
        pid = folder.name.removeprefix(_STAGING).split("-")[0]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _process(
    files: Sequence[Path], job: _Job, jobs: int, on_progress: Callable[[int], None] | None
) -> list[BatchItem]:
    """Return one item a file, in the order of `files`."""
    done: dict[int, BatchItem] = {}
    for index, item in _results(files, job, jobs):
        done[index] = item
        if on_progress is not None:
            on_progress(len(done))
    lost = InternalFault.code  # a worker that died takes its files with it: none is accepted
    return [done.get(i, BatchItem(source, code=lost)) for i, source in enumerate(files)]


def _results(files: Sequence[Path], job: _Job, jobs: int) -> Iterator[tuple[int, BatchItem]]:
    if jobs <= 1 or len(files) <= 1:
        for index, source in enumerate(files):
            yield index, job.run(index, source)
        return
    workers = min(jobs, len(files))
    with ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=die_with_parent,  # a killed batch leaves no worker behind
    ) as pool:
        futures = {pool.submit(job.run, i, source): i for i, source in enumerate(files)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as exc:
            kind = type(exc).__name__
            events.emit("error.raised", process="anonymizer", code=InternalFault.code, error=kind)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _judge(items: Sequence[BatchItem], out: Path) -> list[BatchItem]:
    """Return the items with study conflicts and differing duplicates turned away."""
    patients: dict[str, set[str]] = defaultdict(set)
    inputs: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.result is not None:
            patients[item.result.study_uid].add(item.result.patient)
            inputs[item.result.sop_uid].add(item.result.receipt.input_digest)
    for study, names in patients.items():
        names.update(folder.parent.name for folder in out.glob(f"P*/{study}"))
    judged: list[BatchItem] = []
    seen: set[str] = set()
    for item in items:
        result = item.result
        if result is None:
            judged.append(item)
        elif len(patients[result.study_uid]) > 1:
            count = {"patients": len(patients[result.study_uid])}
            judged.append(BatchItem(item.source, code=PatientConflict.code, counts=count))
        elif len(inputs[result.sop_uid]) > 1 or _differs_from_accepted(result, out):
            judged.append(BatchItem(item.source, code=DuplicateDiffers.code))
        else:
            judged.append(replace(item, is_duplicate=result.sop_uid in seen))
            seen.add(result.sop_uid)
    return judged


def _final_path(result: Deidentified, out: Path) -> Path:
    return out / result.patient / result.study_uid / result.series_uid / f"{result.sop_uid}.dcm"


def _differs_from_accepted(result: Deidentified, out: Path) -> bool:
    path = _final_path(result, out)
    return path.exists() and path.read_bytes() != result.path.read_bytes()


def _settle(items: Sequence[BatchItem], staging: Path, out: Path) -> list[BatchItem]:
    """Move the accepted files to their places, a new study with one rename."""
    ready = staging / "ready"
    studies: set[Path] = set()
    final: list[BatchItem] = []
    try:
        for item in items:
            if item.result is None:
                final.append(item)
                continue
            target = _final_path(item.result, out)
            if not item.is_duplicate:
                place = ready / target.relative_to(out)
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                item.result.path.replace(place)
                studies.add(place.parents[1])
            final.append(replace(item, result=replace(item.result, path=target)))
        for study in sorted(studies):
            _move_study(study, out / study.relative_to(ready))
    except OSError as exc:
        raise_if_disk_full(exc)
        raise
    return final


def _move_study(study: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not target.exists():
        study.replace(target)
    else:
        for path in sorted(study.rglob("*.dcm")):
            place = target / path.relative_to(study)
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.replace(place)
            fsync_folder(place.parent)
    fsync_folder(target)
    fsync_folder(target.parent)


def _settle_rejected(
    item: BatchItem, quarantine: Path, profile: Profile, key: ProjectKey
) -> audit_file.AuditEntry:
    """Quarantine a rejected source; return what the audit says of the item."""
    if item.result is not None:
        receipt = item.result.receipt
        return audit_file.AuditEntry(
            code=receipt.code,
            key_id=key.key_id,
            input_digest=receipt.input_digest,
            receipt=receipt,
        )
    code = item.code or InternalFault.code
    note = quarantine_file(
        item.source, quarantine, code, key=key, profile=profile.name, counts=item.counts
    )
    return audit_file.AuditEntry(code=code, key_id=key.key_id, input_digest=note.stem)


def _report(
    items: Sequence[BatchItem],
    on_result: Callable[[BatchItem], None] | None,
    profile: Profile,
    head: str,
    seconds: float,
) -> BatchSummary:
    quarantined: dict[str, int] = defaultdict(int)
    for item in items:
        if item.result is None:
            quarantined[item.code or InternalFault.code] += 1
        elif not item.is_duplicate:
            events.emit(
                "object.accepted",
                digest=item.result.sha256[:12],
                profile=profile.name,
                bytes=item.result.size_bytes,
            )
        if on_result is not None:
            on_result(item)
    duplicates = sum(item.is_duplicate for item in items)
    rejected = sum(quarantined.values())
    accepted = len(items) - rejected - duplicates
    events.emit(
        "batch.finished",
        accepted=accepted,
        quarantined=rejected,
        count=len(items),
        seconds=float(seconds),
    )
    return BatchSummary(accepted, duplicates, dict(sorted(quarantined.items())), seconds, head)
