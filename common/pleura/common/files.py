"""Durable files: whole or absent, private, and counted against the disk.

Every file of state is written as `.part` in its own folder, synced, renamed and
the folder synced; a crash leaves the old file or the new one. A full disk is a
named error and leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pleura.common.errors import DiskFull, StateInsecure

PART = ".part"


@contextmanager
def atomic_writer(path: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` only if the block ends without an error.

    Raises:
        DiskFull: the volume has no room; nothing is left behind.
    """
    part = path.with_name(path.name + PART)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        fsync_folder(path.parent)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise_if_disk_full(exc)
        raise
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `data` to `path` durably, or leave what was there.

    Raises:
        DiskFull: the volume has no room; nothing is left behind.
    """
    with atomic_writer(path, mode=mode) as file:
        file.write(data)


def raise_if_disk_full(exc: OSError) -> None:
    """Turn ENOSPC and EDQUOT into `DiskFull`; return for anything else."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DiskFull("no space left on the volume") from exc


def fsync_file(path: Path | str) -> None:
    """Make the bytes of a file durable.

    Raises:
        DiskFull: the volume has no room for what was written.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        raise_if_disk_full(exc)
        raise
    finally:
        os.close(descriptor)


def begin_writeback(path: Path) -> None:
    """Let the bytes of a file go to disk from now on, so that a later `fsync_file` is short."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def fsync_folder(path: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_parts(folder: Path) -> int:
    """Delete unfinished `.part` files below `folder`; return how many there were."""
    count = 0
    for part in folder.rglob("*" + PART):
        part.unlink(missing_ok=True)
        count += 1
    return count


def ensure_private_folder(path: Path, what: str = "state folder") -> Path:
    """Create `path` and missing parents with mode 0700, or check that only its owner can enter it.

    `what` names the folder in the error, in our words.

    Raises:
        StateInsecure: the folder exists and group or others have any right on it.
    """
    create_private(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise StateInsecure(f"{what} is open to others")
    return path


def create_private(path: Path) -> None:
    """Create `path` and missing parents, each with mode 0700 whatever the umask is.

    Raises:
        DiskFull: the volume has no room.
    """
    if path.is_dir():
        return
    try:
        for folder in (*reversed(path.parents), path):  # mkdir gives its mode to the last one only
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise_if_disk_full(exc)
        raise


def free_bytes(path: Path) -> int:
    """Return the free bytes of the volume that holds `path`."""
    return shutil.disk_usage(path).free
