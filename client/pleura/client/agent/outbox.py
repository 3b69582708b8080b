"""Outbox: answers of the site the agent holds until the coordinator has them.

An answer is written before its blob is sent and before the reply is given, and
kept for 30 days after that: Flower's state is disposable, so the coordinator may
ask again for an answer it already had, and gets the same bytes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal, cast

from pleura.common.clock import to_rfc3339
from pleura.common.database import open_database, transaction

KEEP: Final = timedelta(days=30)
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE answers (
  order_digest TEXT PRIMARY KEY,
  envelope BLOB NOT NULL,
  blob_sha256 TEXT NOT NULL,
  blob_size INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('made', 'uploaded', 'acknowledged')),
  changed TEXT NOT NULL
) STRICT;
"""
State = Literal["made", "uploaded", "acknowledged"]


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """One signed answer; `blob_sha256` is empty if it has no blob."""

    order_digest: str
    envelope: bytes
    blob_sha256: str
    blob_size: int
    state: State


class Outbox:
    """`agent/agent.db`; the agent process is its only writer.

    Raises:
        DatabaseDamaged: the file fails its check or is of another version.
    """

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, schema=_SCHEMA, version=_VERSION)
        self._lock = threading.Lock()

    def close(self) -> None:
        self._db.close()

    def put(
        self, order_digest: str, envelope: bytes, blob_sha256: str, blob_size: int, now: datetime
    ) -> KeptAnswer:
        """Keep an answer durably; the first one of an order stays.

        Raises:
            DiskFull: the volume has no room; the trainer still has the answer.
        """
        with self._lock, transaction(self._db) as db:
            db.execute(
                "INSERT INTO answers VALUES (?,?,?,?,'made',?) ON CONFLICT DO NOTHING",
                (order_digest, envelope, blob_sha256, blob_size, to_rfc3339(now)),
            )
        kept = self.get(order_digest)
        if kept is None:
            raise LookupError("an answer just kept is gone")
        return kept

    def get(self, order_digest: str) -> KeptAnswer | None:
        """Return the kept answer of an order, if there is one."""
        with self._lock:
            row = self._db.execute(
                "SELECT order_digest, envelope, blob_sha256, blob_size, state"
                " FROM answers WHERE order_digest = ?",
                (order_digest,),
            ).fetchone()
        return None if row is None else _kept(tuple(row))

    def mark(self, order_digest: str, state: Literal["uploaded", "acknowledged"],
             now: datetime) -> None:  # fmt: skip
        """Move an answer on; it never goes back from acknowledged."""
        with self._lock, transaction(self._db) as db:
            db.execute(
                "UPDATE answers SET state = ?, changed = ?"
                " WHERE order_digest = ? AND state <> 'acknowledged'",
                (state, to_rfc3339(now), order_digest),
            )

    def pending(self) -> tuple[KeptAnswer, ...]:
        """Return the answers the coordinator has not acknowledged, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT order_digest, envelope, blob_sha256, blob_size, state"
                " FROM answers WHERE state <> 'acknowledged' ORDER BY changed"
            ).fetchall()
        return tuple(_kept(tuple(row)) for row in rows)

    def sweep(self, now: datetime) -> int:
        """Forget answers acknowledged more than 30 days ago; return how many."""
        with self._lock, transaction(self._db) as db:
            return db.execute(
                "DELETE FROM answers WHERE state = 'acknowledged' AND changed < ?",
                (to_rfc3339(now - KEEP),),
            ).rowcount


def _kept(row: tuple[object, ...]) -> KeptAnswer:
    digest, envelope, blob_sha256, blob_size, state = row
    return KeptAnswer(
        str(digest),
        bytes(cast(bytes, envelope)),
        str(blob_sha256),
        int(cast(int, blob_size)),
        cast(State, state),
    )
