"""Drafts: bytes get from file to file unchanged, and nothing partial ever has a name."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pleura.anonymizer import writing
from pleura.anonymizer.errors import SelfCheckFailed, Truncated, Unreadable
from pleura.anonymizer.source import BytesSource, FileSource, Span
from pleura.anonymizer.writing import digest_of, digests, drafted
from pleura.common.errors import DiskFull

DATA = os.urandom(3 << 20)


@pytest.fixture
def original(tmp_path: Path) -> FileSource:
    path = tmp_path / "in.bin"
    path.write_bytes(DATA)
    return FileSource(path)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("fsync", [True, False])
def test_a_committed_draft_holds_the_pieces_and_both_digests_are_right(
    tmp_path: Path, original: FileSource, fsync: bool
) -> None:
    span = Span(original, 1000, 2 << 20)
    with drafted(tmp_path, [b"head", span, b"tail"]) as draft:
        before, after = digests(original, draft)
        draft.commit(tmp_path / "out.bin", fsync=fsync)
    written = (tmp_path / "out.bin").read_bytes()
    assert written == b"head" + DATA[1000 : 1000 + (2 << 20)] + b"tail"
    assert (before, after) == (sha(DATA), sha(written))
    assert digest_of(tmp_path / "out.bin") == after
    assert (tmp_path / "out.bin").stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.bin", "out.bin"]


def test_a_draft_that_is_not_committed_is_gone(tmp_path: Path, original: FileSource) -> None:
    with pytest.raises(KeyError), drafted(tmp_path, [Span(original, 0, 10)]):
        raise KeyError
    with drafted(tmp_path, [b"x" * (writing.CHUNK_BYTES + 1), b"y", b"z"]) as draft:
        assert draft.source.size == writing.CHUNK_BYTES + 3
    assert [p.name for p in tmp_path.iterdir()] == ["in.bin"]


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EOPNOTSUPP])
def test_file_systems_that_cannot_copy_inside_the_kernel_get_the_bytes_by_chunks(
    tmp_path: Path, original: FileSource, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*args: object, **kwargs: object) -> int:
        raise OSError(code, "no")

    monkeypatch.setattr(os, "copy_file_range", refused)
    with drafted(tmp_path, [Span(original, 7, 2_000_001)]) as draft:
        assert draft.source.read(0, 3_000_000) == DATA[7 : 7 + 2_000_001]


def test_a_copy_that_fills_the_disk_fails(
    tmp_path: Path, original: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(DiskFull), drafted(tmp_path, [Span(original, 0, 10)]):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["in.bin"]


def test_a_source_that_got_shorter_is_truncated(tmp_path: Path, original: FileSource) -> None:
    with pytest.raises(Truncated), drafted(tmp_path, [Span(original, len(DATA) - 5, 10)]):
        pass


@pytest.mark.parametrize("in_order", [True, False])
def test_a_changed_pixel_byte_is_found(
    tmp_path: Path, original: FileSource, in_order: bool
) -> None:
    late, early = Span(original, 2 << 20, 1000), Span(original, 0, 1000)
    spans = [early, late] if in_order else [late, early]
    with drafted(tmp_path, [b"head", *spans]) as draft:
        assert digests(original, draft)[0] == sha(DATA)
        for at in (4, 4 + 1999):
            old = draft.source.read(at, 1)
            os.pwrite(draft.source.fileno(), bytes([old[0] ^ 1]), at)
            with pytest.raises(SelfCheckFailed, match="pixel bytes"):
                digests(original, draft)
            os.pwrite(draft.source.fileno(), old, at)


def test_spans_of_another_source_are_compared_too(tmp_path: Path, original: FileSource) -> None:
    other = BytesSource(b"pixels" * 100)
    with drafted(tmp_path, [b"head", Span(other, 0, other.size)]) as draft:
        before, after = digests(original, draft)
        assert (before, after) == (sha(DATA), sha(b"head" + other.data))
        draft.copied[0] = (Span(replace(other, data=b"x" * 600), 0, 600), 4)
        with pytest.raises(SelfCheckFailed):
            digests(original, draft)


def test_a_source_that_cannot_be_read_is_named(original: FileSource) -> None:
    original.close()
    with pytest.raises(Unreadable):
        original.read(0, 10)
