"""Ingest rows: durable memory of what was taken in, and of moves under way.

A source file is known by the keyed hash of its path, its size and its time of
change; no path is stored. `moves` is the journal of a commit: a path is written
before its file enters the store and struck out after the catalog names it, so
that a crash in between leaves no file without a row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pleura.client.ingest.watcher import Stamp
from pleura.common.database import open_database, transaction

State = Literal["stored", "duplicate", "quarantined"]
VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS sources (
    name TEXT PRIMARY KEY CHECK (length(name) = 64),
    size_bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('stored', 'duplicate', 'quarantined')),
    code TEXT NOT NULL DEFAULT '',
    CHECK ((state = 'quarantined') = (code <> ''))
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    audit_head TEXT NOT NULL CHECK (length(audit_head) = 64)
) STRICT;

CREATE TABLE IF NOT EXISTS moves (
    path TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """The outcome of one state of one source file."""

    name: str  # keyed hash of the path
    stamp: Stamp
    state: State
    code: str = ""


class IngestRows:
    """`ingest/ingest.db`.

    Raises:
        DatabaseDamaged: the file fails its check or is of another version.
    """

    def __init__(self, path: Path) -> None:
        self._db: sqlite3.Connection = open_database(path, schema=SCHEMA, version=VERSION)

    def close(self) -> None:
        self._db.close()

    def known(self) -> dict[str, Stamp]:
        """Return the last finished state of every source, by keyed name.

        Sources refused as INTERNAL (a lost worker, a fault of ours) are left out, so
        that each start of the process tries them once more.
        """
        rows = self._db.execute(
            "SELECT name, size_bytes, mtime_ns FROM sources WHERE code <> 'INTERNAL'"
        )
        return {str(row[0]): Stamp(row[1], row[2]) for row in rows}

    def finish(self, rows: Sequence[SourceRow]) -> None:
        """Record outcomes; a source that changed since gets its new state."""
        with transaction(self._db) as db:
            db.executemany(
                "INSERT INTO sources VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE SET"
                " size_bytes=excluded.size_bytes, mtime_ns=excluded.mtime_ns,"
                " state=excluded.state, code=excluded.code",
                [(r.name, r.stamp.size_bytes, r.stamp.mtime_ns, r.state, r.code) for r in rows],
            )

    def record_batch(self, batch_id: str, audit_head: str) -> None:
        """Remember the head of a batch's audit file, so that a later change shows."""
        with transaction(self._db) as db:
            db.execute("INSERT INTO batches (id, audit_head) VALUES (?,?)", (batch_id, audit_head))

    def open_moves(self, paths: Sequence[str]) -> None:
        """Announce files that are about to enter the store."""
        with transaction(self._db) as db:
            db.executemany("INSERT OR IGNORE INTO moves VALUES (?)", [(path,) for path in paths])

    def close_moves(self, paths: Sequence[str]) -> None:
        """Strike out files that the catalog names, or that were removed again."""
        with transaction(self._db) as db:
            db.executemany("DELETE FROM moves WHERE path = ?", [(path,) for path in paths])

    def pending_moves(self) -> tuple[str, ...]:
        """Return the announced files that were not struck out: a crash lies between."""
        return tuple(str(row[0]) for row in self._db.execute("SELECT path FROM moves"))
