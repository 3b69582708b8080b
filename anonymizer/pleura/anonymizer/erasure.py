"""Erasure: what a patient's pseudonym leads to, and making all of it go (GDPR 17).

The index (SQLite, 0600) knows pseudonyms only: which files are a patient's, in which rounds of
which runs they were trained on, and the keyed tombstones of those who were erased. `erase` can
be killed at any step and be called again. What a model learned does not go: the rounds it
lists are for whoever decides about that model.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from pydicom import dcmread
from pydicom.config import disable_value_validation

from pleura.anonymizer.errors import Erased, ErasureRefused
from pleura.anonymizer.pseudonyms import Pseudonyms
from pleura.common import events
from pleura.common.database import open_database, transaction
from pleura.common.files import fsync_folder

_IDENTITY: Final = ("PatientID", "StudyInstanceUID")
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE files (
    path TEXT PRIMARY KEY,
    pseudonym TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX files_pseudonym ON files (pseudonym);

CREATE TABLE uses (
    pseudonym TEXT NOT NULL,
    cohort TEXT NOT NULL,
    run TEXT NOT NULL,
    round INTEGER NOT NULL CHECK (round >= 0),
    PRIMARY KEY (pseudonym, cohort, run, round)
) STRICT, WITHOUT ROWID;

CREATE TABLE tombstones (
    token TEXT PRIMARY KEY CHECK (length(token) = 64),
    subject TEXT NOT NULL CHECK (length(subject) = 64),
    is_done INTEGER NOT NULL CHECK (is_done IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_subject ON tombstones (subject);
"""


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """One round of one run that a cohort was used in."""

    cohort: str
    run: str
    round: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """What one erasure did: files and mapping rows deleted, and the rounds trained before.

    `is_repeat`: the patient had been erased already; the rounds are still listed.
    """

    files: int
    mapping_rows: int
    rounds: tuple[Use, ...]
    is_repeat: bool = False


class FileRows(Protocol):
    """Who knows a patient's files; the index itself, or a site's catalog."""

    def files_of(self, pseudonym: str) -> Sequence[str]:
        """Return the paths of a patient's files, relative to the store."""

    def drop_files(self, pseudonym: str) -> None:
        """Forget every row of a patient, durably."""


