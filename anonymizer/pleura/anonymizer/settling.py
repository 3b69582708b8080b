"""Settling: judges staged studies and brings each to its place, or its files to quarantine.

The order is always file, audit line, journal row. A batch killed between two of them finds
out on its next run: a file that is in its place is not moved again, and a line that the audit
has beyond the length the journal knows is not written again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from pleura.anonymizer.audit import AuditEntry, AuditLog, Mark
from pleura.anonymizer.burnedin.policy import may_face
from pleura.anonymizer.errors import (
    DuplicateDiffers,
    FaceInField,
    PatientConflict,
    Quarantined,
)
from pleura.anonymizer.journal import Journal, Row
from pleura.anonymizer.members import extracted
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.pseudonyms import Pseudonyms
from pleura.anonymizer.quarantine import quarantine_file
from pleura.anonymizer.staging import READY, TREE
from pleura.anonymizer.workers import Task
from pleura.common import events
from pleura.common.clock import Clock
from pleura.common.files import fsync_file, fsync_folder

_REFUSED_AT_ONCE: Final = 200
_SYNCERS: Final = 8


class Settler:
    """Settles what a run has staged and refused."""

    def __init__(
        self,
        journal: Journal,
        audit: AuditLog,
        *,
        out: Path,
        staging: Path,
        quarantine: Path,
        profile: Profile,
        key: Pseudonyms,
        clock: Clock,
        task_of: Callable[[int], Task],
        mirror: Callable[[Task], Path] | None,
    ) -> None:
        self._journal, self._audit = journal, audit
        self._out, self._staging, self._quarantine = out, staging, quarantine
        self._profile, self._key, self._clock = profile, key, clock
        self._task_of, self._mirror = task_of, mirror
        self._accounted = journal.audit_mark()
        self._written = Counter(
            (line.input_digest, line.code) for line in audit.lines_after(self._accounted.size_bytes)
        )
        self._disputed: set[str] = set()
        self._accepted = _studies_in(out)

    def settle(self) -> Iterator[Row]:
        """Settle study after study, then the refused files; yield the final rows."""
        self._disputed = {  # before the first of them goes: they may be of several studies
            name
            for name, placed in self._journal.disputed()
            if not placed or (self._out / placed).exists()
        }
        for study in self._journal.staged_studies():
            yield from self._settle_study(study)
        while rows := self._journal.refused(_REFUSED_AT_ONCE):
            yield from self._reject(rows)
        self._written.clear()  # lines of inputs that are gone
        self._journal.settle([], self._accounted_mark())

    # --- one study -------------------------------------------------------------------

    def _settle_study(self, study: str) -> list[Row]:
        rows = self._journal.staged_of(study)
        patients = self._journal.patients_of(study) | self._accepted.get(study, set())
        if len(patients) > 1:
            count = json.dumps({"patients": len(patients)})
            lost = [r._replace(code=PatientConflict.code, counts=count) for r in rows]
            return self._turn_away(lost)
        modalities = self._journal.modalities_of(study)
        kinds = set(modalities.values())
        is_new = self._mirror is None and study not in self._accepted
        good: list[Row] = []
        refused: list[Row] = []
        for row in rows:
            placed = self._place(row)
            if may_face(modalities[row.name], kinds):
                refused.append(row._replace(code=FaceInField.code))
            elif row.name in self._disputed or not (is_new or self._fits(row, placed)):
                refused.append(row._replace(code=DuplicateDiffers.code))
            else:
                good.append(row._replace(state="accepted", placed=placed))
        final = self._accept(study, good) if good else []
        return [*final, *self._turn_away(refused)]

    def _place(self, row: Row) -> str:
        if self._mirror is not None:
            return str(self._mirror(self._task_of(row.seq)))
        return row.staged.partition("/")[2]

    def _fits(self, row: Row, placed: str) -> bool:
        path = self._out / placed
        return not path.exists() or has_bytes(path, row.sha256, row.size_bytes)

    def _accept(self, study: str, rows: Sequence[Row]) -> list[Row]:
        self._accepted.setdefault(study, set()).add(rows[0].patient)
        if not self._is_whole(study, rows):
            return self._conclude(self._accept_singly(study, rows))
        move_in(self._staging / TREE / rows[0].patient / study, self._out / rows[0].patient)
        return self._conclude(rows, whole=study)

    def _is_whole(self, study: str, rows: Sequence[Row]) -> bool:
        """Return whether rows are all of a study's folder, which has no place in `out` yet."""
        folder = Path(rows[0].staged).parents[1]
        if folder.parts[0] != TREE or (self._out / Path(*folder.parts[1:])).exists():
            return False
        if self._journal.waiting(study) != len(rows):
            return False  # some of it is turned away
        there = {
            f"{series[len(str(self._staging)) + 1 :]}/{name}"
            for series, _, names in os.walk(self._staging / folder)
            for name in names
        }
        is_planned = all(row.staged == f"{TREE}/{row.placed}" for row in rows)
        return is_planned and len(rows) == len(there) and there == {row.staged for row in rows}

    def _accept_singly(self, study: str, rows: Sequence[Row]) -> list[Row]:
        ready = self._staging / READY
        repeated = self._journal.repeated(study)
        final: list[Row] = []
        seen: set[str] = set()
        for row in rows:
            is_there = (self._out / row.placed).exists()
            is_duplicate = row.sop in seen or (is_there and row.name in repeated)
            seen.add(row.sop)
            if not is_duplicate and not is_there:
                place = ready / row.placed
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                (self._staging / row.staged).replace(place)
            final.append(row._replace(state="duplicate") if is_duplicate else row)
        for top in sorted(ready.iterdir()) if ready.exists() else ():
            move_in(top, self._out)
        return final

    # --- refusals --------------------------------------------------------------------

    def _turn_away(self, rows: Sequence[Row]) -> list[Row]:
        for row in rows:
            if row.staged:
                (self._staging / row.staged).unlink(missing_ok=True)
        return self._reject([r._replace(staged="", receipt=b"") for r in rows]) if rows else []

    def _reject(self, rows: Sequence[Row]) -> list[Row]:
        final = []
        for row in rows:
            digest = self._put_aside(self._task_of(row.seq), row)
            final.append(row._replace(state="quarantined", input_digest=digest))
        return self._conclude(final)

    def _put_aside(self, task: Task, row: Row) -> str:
        with _readable(task, self._staging) as path:
            note = quarantine_file(
                path, self._quarantine, row.code, key=self._key, profile=self._profile.name,
                counts=row.numbers,
            )  # fmt: skip
        return note.stem

    # --- audit and journal -----------------------------------------------------------

    def _conclude(self, rows: Sequence[Row], *, whole: str = "") -> list[Row]:
        """Write audit lines and final rows, of a `whole` study in one change."""
        entries = [entry for row in rows if (entry := self._entry(row)) is not None]
        self._audit.append(entries, now=self._clock.now())
        if whole:
            self._journal.settle_whole(whole, self._accounted_mark())
        else:
            self._journal.settle(rows, self._accounted_mark())
        for row in rows:
            if row.state == "accepted":
                events.emit(
                    "object.accepted", digest=row.sha256[:12], profile=self._profile.name,
                    bytes=row.size_bytes,
                )  # fmt: skip
        return list(rows)

    def _accounted_mark(self) -> Mark:
        """Return up to where every line of the audit has its row."""
        if not any(self._written.values()):
            self._accounted = self._audit.mark
        return self._accounted

    def _entry(self, row: Row) -> AuditEntry | None:
        if self._written[row.input_digest, row.code] > 0:
            self._written[row.input_digest, row.code] -= 1
            return None
        return AuditEntry(
            code=row.code, key_id=self._key.key_id, input_digest=row.input_digest,
            receipt=row.receipt,
        )  # fmt: skip


