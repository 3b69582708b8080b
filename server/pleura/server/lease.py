"""The lease of a run: at most one ServerApp works on it, and its death is seen at once.

A lease is an exclusive `flock` on `runs/<run>.lock`. The kernel releases it with
the process, however it ends, so a free lease of an unfinished run means that a new
ServerApp is needed now; no heartbeat has to time out first.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pleura.common.errors import AlreadyRunning
from pleura.common.ids import RunId

ACQUIRE_S: Final = 2.0  # outlasts the moment in which a probe holds the lock


def lease_path(folder: Path, run_id: RunId) -> Path:
    """Return the lock file of a run."""
    return folder / f"{run_id}.lock"


@contextmanager
def run_lease(
    folder: Path, run_id: RunId, *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Hold the lease of a run.

    Raises:
        AlreadyRunning: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(lease_path(folder, run_id), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        waited = 0.0
        while not _try_lock(descriptor):
            if waited >= ACQUIRE_S:
                raise AlreadyRunning(run_id)
            sleep(0.05)
            waited += 0.05
        yield
    finally:
        os.close(descriptor)


def is_lease_free(folder: Path, run_id: RunId) -> bool:
    """Say whether no process holds the lease of a run now."""
    try:
        descriptor = os.open(lease_path(folder, run_id), os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
