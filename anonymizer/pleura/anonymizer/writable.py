"""Writable: what an operator asked to be written is tried before work begins, and named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pleura.anonymizer.errors import WriteRefused
from pleura.common.files import create_private, fsync_folder, raise_if_disk_full


@contextmanager
def asked_to_write(what: str) -> Iterator[None]:
    """Name what a person asked to be written and the host refuses; `what` is in our words.

    Raises:
        WriteRefused: of any OSError.
        DiskFull: no room.
    """
    try:
        yield
    except OSError as exc:
        raise_if_disk_full(exc)
        raise WriteRefused(f"{what}: {os.strerror(exc.errno or 0)}") from None


def check_writable(folder: Path, what: str) -> None:
    """Create a folder, if it is missing, for its owner only, and try to write there.

    Raises:
        WriteRefused: it cannot be written.
        DiskFull: no room.
    """
    with asked_to_write(what):
        create_private(folder)
        fsync_folder(folder.parent)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