@contextmanager
def _readable(task: Task, folder: Path) -> Iterator[Path]:
    """Yield a path of a task's bytes; an archive member that cannot be unpacked has none."""
    if task.member is None:
        yield task.path
        return
    with ExitStack() as stack:
        try:
            path = stack.enter_context(extracted(task.path, task.member, folder))
        except Quarantined:
            path = folder / f"member-{task.name}"  # H("name", ..): what the note will be called by
        yield path


def has_bytes(path: Path, sha256: str, size_bytes: int) -> bool:
    """Return whether a file is there with exactly these bytes."""
    try:
        if path.stat().st_size != size_bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def move_in(tree: Path, folder: Path) -> None:
    """Move a file or a tree into `folder`, durable before it is there and by one rename if new.

    Raises:
        DiskFull: no room for what was written.
    """
    folders, files = [], [] if tree.is_dir() else [str(tree)]
    for name, _, names in os.walk(tree):
        folders.append(Path(name))
        files += [f"{name}/{file}" for file in names]
    with ThreadPoolExecutor(_SYNCERS) as pool:  # the kernel syncs what is asked for together
        list(pool.map(_sync_all, [files[start::_SYNCERS] for start in range(_SYNCERS)]))
    for inner in folders:
        fsync_folder(inner)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _move(tree, folder / tree.name)
    fsync_folder(folder.parent)


def _sync_all(files: Sequence[str]) -> None:
    for file in files:
        fsync_file(file)


def _move(path: Path, target: Path) -> None:
    if path.is_dir() and target.exists():
        for child in sorted(path.iterdir()):
            _move(child, target / child.name)
        path.rmdir()
        return
    path.replace(target)
    fsync_folder(target.parent)


def _studies_in(out: Path) -> dict[str, set[str]]:
    """Return which patients an output folder has for each study."""
    found: dict[str, set[str]] = defaultdict(set)
    if not out.exists():
        return found
    with os.scandir(out) as patients:
        for patient in patients:
            if patient.name.startswith("P") and patient.is_dir():
                for study in os.listdir(patient.path):  # noqa: PTH208
                    found[study].add(patient.name)
    return found
