"""SQLite as Pleura uses it: WAL, FULL for promises, checked at start, one writer a file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pleura.common.errors import DatabaseDamaged, DiskFailed, DiskFull, PleuraError
from pleura.common.files import raise_if_disk_full

_WAL_TRIES: Final = 100
_WAL_PAUSE_S: Final = 0.05
_PRIMARY: Final = 0xFF  # the part of an error code that names its kind


def open_database(
    path: Path, *, schema: str, version: int, durable: bool = True
) -> sqlite3.Connection:
    """Open or create a database whose `user_version` is `version`.

    `schema` is run once when the file is new. `durable` means `synchronous=FULL`:
    a committed row survives a crash of the machine.

    Raises:
        DatabaseDamaged: the check failed, or the file is of another version.
        DiskFull, DiskFailed: the volume has no room, or does not do as it is told.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        path.touch(mode=0o600)  # before SQLite: its log files take the mode of the database
    except OSError as exc:
        raise_if_disk_full(exc)
        raise
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    with _closed_on_fault(connection):
        connection.execute("PRAGMA busy_timeout=5000")
        _enter_wal(connection)
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")
        _check_content(connection)
        with transaction(connection):
            found = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if found == 0:
                _run_script(connection, schema)
                connection.execute(f"PRAGMA user_version={version}")
            _check_version(connection, version)
        path.chmod(0o600)
    return connection


def open_to_read(path: Path, *, version: int) -> sqlite3.Connection:
    """Open a database that is there to read it, also where nothing can be written.

    Raises:
        DatabaseDamaged: the check failed, or the file is of another version.
        DiskFailed: the volume does not do as it is told.
        sqlite3.OperationalError: the host refuses it.
    """
    log = path.with_name(path.name + "-wal")
    # Without a log nobody writes, and SQLite can do without files of its own beside the database.
    how = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, isolation_level=None)
    connection.row_factory = sqlite3.Row
    with _closed_on_fault(connection):
        connection.execute("PRAGMA busy_timeout=5000")
        _check_content(connection)
        _check_version(connection, version)
    return connection


@contextmanager
def _closed_on_fault(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as exc:
        connection.close()
        raise named(exc) from exc
    except BaseException:
        connection.close()
        raise


def _check_content(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise DatabaseDamaged("quick_check failed")


def _check_version(connection: sqlite3.Connection, version: int) -> None:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found != version:
        raise DatabaseDamaged(f"schema version {found}, this program knows {version}")


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL; SQLite does not wait by itself while another process does the same."""
    for attempt in range(_WAL_TRIES):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or attempt == _WAL_TRIES - 1:
                raise
            time.sleep(_WAL_PAUSE_S)
        else:
            return


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One write transaction: BEGIN IMMEDIATE, then COMMIT, or ROLLBACK on any error.

    Raises:
        DiskFull, DiskFailed: the volume has no room, or fails; nothing of the block is kept.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as exc:
        raise named(exc) from exc
    try:
        yield connection
        connection.execute("COMMIT")
    except sqlite3.OperationalError as exc:
        _rollback(connection)
        if isinstance(fault := named(exc), PleuraError):
            raise fault from exc
        raise
    except BaseException:
        _rollback(connection)
        raise


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _run_script(connection: sqlite3.Connection, schema: str) -> None:
    statement = ""
    for line in schema.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    if statement.strip():
        connection.execute(statement)


def named(exc: sqlite3.DatabaseError) -> Exception:
    """Return the error of the tree that tells what happened, or the given one if none does."""
    if exc.sqlite_errorcode == sqlite3.SQLITE_FULL:
        return DiskFull("no space left for the database")
    if exc.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_IOERR:  # a full tmpfs says so too
        return DiskFailed("the database cannot be read or written")
    if exc.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseDamaged("not a sound database")
    return exc
