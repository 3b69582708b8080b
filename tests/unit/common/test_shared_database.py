"""A database that several processes create at the same time."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pleura.common.database import named, open_database, open_to_read, transaction
from pleura.common.errors import DatabaseDamaged, DiskFailed, DiskFull


def test_several_may_create_one_database_at_the_same_time(tmp_path: Path) -> None:
    def opened(path: Path) -> str:
        database = open_database(path, schema="CREATE TABLE t (a INTEGER) STRICT;\n", version=1)
        try:
            return str(database.execute("PRAGMA journal_mode").fetchone()[0])
        finally:
            database.close()

    with ThreadPoolExecutor(4) as pool:
        for number in range(60):
            path = tmp_path / f"{number}.db"
            assert list(pool.map(opened, [path] * 4)) == ["wal"] * 4


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (sqlite3.SQLITE_FULL, DiskFull),
        (sqlite3.SQLITE_IOERR_WRITE, DiskFailed),
        (sqlite3.SQLITE_IOERR_SHMSIZE, DiskFailed),
        (sqlite3.SQLITE_CORRUPT, DatabaseDamaged),
        (sqlite3.SQLITE_CONSTRAINT, sqlite3.OperationalError),
    ],
)
def test_what_the_host_does_to_a_transaction_is_named(
    tmp_path: Path, number: int, kind: type[Exception]
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = number
    assert isinstance(named(error), kind)
    database = open_database(tmp_path / "a.db", schema="CREATE TABLE t (a INTEGER);\n", version=1)
    with pytest.raises(kind), transaction(database):
        database.execute("INSERT INTO t VALUES (1)")
        raise error
    assert database.execute("SELECT count(*) FROM t").fetchone()[0] == 0
    database.close()


def test_a_database_that_is_only_read_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "a b%20?.db"
    schema = "CREATE TABLE t (a INTEGER);\n"
    writer = open_database(path, schema=schema, version=1)
    with transaction(writer):
        writer.execute("INSERT INTO t VALUES (7)")
    with closing(open_to_read(path, version=1)) as reader:  # beside a writer, its log included
        assert reader.execute("SELECT a FROM t").fetchone()[0] == 7
        with pytest.raises(sqlite3.OperationalError):
            reader.execute("INSERT INTO t VALUES (8)")
    writer.close()
    with closing(open_to_read(path, version=1)) as reader:
        assert reader.execute("SELECT a FROM t").fetchone()[0] == 7
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_database_of_another_version_or_none_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    open_database(path, schema="CREATE TABLE t (a INTEGER);\n", version=1).close()
    with pytest.raises(DatabaseDamaged, match="version"):
        open_to_read(path, version=2)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(DatabaseDamaged):
        open_to_read(path, version=1)
