"""The random mapping: pseudonyms drawn from the system's generator and remembered.

`map.db` (SQLite, 0600) leads from H(original) to the name drawn for it: without the project
key nobody can ask it for a patient, and the original itself is not in it. INSERT OR IGNORE and
then SELECT, so processes agree on the first draw. A name is durable before `session` ends, so
before any output that uses it is committed. Sealed originals are the business of `lookup`.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from pleura.anonymizer.errors import MappingOfOtherKey
from pleura.anonymizer.lookup import StewardKey, seal
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.pseudonyms import (
    Origin,
    ProjectKey,
    Pseudonyms,
    patient_value,
    pseudonym_of,
    shift_days_of,
    shift_seconds_of,
    uid_of,
)
from pleura.common.database import open_database, transaction
from pleura.common.errors import DatabaseDamaged
from pleura.common.files import fsync_file, fsync_folder

_Kind = Literal["patient", "uid", "shift"]
_VERSION: Final = 1
_SHARED: Final = "*"  # a UID that several patients' files name; nobody's erasure takes it
_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', '0');

CREATE TABLE names (
    kind TEXT NOT NULL CHECK (kind IN ('patient', 'uid', 'shift')),
    origin TEXT NOT NULL CHECK (length(origin) = 64),
    value TEXT NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (kind, origin)
) STRICT, WITHOUT ROWID;
CREATE INDEX names_value ON names (kind, value);
CREATE INDEX names_owner ON names (owner);

CREATE TABLE sealed (pseudonym TEXT PRIMARY KEY, box BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE lookups (pseudonym TEXT NOT NULL, at TEXT NOT NULL) STRICT;
"""


