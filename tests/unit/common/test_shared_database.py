"""A database that several processes create at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pleura.common.database import open_database


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
