"""Files, databases and configuration: durable, private, checked, with named errors."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from pleura.common.config import load_toml
from pleura.common.database import open_database, transaction
from pleura.common.errors import (
    ConfigUnreadable,
    DatabaseDamaged,
    DiskFull,
    InvalidConfigValue,
    StateInsecure,
    UnknownConfigKey,
)
from pleura.common.files import (
    atomic_writer,
    ensure_private_folder,
    free_bytes,
    raise_if_disk_full,
    sweep_parts,
    write_atomic,
)

SCHEMA = """
CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
CREATE TRIGGER note_is_kept BEFORE DELETE ON note BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""


def test_a_file_is_whole_private_and_leaves_no_part(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomic(path, b"old")
    with pytest.raises(KeyError), atomic_writer(path) as file:
        file.write(b"new")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_full_disk_has_its_name_and_other_errors_keep_theirs(tmp_path: Path) -> None:
    with pytest.raises(DiskFull), atomic_writer(tmp_path / "state"):
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(PermissionError), atomic_writer(tmp_path / "state"):
        raise PermissionError(errno.EACCES, "no")
    raise_if_disk_full(OSError(errno.EIO, "io"))
    assert list(tmp_path.iterdir()) == []


def test_parts_of_a_crash_are_swept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.part").write_bytes(b"")
    (tmp_path / "keep").write_bytes(b"")
    assert sweep_parts(tmp_path) == 1
    assert (tmp_path / "keep").exists()


def test_a_state_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    folder = ensure_private_folder(tmp_path / "state")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert free_bytes(folder) > 0
    folder.chmod(0o750)
    with pytest.raises(StateInsecure):
        ensure_private_folder(folder)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_database_is_wal_full_and_private(tmp_path: Path, open_umask: None) -> None:
    connection = open_database(tmp_path / "a" / "x.db", schema=SCHEMA, version=1)
    modes = [
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "user_version")
    ]
    assert modes == ["wal", 2, 1, 1]
    connection.execute("INSERT INTO note(text) VALUES ('x')")
    files = list((tmp_path / "a").iterdir())
    assert {file.name for file in files} == {"x.db", "x.db-wal", "x.db-shm"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    connection.close()


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "x.db", schema=SCHEMA, version=1)
    with transaction(connection):
        connection.execute("INSERT INTO note(text) VALUES ('kept')")
    with pytest.raises(KeyError), transaction(connection):
        connection.execute("INSERT INTO note(text) VALUES ('lost')")
        raise KeyError
    with pytest.raises(sqlite3.IntegrityError), transaction(connection):
        connection.execute("DELETE FROM note")
    assert [row["text"] for row in connection.execute("SELECT text FROM note")] == ["kept"]
    connection.close()


def test_a_database_of_another_version_or_with_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    open_database(path, schema=SCHEMA, version=2).close()
    with pytest.raises(DatabaseDamaged):
        open_database(path, schema=SCHEMA, version=1)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(DatabaseDamaged):
        open_database(path, schema=SCHEMA, version=2)


def test_a_database_that_meets_a_full_disk_says_so(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "x.db", schema=SCHEMA, version=1)
    connection.execute("PRAGMA max_page_count=8")
    with pytest.raises(DiskFull), transaction(connection):
        connection.execute("INSERT INTO note(text) VALUES (?)", ("x" * 200_000,))
    assert connection.execute("SELECT count(*) FROM note").fetchone()[0] == 0
    connection.close()


def test_committed_rows_survive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from pleura.common.database import open_database, transaction\n"
        f"c = open_database(Path(sys.argv[1]), schema={SCHEMA!r}, version=1)\n"
        "for n in range(20):\n"
        "    with transaction(c):\n"
        "        c.execute('INSERT INTO note(text) VALUES (?)', (str(n),))\n"
        "with transaction(c):\n"
        "    c.execute(\"INSERT INTO note(text) VALUES ('unfinished')\")\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    connection = open_database(path, schema=SCHEMA, version=1)
    assert connection.execute("SELECT count(*) FROM note").fetchone()[0] == 20
    connection.close()


class Inner(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    port: int


class Outer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    inner: Inner


def test_configuration_errors_name_the_key(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('name = "a"\n[inner]\nport = 1\n')
    assert load_toml(path, Outer).inner.port == 1
    for text, error, key in (
        ('name = "a"\n[inner]\nport = 1\nprot = 2\n', UnknownConfigKey, "inner.prot"),
        ('name = "a"\n[inner]\nport = "x"\n', InvalidConfigValue, "inner.port"),
        ('name = "a"\n', InvalidConfigValue, "inner"),
        ("name = ", ConfigUnreadable, "TOML"),
    ):
        path.write_text(text)
        with pytest.raises(error, match=key):
            load_toml(path, Outer)
    with pytest.raises(ConfigUnreadable):
        load_toml(tmp_path / "none.toml", Outer)
