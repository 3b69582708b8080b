"""Members: the files inside a ZIP archive, one at a time, as inputs of their own.

An archive's names are identifying and are never used: a member is a number. Nothing is
unpacked by name, so a name cannot leave a folder; sizes and ratios are bounded while the
bytes are read, whatever the archive says about itself.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Final, NamedTuple

from pleura.anonymizer.errors import (
    ArchiveDamaged,
    ArchiveEncrypted,
    ArchiveNested,
    LimitExceeded,
    Unreadable,
)
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.wire import MAX_FILE_BYTES
from pleura.common.files import raise_if_disk_full

MAX_MEMBERS: Final = 100_000  # of which a worker holds the names: 60 MB
UNPACKED: Final = ".member-"
MAX_RATIO: Final = 100
FLOOR_BYTES: Final = 16 << 20  # below this any ratio is let through
_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
_CHUNK_BYTES: Final = 1 << 20


class _Archive(NamedTuple):
    file: zipfile.ZipFile
    files: list[zipfile.ZipInfo]


def is_archive(path: Path) -> bool:
    """Return whether a file begins like a ZIP archive; one that cannot be read does not."""
    try:
        with FileSource(path) as file:
            return file.read(0, 4) in _MAGIC
    except (OSError, Unreadable):
        return False


def count_members(path: Path) -> int:
    """Return how many files an archive holds.

    Raises:
        Unreadable: it cannot be opened.
        ArchiveDamaged: its directory is damaged.
        LimitExceeded: more than a hundred thousand.
    """
    count = len(_opened(path).files)
    if count > MAX_MEMBERS:
        raise LimitExceeded("archive members")
    return count


@contextmanager
def extracted(path: Path, member: int, folder: Path) -> Iterator[Path]:
    """Yield member number `member` as a private temporary file (0600), deleted afterwards.

    Raises:
        ArchiveEncrypted: the member needs a password.
        ArchiveNested: the member is an archive itself; it is not opened.
        LimitExceeded: it unpacks to more than 4 GiB, or beyond a ratio of 100.
        ArchiveDamaged: its bytes are damaged or its compression is not known.
        Unreadable: the archive cannot be opened, or changed.
        DiskFull: no room.
    """
    descriptor, name = tempfile.mkstemp(prefix=UNPACKED, dir=folder)
    copy = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as target:
            archive = _opened(path)
            if member >= len(archive.files):
                raise Unreadable("the archive changed")
            _unpack(archive.file, archive.files[member], target)
        if is_archive(copy):
            raise ArchiveNested
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _opened(path: Path) -> _Archive:
    """Return an archive, the last one if it is the same: its directory is parsed once."""
    try:
        state = path.stat()
        return _archive(path, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns))
    except OSError:
        raise Unreadable("the archive") from None


@lru_cache(maxsize=1)
def _archive(path: Path, stamp: tuple[int, ...]) -> _Archive:
    try:
        archive = zipfile.ZipFile(path)  # closed when the next one takes its place
    except OSError:
        raise
    except Exception:  # noqa: BLE001  a damaged archive raises whatever its parts do
        raise ArchiveDamaged("directory") from None
    return _Archive(archive, [info for info in archive.infolist() if not info.is_dir()])


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: IO[bytes]) -> None:
    if info.flag_bits & 0x41:  # encrypted, or by the strong scheme
        raise ArchiveEncrypted
    limit = max(FLOOR_BYTES, min(MAX_FILE_BYTES, MAX_RATIO * info.compress_size))
    written = 0
    for chunk in _unpacked(archive, info):
        written += len(chunk)
        if written > limit:
            raise LimitExceeded("unpacked size")
        _write(target, chunk)


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(info) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except Exception:  # noqa: BLE001  each compression has errors of its own
        raise ArchiveDamaged("member") from None


def _write(target: IO[bytes], chunk: bytes) -> None:
    try:
        target.write(chunk)
    except OSError as exc:
        raise_if_disk_full(exc)
        raise