class ErasureIndex:
    """`erasure.db`. Two processes may hold it: one that takes in, one that trains.

    Raises:
        DatabaseDamaged: the file fails its check or is of another version.
    """

    def __init__(self, path: Path) -> None:
        self._db: sqlite3.Connection = open_database(path, schema=_SCHEMA, version=_VERSION)
        self._db.execute("PRAGMA secure_delete=ON")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    # --- files -------------------------------------------------------------------

    def add_files(self, files: Iterable[tuple[str, str]]) -> None:
        """Record (path relative to the store, pseudonym); a path may come again."""
        with transaction(self._db) as db:
            db.executemany(
                "INSERT INTO files VALUES (?,?)"
                " ON CONFLICT DO UPDATE SET pseudonym = excluded.pseudonym",
                files,
            )

    def files_of(self, pseudonym: str) -> Sequence[str]:
        """Return the paths of a patient's files, relative to the store."""
        rows = self._db.execute(
            "SELECT path FROM files WHERE pseudonym = ? ORDER BY path", (pseudonym,)
        )
        return [str(row["path"]) for row in rows]

    def drop_files(self, pseudonym: str) -> None:
        """Forget the files of a patient."""
        with transaction(self._db) as db:
            db.execute("DELETE FROM files WHERE pseudonym = ?", (pseudonym,))

    # --- rounds ------------------------------------------------------------------

    def add_uses(self, pseudonyms: Iterable[str], use: Use) -> None:
        """Record, durably, that these patients are trained on in a round."""
        with transaction(self._db) as db:
            db.executemany(
                "INSERT OR IGNORE INTO uses VALUES (?,?,?,?)",
                [(name, use.cohort, use.run, use.round) for name in pseudonyms],
            )

    def uses_of(self, pseudonym: str) -> tuple[Use, ...]:
        """Return the rounds a patient was trained on."""
        rows = self._db.execute(
            "SELECT cohort, run, round FROM uses WHERE pseudonym = ? ORDER BY cohort, run, round",
            (pseudonym,),
        )
        return tuple(Use(row["cohort"], row["run"], row["round"]) for row in rows)

    # --- tombstones --------------------------------------------------------------

    def tombstones(self) -> frozenset[str]:
        """Return the keyed marks of all erased patients, for `deidentify_file`."""
        return frozenset(str(row["token"]) for row in self._db.execute("SELECT * FROM tombstones"))

    def tombstone_by(self, subject: str) -> tuple[str, bool] | None:
        """Return the mark laid for a subject (keyed pseudonym) and whether the work is done."""
        row = self._db.execute(
            "SELECT token, is_done FROM tombstones WHERE subject = ?", (subject,)
        ).fetchone()
        return None if row is None else (str(row["token"]), bool(row["is_done"]))

    def lay_tombstone(self, token: str, subject: str) -> None:
        """Bar a patient from now on, durably, before anything is deleted."""
        with transaction(self._db) as db:
            db.execute("INSERT OR IGNORE INTO tombstones VALUES (?,?,0)", (token, subject))

    def close_tombstone(self, subject: str) -> None:
        """Say that nothing is left to delete; the rounds stay under the keyed subject only."""
        with transaction(self._db) as db:
            db.execute("UPDATE tombstones SET is_done = 1 WHERE subject = ?", (subject,))

    def shred(self) -> None:
        """Overwrite the log too, where deleted rows may still be read."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def rename_uses(self, pseudonym: str, subject: str) -> None:
        """Keep the rounds of an erased patient under the keyed subject, not the pseudonym."""
        with transaction(self._db) as db:
            db.execute(
                "UPDATE OR REPLACE uses SET pseudonym = ? WHERE pseudonym = ?", (subject, pseudonym)
            )


def erase(
    index: ErasureIndex,
    store: Path,
    mapping: Pseudonyms,
    pseudonym: str,
    *,
    rows: FileRows | None = None,
    rounds: ErasureIndex | None = None,
    is_known: bool = False,
) -> Erasure:
    """Delete a patient: files, rows and, if drawn at random, the way back to the pseudonym.

    Order: tombstone, files, their rows, mapping, done. `rows` and `rounds` say who lists the
    files and the rounds; the index itself if None. `is_known`: the caller has other traces of
    the patient. With HMAC pseudonyms there is no row to
    shred: the name can be computed again as long as the key lives, and only the tombstone
    keeps the patient out.

    Raises:
        ErasureRefused: nobody here has or had this pseudonym; nothing was done.
        OSError: a file cannot be deleted; call again, the patient is barred already.
    """
    listed = index if rows is None else rows
    trained = index if rounds is None else rounds
    subject = mapping.keyed("erased", pseudonym)
    before = index.tombstone_by(subject)
    paths = listed.files_of(pseudonym)
    if before is None:
        token = mapping.tombstone_of(pseudonym)
        is_known = is_known or mapping.kind == "random" or bool(paths)
        if token is None or not (is_known or trained.uses_of(pseudonym)):
            raise ErasureRefused
        index.lay_tombstone(token, subject)
    deleted = _delete(store, paths)
    listed.drop_files(pseudonym)
    gone = mapping.forget(pseudonym)
    trained.rename_uses(pseudonym, subject)
    index.close_tombstone(subject)
    for database in (index, trained):
        database.shred()
    events.emit("patient.erased", count=deleted)
    is_repeat = before is not None and before[1]
    return Erasure(deleted, gone, trained.uses_of(subject), is_repeat)


def sweep_quarantine(folder: Path, names: Pseudonyms, tombstones: frozenset[str]) -> int:
    """Delete quarantined copies that name an erased patient; return how many went.

    A copy that cannot be read stays: nobody can tell whose it is.
    """
    count = 0
    for path in sorted(folder.glob("*/*.dcm")):
        try:
            with warnings.catch_warnings(), disable_value_validation():
                warnings.simplefilter("ignore")
                header = dcmread(path, stop_before_pixels=True, specific_tags=list(_IDENTITY))
                patient, study = (str(header.get(tag, "") or "") for tag in _IDENTITY)
        except Exception as exc:  # noqa: BLE001  whatever a damaged file does to the reader
            events.emit(
                "error.raised", process="erasure", code=Erased.code, error=type(exc).__name__
            )
            continue
        if names.tombstone(patient, study) in tombstones:
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)
            fsync_folder(path.parent)
            count += 1
    return count


def _delete(store: Path, paths: Sequence[str]) -> int:
    """Delete files below the store and the folders they leave empty; return how many went."""
    root = store.resolve()
    count = 0
    for name in paths:
        path = root / name
        if root not in path.resolve().parents:
            raise ErasureRefused("a path of the index leads out of the store")
        if path.exists():
            path.unlink()
            count += 1
        _drop_empty(path.parent, root)
    return count


def _drop_empty(folder: Path, root: Path) -> None:
    """Remove empty folders up to the store; the first that stays is made durable."""
    while folder != root and folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
    while not folder.exists():
        folder = folder.parent
    fsync_folder(folder)
