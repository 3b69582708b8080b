"""The journal of a batch: which inputs are finished, so that a killed batch goes on.

A row is keyed by H("name", path) and H("stamp", size and time): no name, value or time of a
patient's file is in it. A row lives from the moment a file is staged or refused; it is final
once the file is in its place, or in quarantine, and the audit has its line.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from pleura.anonymizer.audit import Mark
from pleura.anonymizer.errors import BatchRunning
from pleura.anonymizer.pseudonyms import Origin
from pleura.common.database import open_database, open_to_read, transaction

# Rows are written together: every transaction writes most pages of the indices anew.
_TOGETHER: Final = 1024
_TOGETHER_S: Final = 1.0
_VERSION: Final = 4

_SCHEMA: Final = """
CREATE TABLE files (
    name TEXT PRIMARY KEY,
    stamp TEXT NOT NULL,
    settings TEXT NOT NULL,
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN
        ('staged', 'refused', 'accepted', 'duplicate', 'quarantined')),
    code TEXT NOT NULL,
    counts TEXT NOT NULL,
    patient TEXT NOT NULL,
    study TEXT NOT NULL,
    series TEXT NOT NULL,
    sop TEXT NOT NULL,
    modality TEXT NOT NULL,
    slice_number INTEGER,
    looked INTEGER,
    input_digest TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    staged TEXT NOT NULL,
    placed TEXT NOT NULL,
    accession_key TEXT NOT NULL,
    sop_key TEXT NOT NULL,
    receipt BLOB NOT NULL
) STRICT;
CREATE INDEX by_study ON files (study, patient);
CREATE INDEX by_sop ON files (sop);
CREATE INDEX by_run ON files (run, state);
CREATE TABLE audit (
    only INTEGER PRIMARY KEY CHECK (only = 1), size_bytes INTEGER NOT NULL, head TEXT NOT NULL
) STRICT;
CREATE TABLE origin (
    only INTEGER PRIMARY KEY CHECK (only = 1), key_id TEXT NOT NULL, mapping TEXT NOT NULL
) STRICT;
CREATE TABLE quarantines (folder BLOB PRIMARY KEY) STRICT;
CREATE TABLE runs (run INTEGER PRIMARY KEY, settings TEXT NOT NULL) STRICT;
"""
_LOOKED_AT: Final = """
SELECT series, seq, slice_number IS NULL, looked FROM files
WHERE run = ? AND state = 'staged' ORDER BY slice_number, seq
"""


class Row(NamedTuple):
    """One input's state. `staged` is relative to the staging folder, `placed` to the output.

    `slice_number` is the instance number of a slice that nobody read. `looked` is 1 where the
    pixels have text, as a look at them or reading them said, and 0 where they have none.
    """

    name: str
    stamp: str
    settings: str = ""
    run: int = 0
    seq: int = 0
    state: str = "refused"
    code: str = ""
    counts: str = "{}"
    patient: str = ""
    study: str = ""
    series: str = ""
    sop: str = ""
    modality: str = ""
    slice_number: int | None = None
    looked: int | None = None
    input_digest: str = ""
    sha256: str = ""
    size_bytes: int = 0
    staged: str = ""
    placed: str = ""
    accession_key: str = ""
    sop_key: str = ""
    receipt: bytes = b""

    @property
    def numbers(self) -> Mapping[str, int]:
        """The counts of a refusal."""
        return {str(k): int(v) for k, v in json.loads(self.counts).items()}


_COLUMNS: Final = ", ".join(Row._fields)
_MARKS: Final = ",".join("?" * len(Row._fields))


class Series(NamedTuple):
    """Slices of one series that nobody read, by input number and in the order of the series.

    `shows_text`: another object of the series was read and had text. `looked` holds what
    earlier looks at slices said.
    """

    unread: Sequence[int]
    shows_text: bool
    looked: Mapping[int, bool]

    @property
    def is_suspect(self) -> bool:
        """Whether all of its slices have to be read."""
        return self.shows_text or any(self.looked.values())


class Journal:
    """The journal beside an output folder, locked against a second batch.

    Raises on opening:
        BatchRunning: another process works on the same output.
        DatabaseDamaged: the file is no sound journal.
    """

    def __init__(self, path: Path, settings: str) -> None:
        self._lock = _locked(path)
        try:
            self._db = open_database(path, schema=_SCHEMA, version=_VERSION, durable=False)
        except BaseException:
            os.close(self._lock)
            raise
        self.settings = settings
        with transaction(self._db):
            self.run = 1 + self._number("SELECT coalesce(max(run), 0) FROM runs")
            self._db.execute("INSERT INTO runs VALUES (?, ?)", (self.run, settings))
        self._buffer: list[Row] = []
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Write what is buffered and let the next batch in."""
        try:
            self.flush()
        finally:
            self._db.close()
            os.close(self._lock)

    def _number(self, query: str, *values: object) -> int:
        return int(self._db.execute(query, values).fetchone()[0])

    def note_origin(self, origin: Origin, quarantine: Path) -> Origin:
        """Keep where the first run's names came from, and every folder refused objects went to.

        Return the origin of the first run.
        """
        with transaction(self._db):
            self._db.execute("INSERT OR IGNORE INTO origin VALUES (1, ?, ?)", origin)
            folder = os.fsencode(quarantine.resolve())
            self._db.execute("INSERT OR IGNORE INTO quarantines VALUES (?)", (folder,))
        return Origin(*self._db.execute("SELECT key_id, mapping FROM origin").fetchone())

    # --- while files are processed ------------------------------------------------

    def find(self, name: str) -> Row | None:
        """Return the row that an earlier run left of an input."""
        if self.run == 1:
            return None
        for row in self._rows("WHERE name = ?", name):
            return row
        return None

    def knows_staged(self, staged: str) -> bool:
        """Return whether a complete row names this staged file."""
        query = "SELECT count(*) FROM files WHERE sop = ? AND staged = ? AND state = 'staged'"
        return self._number(query, Path(staged).stem, staged) > 0

    def put(self, row: Row) -> None:
        """Record a row of this run with the next ones: a kill costs a second of work, not more."""
        self._buffer.append(row._replace(settings=self.settings, run=self.run))
        if len(self._buffer) >= _TOGETHER or time.monotonic() - self._flushed > _TOGETHER_S:
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows."""
        self._flushed = time.monotonic()
        if self._buffer:
            rows, self._buffer = self._buffer, []
            with transaction(self._db):
                self._write(rows)

    def adopt(self, row: Row, seq: int) -> None:
        """Count a row of an earlier run as part of this one."""
        self.flush()
        with transaction(self._db):
            self._db.execute(
                "UPDATE files SET run = ?, seq = ? WHERE name = ?", (self.run, seq, row.name)
            )

    def unread_series(self) -> list[Series]:
        """Return the staged slices of this run that nobody looked at for text, by series."""
        self.flush()
        unread: dict[str, list[int]] = defaultdict(list)
        looked: dict[str, dict[int, bool]] = defaultdict(dict)
        with_text: set[str] = set()
        for series, seq, is_read, answer in self._db.execute(_LOOKED_AT, (self.run,)):
            if is_read:
                with_text.update([series] if answer else [])
                continue
            unread[series].append(seq)
            if answer is not None:
                looked[series][seq] = bool(answer)
        return [Series(slices, uid in with_text, looked[uid]) for uid, slices in unread.items()]

    def note_look(self, seq: int, *, shows_text: bool) -> None:
        """Keep what a look at an input's pixels said."""
        with transaction(self._db):
            self._db.execute(
                "UPDATE files SET looked = ? WHERE run = ? AND seq = ?",
                (int(shows_text), self.run, seq),
            )

    def staged_inputs(self) -> dict[int, str]:
        """Return where the staged file of each input of this run is."""
        query = "SELECT seq, staged FROM files WHERE run = ? AND state = 'staged'"
        return {int(seq): str(staged) for seq, staged in self._db.execute(query, (self.run,))}

    # --- while studies are settled ------------------------------------------------

    def settle(self, rows: Sequence[Row], audit: Mark) -> None:
        """Make the final state of some rows, and the end of the audit, one change."""
        change = (
            "UPDATE files SET state = ?, code = ?, counts = ?, input_digest = ?, placed = ?,"
            " staged = '', receipt = x'' WHERE name = ?"
        )
        values = [(r.state, r.code, r.counts, r.input_digest, r.placed, r.name) for r in rows]
        self._settle(audit, lambda: self._db.executemany(change, values))

    def settle_whole(self, study: str, audit: Mark) -> None:
        """Accept all waiting rows of a study, each in its place below the staging tree."""
        change = (
            "UPDATE files SET state = 'accepted', placed = substr(staged, instr(staged, '/') + 1),"
            " staged = '', receipt = x'' WHERE study = ? AND run = ? AND state = 'staged'"
        )
        self._settle(audit, lambda: self._db.execute(change, (study, self.run)))

    def _settle(self, audit: Mark, change: Callable[[], object]) -> None:
        with transaction(self._db):
            change()
            self._db.execute("INSERT OR REPLACE INTO audit VALUES (1, ?, ?)", audit)

    def audit_mark(self) -> Mark:
        """Return where the audit file ended when the last rows became final."""
        for size_bytes, head in self._db.execute("SELECT size_bytes, head FROM audit"):
            return Mark(int(size_bytes), str(head))
        return Mark()

    def begin_audit(self) -> None:
        """Forget the audit file: another one begins."""
        self._settle(Mark(), lambda: None)

    def staged_studies(self) -> list[str]:
        """Return the studies of this run that wait to be settled."""
        query = "SELECT DISTINCT study FROM files WHERE run = ? AND state = 'staged' ORDER BY study"
        return [str(row[0]) for row in self._db.execute(query, (self.run,))]

    def staged_of(self, study: str) -> list[Row]:
        """Return the waiting rows of a study in input order."""
        where = "WHERE study = ? AND run = ? AND state = 'staged' ORDER BY seq"
        return list(self._rows(where, study, self.run))

    def waiting(self, study: str) -> int:
        """Return how many rows of a study wait to be settled."""
        query = "SELECT count(*) FROM files WHERE study = ? AND run = ? AND state = 'staged'"
        return self._number(query, study, self.run)

    def patients_of(self, study: str) -> set[str]:
        """Return the patients of a study, waiting or accepted."""
        query = (
            "SELECT DISTINCT patient FROM files WHERE study = ?"
            " AND ((state = 'staged' AND run = ?) OR state IN ('accepted', 'duplicate'))"
        )
        return {str(row[0]) for row in self._db.execute(query, (study, self.run))}

    def modalities_of(self, study: str) -> dict[str, str]:
        """Return the modality of every input of a study, waiting or accepted, by its name."""
        query = (
            "SELECT name, modality FROM files WHERE study = ?"
            " AND ((state = 'staged' AND run = ?) OR state IN ('accepted', 'duplicate'))"
        )
        return {str(row[0]): str(row[1]) for row in self._db.execute(query, (study, self.run))}

    def disputed(self) -> list[tuple[str, str]]:
        """Return the waiting rows whose SOP instance has other bytes elsewhere, of any study.

        Beside each stands where the other one was placed, if it was accepted before.
        """
        query = (
            "SELECT DISTINCT a.name, b.placed FROM files a JOIN files b ON a.sop = b.sop"
            " WHERE a.run = ? AND a.state = 'staged' AND"
            " ((b.state = 'staged' AND b.run = a.run AND b.input_digest <> a.input_digest)"
            " OR (b.state = 'accepted' AND b.sha256 <> a.sha256 AND b.name <> a.name))"
        )
        return [(str(name), str(placed)) for name, placed in self._db.execute(query, (self.run,))]

    def repeated(self, study: str) -> set[str]:
        """Return the waiting rows of a study whose SOP instance another input brought before."""
        query = (
            "SELECT DISTINCT a.name FROM files a JOIN files b ON a.sop = b.sop"
            " WHERE a.study = ? AND a.run = ? AND a.state = 'staged'"
            " AND b.state = 'accepted' AND b.name <> a.name"
        )
        return {str(row[0]) for row in self._db.execute(query, (study, self.run))}

    def refused(self, count: int) -> list[Row]:
        """Return some refused rows of this run that wait for quarantine."""
        return list(
            self._rows("WHERE run = ? AND state = 'refused' ORDER BY seq LIMIT ?", self.run, count)
        )

    def fates(self) -> dict[tuple[str, str], int]:
        """Return how many inputs of this run ended in which state and code."""
        query = "SELECT state, code, count(*) FROM files WHERE run = ? GROUP BY state, code"
        return {(str(s), str(c)): int(n) for s, c, n in self._db.execute(query, (self.run,))}

    def ends(self) -> Iterator[tuple[int, str, str]]:
        """Yield number, code and place of every input of this run; what is refused has no place."""
        query = (
            "SELECT seq, code, placed FROM files WHERE run = ?"
            " AND state IN ('accepted', 'duplicate', 'quarantined') ORDER BY seq"
        )
        for seq, code, placed in self._db.execute(query, (self.run,)):
            yield int(seq), str(code), str(placed)

    def _rows(self, where: str, *values: object) -> Iterator[Row]:
        for row in self._db.execute(f"SELECT {_COLUMNS} FROM files {where}", values):
            yield Row(*row)

    def _write(self, rows: Sequence[Row]) -> None:
        self._db.executemany(f"INSERT OR REPLACE INTO files ({_COLUMNS}) VALUES ({_MARKS})", rows)


