"""Members of ZIP archives: numbered, bounded, never unpacked by name."""

from __future__ import annotations

import errno
import os
import struct
import zipfile
from pathlib import Path

import pytest

from pleura.anonymizer import members
from pleura.anonymizer.errors import (
    ArchiveDamaged,
    ArchiveEncrypted,
    ArchiveNested,
    LimitExceeded,
    Unreadable,
)
from pleura.anonymizer.members import count_members, extracted, is_archive
from pleura.common.errors import DiskFull


def packed(path: Path, *contents: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents:
            archive.writestr(name, content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "staging"
    path.mkdir()
    return path


def unpack(path: Path, member: int, folder: Path) -> bytes:
    with extracted(path, member, folder) as copy:
        assert copy.parent == folder
        assert copy.stat().st_mode & 0o777 == 0o600
        return copy.read_bytes()


def test_an_archive_is_known_by_its_first_bytes_only(tmp_path: Path) -> None:
    assert is_archive(packed(tmp_path / "a.dcm", ("x", b"1")))
    assert is_archive(packed(tmp_path / "empty"))
    (tmp_path / "a.zip").write_bytes(b"DICM")
    assert not is_archive(tmp_path / "a.zip")
    assert not is_archive(tmp_path / "absent")


def test_members_are_numbered_and_folders_are_none(tmp_path: Path, folder: Path) -> None:
    path = packed(tmp_path / "a", ("d/", b""), ("d/x", b"one"), ("y", b"two"))
    assert count_members(path) == 2
    assert [unpack(path, n, folder) for n in (0, 1)] == [b"one", b"two"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "..\\escaped", "C:\\escaped"])
def test_a_name_never_leads_out_of_the_folder(tmp_path: Path, folder: Path, name: str) -> None:
    path = packed(tmp_path / "a", (name, b"content"))
    assert unpack(path, 0, folder) == b"content"
    assert list(tmp_path.rglob("*escaped*")) == []
    assert list(folder.iterdir()) == []


def test_a_bomb_is_stopped_at_its_ratio(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "a", ("x", bytes(4 << 20)))
    assert len(unpack(path, 0, folder)) == 4 << 20  # below the floor any ratio passes
    monkeypatch.setattr(members, "FLOOR_BYTES", 1 << 20)
    with pytest.raises(LimitExceeded):
        unpack(path, 0, folder)
    assert list(folder.iterdir()) == []


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_MEMBERS", 1)
    with pytest.raises(LimitExceeded):
        count_members(packed(tmp_path / "a", ("x", b"1"), ("y", b"2")))


def test_an_archive_in_an_archive_is_not_opened(tmp_path: Path, folder: Path) -> None:
    inner = packed(tmp_path / "inner", ("x", b"1")).read_bytes()
    path = packed(tmp_path / "a", ("x", inner))
    with pytest.raises(ArchiveNested):
        unpack(path, 0, folder)
    assert list(folder.iterdir()) == []


def test_an_encrypted_member_is_refused(tmp_path: Path, folder: Path) -> None:
    path = packed(tmp_path / "a", ("x", b"1"))
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02") + 8
    struct.pack_into("<H", content, entry, 1)
    path.write_bytes(content)
    with pytest.raises(ArchiveEncrypted):
        unpack(path, 0, folder)


def test_damage_is_named_and_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    path = packed(tmp_path / "a", ("x", os.urandom(4096)))
    content = bytearray(path.read_bytes())
    content[600] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ArchiveDamaged):
        unpack(path, 0, folder)
    path.write_bytes(content[:2000])
    with pytest.raises(ArchiveDamaged):
        count_members(path)
    assert list(folder.iterdir()) == []


def test_a_member_that_is_not_there_any_more_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(Unreadable):
        unpack(packed(tmp_path / "a", ("x", b"1")), 1, folder)


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EIO, OSError)])
def test_a_write_that_fails_is_not_taken_for_damage(number: int, error: type[Exception]) -> None:
    class Full:
        def write(self, chunk: bytes) -> int:
            raise OSError(number, "no")

    with pytest.raises(error):
        members._write(Full(), b"x")  # type: ignore[arg-type]
