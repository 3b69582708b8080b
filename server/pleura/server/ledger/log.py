"""The statement log: append-only, each envelope once, its head a hash chain.

`h_i = SHA-256(h_{i-1} || leaf_i)` with `h_0` 32 zero bytes and
`leaf_i = SHA-256(0x00 || envelope)`, the leaf hash of RFC 6962 section 2.1. Two
logs with the same head hold the same envelopes in the same order. Triggers in the
database refuse to change or remove an entry.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pleura.common import events
from pleura.common.canonical import sha256_hex
from pleura.common.database import open_database, transaction
from pleura.common.errors import DatabaseDamaged
from pleura.common.ids import short

EMPTY_HEAD = bytes(32)
KIND_PATTERN = r"[a-z][a-z_]{1,23}"
SCHEMA = """
CREATE TABLE entries (
    ix INTEGER PRIMARY KEY CHECK (ix >= 0),
    kind TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE CHECK (length(digest) = 64),
    envelope BLOB NOT NULL,
    head BLOB NOT NULL CHECK (length(head) = 32)
) STRICT;
CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
"""


@dataclass(frozen=True, slots=True)
class LogHead:
    """How many entries there are, and the chain's digest over all of them (64 hex)."""

    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry: its index from 0, its kind and the signed bytes."""

    index: int
    kind: str
    digest: str
    envelope: bytes


def leaf_hash(envelope: bytes) -> bytes:
    """Return the RFC 6962 leaf hash of an envelope."""
    return hashlib.sha256(b"\x00" + envelope).digest()


def next_head(head: bytes, envelope: bytes) -> bytes:
    """Return the chain's head after `envelope`."""
    return hashlib.sha256(head + leaf_hash(envelope)).digest()


class StatementLog:
    """The log in one SQLite file with `synchronous=FULL`."""

    def __init__(self, path: Path) -> None:
        """Open or create the log.

        Raises:
            DatabaseDamaged: the file failed its check.
        """
        self._db = open_database(path, schema=SCHEMA, version=1)

    def close(self) -> None:
        self._db.close()

    def append(self, kind: str, envelope: bytes) -> int:
        """Append an envelope and return its index; one already there keeps its index.

        Raises:
            ValueError: `kind` is not a short lower-case word.
            DiskFull: the volume has no room; the log is unchanged.
        """
        if re.fullmatch(KIND_PATTERN, kind) is None:
            raise ValueError("kind of a log entry")
        digest = sha256_hex(envelope)
        with transaction(self._db) as db:
            found = db.execute("SELECT ix FROM entries WHERE digest = ?", (digest,)).fetchone()
            if found is not None:
                return int(found["ix"])
            index, head = _tip(db)
            db.execute(
                "INSERT INTO entries (ix, kind, digest, envelope, head) VALUES (?, ?, ?, ?, ?)",
                (index, kind, digest, envelope, next_head(head, envelope)),
            )
        events.emit("log.appended", count=index + 1, digest=short(digest), kind=kind)
        return index

    def head(self) -> LogHead:
        """Return size and chain digest; the empty log's digest is 64 zeros."""
        size, head = _tip(self._db)
        return LogHead(size, head.hex())

    def index_of(self, digest: str) -> int | None:
        """Return the index of the envelope with this SHA-256, or None."""
        row = self._db.execute("SELECT ix FROM entries WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else int(row["ix"])

    def entries(self, start: int = 0, limit: int = 1000) -> tuple[LogEntry, ...]:
        """Return up to `limit` entries from index `start`."""
        rows = self._db.execute(
            "SELECT ix, kind, digest, envelope FROM entries WHERE ix >= ? ORDER BY ix LIMIT ?",
            (start, limit),
        )
        return tuple(LogEntry(r["ix"], r["kind"], r["digest"], r["envelope"]) for r in rows)

    def verify(self) -> LogHead:
        """Recompute the whole chain and return its head.

        Raises:
            DatabaseDamaged: an entry, its digest, its index or its head was changed.
        """
        head, size = EMPTY_HEAD, 0
        for row in self._stream():
            head = next_head(head, row["envelope"])
            digest = sha256_hex(row["envelope"])
            if (row["ix"], row["digest"], row["head"]) != (size, digest, head):
                raise DatabaseDamaged(f"log entry {size} was changed")
            size += 1
        return LogHead(size, head.hex())

    def _stream(self) -> Iterator[sqlite3.Row]:
        yield from self._db.execute("SELECT * FROM entries ORDER BY ix")


def _tip(db: sqlite3.Connection) -> tuple[int, bytes]:
    row = db.execute("SELECT ix, head FROM entries ORDER BY ix DESC LIMIT 1").fetchone()
    return (0, EMPTY_HEAD) if row is None else (int(row["ix"]) + 1, bytes(row["head"]))