@contextmanager
def no_batch(path: Path) -> Iterator[None]:
    """Keep batches off the output of a journal for the length of a block.

    Raises:
        BatchRunning: one works on it.
    """
    lock = _locked(path)
    try:
        yield
    finally:
        os.close(lock)


def places_of(path: Path, patient: str) -> list[str]:
    """Return where a journal, if there is one, placed a patient's files, below the output."""
    if not path.exists():
        return []
    with closing(open_database(path, schema=_SCHEMA, version=_VERSION)) as db:
        query = "SELECT placed FROM files WHERE patient = ? AND placed <> ''"
        return [str(row[0]) for row in db.execute(query, (patient,))]


def origin_of(path: Path) -> tuple[Origin | None, list[Path]]:
    """Return where a journal's names came from, and the quarantines of its runs.

    None if there is no journal, or none of its runs came so far.
    """
    if not path.exists():
        return None, []
    with closing(open_database(path, schema=_SCHEMA, version=_VERSION)) as db:
        row = db.execute("SELECT key_id, mapping FROM origin").fetchone()
        folders = [Path(os.fsdecode(f)) for (f,) in db.execute("SELECT folder FROM quarantines")]
    return None if row is None else Origin(*row), folders


def audit_mark_of(path: Path) -> Mark:
    """Return where a journal, if there is one, says the audit ended; nothing is written.

    Raises:
        DatabaseDamaged: the file is no sound journal.
        sqlite3.OperationalError: the host refuses it.
    """
    if not path.exists() or not path.stat().st_size:
        return Mark()
    with closing(open_to_read(path, version=_VERSION)) as db:
        for size_bytes, head in db.execute("SELECT size_bytes, head FROM audit"):
            return Mark(int(size_bytes), str(head))
    return Mark()


def forget_patient(path: Path, patient: str) -> None:
    """Delete a patient's rows from a journal, if there is one, and what the disk keeps of them."""
    if not path.exists():
        return
    with closing(open_database(path, schema=_SCHEMA, version=_VERSION)) as db:
        db.execute("PRAGMA secure_delete=ON")
        with transaction(db):
            db.execute("DELETE FROM files WHERE patient = ?", (patient,))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _locked(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise BatchRunning from None
    return lock