class RandomMapping:
    """`Pseudonyms` drawn at random; one file per (site, project, key version).

    Pickles as path, key and steward: every process opens the file on its first question.
    Not for several threads at once.
    """

    kind: Final[Literal["hmac", "random"]] = "random"

    def __init__(self, path: Path, key: ProjectKey, steward: StewardKey | None = None) -> None:
        """Name the file; nothing is opened yet.

        `steward`: seal each original PatientID to this public key, so that its owner can look
        it up again; None, the default, keeps no original anywhere.
        """
        self._path = path
        self._key = key
        self._steward = steward
        self._start()

    def _start(self) -> None:
        self._db: sqlite3.Connection | None = None
        self._pid = 0
        self._cache: dict[tuple[_Kind, str], tuple[str, str]] = {}  # name and owner
        self._generation = ""
        self._depth = 0
        self._owner = ""
        self._orphans: list[tuple[_Kind, str]] = []
        self._needs_sync = False

    def __getstate__(self) -> tuple[Path, ProjectKey, StewardKey | None]:
        return self._path, self._key, self._steward

    def __setstate__(self, state: tuple[Path, ProjectKey, StewardKey | None]) -> None:
        self._path, self._key, self._steward = state
        self._start()

    # --- Pseudonyms --------------------------------------------------------------

    @property
    def key_id(self) -> str:
        """First 16 hex digits of a hash over the project key."""
        return self._key.key_id

    @property
    def version(self) -> int:
        """Version of the project key."""
        return self._key.version

    @property
    def origin(self) -> Origin:
        """The key and this mapping: another one draws other names."""
        row = self._open().execute("SELECT value FROM meta WHERE name = 'id'").fetchone()
        return Origin(self.key_id, str(row["value"]))

    def keyed(self, domain: str, value: str) -> str:
        """Return H(domain, value) as hex."""
        return self._key.keyed(domain, value)

    def patient(self, patient_id: str, study_uid: str) -> str:
        """Return the pseudonym of a patient, drawn on the first call."""
        value = patient_value(patient_id, study_uid)
        with self.session():
            name = self._name("patient", value, lambda: pseudonym_of(os.urandom(10)))
            self._owner = name
            if self._steward is not None:
                self._seal(name, value, self._steward)
        return name

    def find(self, patient_id: str) -> str | None:
        """Return the pseudonym drawn for a patient, or None; nothing is drawn by asking."""
        origin = self._key.keyed("patient", patient_value(patient_id, ""))
        query = "SELECT value FROM names WHERE kind = 'patient' AND origin = ?"
        row = self._open().execute(query, (origin,)).fetchone()
        return None if row is None else str(row["value"])

    def uid(self, uid: str) -> str:
        """Return the replacement of a UID, a UUIDv4 under `2.25.`, drawn on the first call."""
        return self._name("uid", uid, lambda: uid_of(os.urandom(16), 4))

    def date_shift_days(self, patient_value: str, n: int = 365) -> int:
        """Return the days, 1 to n either way and never 0, that a patient's dates move."""
        return shift_days_of(self._shift(patient_value)[:8], n)

    def time_shift_seconds(self, patient_value: str) -> int:
        """Return the seconds, 1 to 86399, that a patient's times move forward."""
        return shift_seconds_of(self._shift(patient_value)[8:])

    def tombstone(self, patient_id: str, study_uid: str) -> str:
        """Return the keyed mark that an erased patient leaves: the same as in HMAC mode."""
        return self._key.tombstone(patient_id, study_uid)

    def tombstone_of(self, pseudonym: str) -> str | None:
        """Return the mark of the patient behind a pseudonym, or None if it has no row."""
        row = (
            self._open()
            .execute("SELECT origin FROM names WHERE kind = 'patient' AND value = ?", (pseudonym,))
            .fetchone()
        )
        if row is None:
            return None
        return self._key.keyed("erased", pseudonym_of(bytes.fromhex(row["origin"])))

    def forget(self, pseudonym: str) -> int:
        """Delete the patient's row and those of the UIDs, shift and seal that hang on it.

        A UID that another patient's files name too stays, or their references would break.
        What the deleted rows held is overwritten (`secure_delete`), the log included; without
        them not even the key's owner can lead an output back to the patient.
        """
        db = self._open()
        with transaction(db):
            gone = db.execute("DELETE FROM names WHERE owner = ?", (pseudonym,)).rowcount
            gone += db.execute("DELETE FROM sealed WHERE pseudonym = ?", (pseudonym,)).rowcount
            db.execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._cache.clear()
        return gone

    @contextmanager
    def session(self) -> Iterator[None]:
        """Wrap the work on one file: one sync at its end makes all its names durable."""
        if self._depth == 0:
            self._refresh()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._sync()

    def close(self) -> None:
        """Close this process's connection; the next question opens it again."""
        if self._db is not None and self._pid == os.getpid():
            self._db.close()
        self._start()

    # --- look-ups ----------------------------------------------------------------

    def sealed(self, pseudonym: str, *, at: str) -> bytes | None:
        """Return the sealed original of a pseudonym and leave a row that it was asked for.

        `at`: RFC 3339 time of the look-up. The row is durable before the box is handed out.
        """
        db = self._open()
        with transaction(db):
            db.execute("INSERT INTO lookups VALUES (?, ?)", (pseudonym, at))
            row = db.execute("SELECT box FROM sealed WHERE pseudonym = ?", (pseudonym,)).fetchone()
        self._needs_sync = True
        self._sync()
        return None if row is None else bytes(row["box"])

    def look_ups(self) -> tuple[tuple[str, str], ...]:
        """Return (pseudonym, time) of every look-up so far, oldest first."""
        rows = self._open().execute("SELECT pseudonym, at FROM lookups ORDER BY rowid")
        return tuple((row["pseudonym"], row["at"]) for row in rows)

    # --- inside ------------------------------------------------------------------

    def _shift(self, value: str) -> bytes:
        return bytes.fromhex(self._name("shift", value, lambda: secrets.token_hex(16)))

    def _name(self, kind: _Kind, original: str, draw: Callable[[], str]) -> str:
        origin = self._key.keyed(kind, original)
        name, owner = self._cache.get((kind, origin), ("", ""))
        is_foreign = kind == "uid" and self._owner and owner not in (self._owner, _SHARED)
        if name and not is_foreign:
            return name
        with self.session():
            name, owner = self._find_or_insert(kind, origin, draw)
            if kind == "uid" and self._owner and owner not in ("", self._owner, _SHARED):
                owner = self._share(origin)
            self._cache[kind, origin] = name, owner
        return name

    def _share(self, origin: str) -> str:
        with transaction(self._open()) as db:
            db.execute(
                "UPDATE names SET owner = ? WHERE kind = 'uid' AND origin = ?", (_SHARED, origin)
            )
        return _SHARED

    def _find_or_insert(self, kind: _Kind, origin: str, draw: Callable[[], str]) -> tuple[str, str]:
        db = self._open()
        # Another process may have drawn it a moment ago and not have synced it yet.
        self._needs_sync = True
        query = "SELECT value, owner FROM names WHERE kind = ? AND origin = ?"
        row = db.execute(query, (kind, origin)).fetchone()
        if row is None:
            drawn = draw()
            owner = drawn if kind == "patient" else self._owner
            with transaction(db):
                db.execute(
                    "INSERT OR IGNORE INTO names VALUES (?,?,?,?)", (kind, origin, drawn, owner)
                )
            if not owner:
                self._orphans.append((kind, origin))
            row = db.execute(query, (kind, origin)).fetchone()
        return str(row["value"]), str(row["owner"])

    def _seal(self, pseudonym: str, value: str, steward: StewardKey) -> None:
        db = self._open()
        if not db.execute("SELECT 1 FROM sealed WHERE pseudonym = ?", (pseudonym,)).fetchone():
            box = seal(value, pseudonym, steward)
            with transaction(db):
                db.execute("INSERT OR IGNORE INTO sealed VALUES (?, ?)", (pseudonym, box))
            self._needs_sync = True

    def _refresh(self) -> None:
        """Drop the cache if a patient was forgotten since, by whichever process."""
        row = self._open().execute("SELECT value FROM meta WHERE name = 'generation'").fetchone()
        if row["value"] != self._generation:
            self._cache.clear()
            self._generation = row["value"]

    def _sync(self) -> None:
        """Make every name seen so far durable, with one sync of the log and no lock held.

        Draws commit at once, for the other processes, but without a sync each
        (`synchronous=NORMAL`); what is in the log when it is synced survives.
        """
        owner, self._owner = self._owner, ""
        orphans, self._orphans = self._orphans, []
        if owner and orphans:
            with transaction(self._open()) as db:
                db.executemany(
                    "UPDATE names SET owner = ? WHERE kind = ? AND origin = ? AND owner = ''",
                    [(owner, *orphan) for orphan in orphans],
                )
            for orphan in self._cache.keys() & set(orphans):
                self._cache[orphan] = self._cache[orphan][0], owner
        if self._needs_sync:
            fsync_file(self._log)
            self._needs_sync = False

    def _open(self) -> sqlite3.Connection:
        if self._db is not None and self._pid == os.getpid():
            return self._db
        self._start()  # a forked child must not use its parent's connection
        db = open_database(self._path, schema=_SCHEMA, version=_VERSION)
        try:
            db.execute("PRAGMA secure_delete=ON")
            self._check_key(db)
            if not self._log.exists():
                raise DatabaseDamaged("the volume of the mapping takes no write-ahead log")
            fsync_folder(self._path.parent)  # the log's name, while the connection keeps it
            db.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            db.close()
            raise
        self._db, self._pid = db, os.getpid()
        return db

    @property
    def _log(self) -> Path:
        return self._path.with_name(self._path.name + "-wal")

    def _check_key(self, db: sqlite3.Connection) -> None:
        mine = f"{self._key.key_id} v{self._key.version}"
        found = db.execute("SELECT value FROM meta WHERE name = 'key'").fetchone()
        if found is None:
            with transaction(db):
                db.execute("INSERT OR IGNORE INTO meta VALUES ('id', ?)", (secrets.token_hex(8),))
                db.execute("INSERT OR IGNORE INTO meta VALUES ('key', ?)", (mine,))
            found = db.execute("SELECT value FROM meta WHERE name = 'key'").fetchone()
        if found["value"] != mine:
            raise MappingOfOtherKey(f"the mapping is of key {found['value']}")


def open_pseudonyms(
    profile: Profile,
    key: ProjectKey,
    mapping_file: Path | None = None,
    *,
    steward: StewardKey | None = None,
) -> Pseudonyms:
    """Return the pseudonyms a profile asks for; a mapping file is made on first use.

    Raises:
        MappingRequired: the profile draws at random and no file is named.
        MappingOfOtherKey: the file belongs to another key or key version.
        DatabaseDamaged: the file fails its check.
    """
    if mapping_file is None:
        profile.check_kind(key.kind)
    if mapping_file is None or profile.pseudonyms == "hmac":
        return key
    mapping = RandomMapping(mapping_file, key, steward)
    with mapping.session():  # made and checked here, before any worker asks
        pass
    return mapping
