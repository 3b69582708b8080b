"""Opening: a source for as long as it is worked on, and what goes wrong meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pleura.anonymizer.errors import InternalFault, LimitExceeded, Unreadable
from pleura.anonymizer.source import FileSource, Source
from pleura.anonymizer.wire import MAX_FILE_BYTES
from pleura.common import events
from pleura.common.errors import PleuraError
from pleura.common.files import raise_if_disk_full


@contextmanager
def contained() -> Iterator[None]:
    """Turn what nobody foresaw into a quarantine (DEID 10: doubt or exception).

    Raises:
        InternalFault: of any exception that is no error of Pleura's and no OSError.
        DiskFull: no room.
    """
    try:
        yield
    except PleuraError:
        raise
    except OSError as exc:
        raise_if_disk_full(exc)
        raise
    except Exception as exc:  # noqa: BLE001
        kind = type(exc).__name__
        events.emit("error.raised", process="anonymizer", code=InternalFault.code, error=kind)
        raise InternalFault(kind) from None


@contextmanager
def opened(given: Path | Source) -> Iterator[Source]:
    """Open a path; a source that is open already stays the caller's.

    Raises:
        Unreadable: the file cannot be opened.
        LimitExceeded: it is too large.
    """
    try:
        source = FileSource(given) if isinstance(given, Path) else given
    except OSError:
        raise Unreadable("the file") from None
    try:
        if source.size > MAX_FILE_BYTES:
            raise LimitExceeded("file size")
        yield source
    finally:
        if isinstance(given, Path) and isinstance(source, FileSource):
            source.close()


def stamp_of(source: Source) -> tuple[int, int]:
    """Return what changes when somebody writes to the file behind a source."""
    if not isinstance(source, FileSource):
        return source.size, 0
    state = os.fstat(source.fileno())
    return state.st_size, state.st_mtime_ns


def nearest_folder(folder: Path) -> Path:
    """Return the nearest folder that is there: what is large stays on that volume."""
    return next(f for f in (folder.absolute(), *folder.absolute().parents) if f.is_dir())
