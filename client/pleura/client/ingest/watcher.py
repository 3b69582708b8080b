"""Watcher: which files in the watched folders are complete and may be read.

A folder is polled, not notified: exports arrive over SMB and NFS, where change
events are lost. A file is settled when its size and time of change stood still
for `settle_s` between two looks. Links, hidden files and unfinished `.part` and
`.tmp` files are not looked at. Nothing in a watched folder is ever changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

UNFINISHED: Final = (".part", ".tmp", ".partial", ".filepart", ".crdownload")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of a file from another without reading it."""

    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Found:
    """One regular file in a watched folder."""

    path: Path
    stamp: Stamp


def unreadable_folders(folders: Sequence[Path]) -> tuple[int, ...]:
    """Return the places in the list, from 1, of folders that cannot be read now."""
    return tuple(
        number
        for number, folder in enumerate(folders, start=1)
        if not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK))
    )


def list_folders(folders: Sequence[Path]) -> list[Found]:
    """Return every regular file below the watched folders, ordered by path.

    A folder or file that vanishes or cannot be read meanwhile is left out and
    seen again at the next poll.
    """
    found: dict[Path, Found] = {}
    for folder in folders:
        for item in _walk(folder):
            found.setdefault(item.path, item)
    return [found[path] for path in sorted(found)]


class Settler:
    """Remembers when each file last changed; time comes in as an argument."""

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._seen: dict[Path, tuple[Stamp, float]] = {}

    def settled(self, listing: Sequence[Found], now_s: float) -> list[Found]:
        """Return the files whose stamp is the same as `settle_s` seconds before `now_s`."""
        seen: dict[Path, tuple[Stamp, float]] = {}
        ready = []
        for item in listing:
            stamp, since_s = self._seen.get(item.path, (item.stamp, now_s))
            if stamp != item.stamp:
                since_s = now_s
            seen[item.path] = (item.stamp, since_s)
            if now_s - since_s >= self._settle_s:
                ready.append(item)
        self._seen = seen
        return ready


def read_stamp(path: Path) -> Stamp | None:
    """Return the present stamp of a regular file, or None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Stamp(status.st_size, status.st_mtime_ns)


def _walk(folder: Path) -> Iterator[Found]:
    for parent, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith(".") or name.lower().endswith(UNFINISHED):
                continue
            path = Path(parent, name)
            stamp = read_stamp(path)  # None: a link, or gone meanwhile
            if stamp is not None:
                yield Found(path, stamp)
