"""Bells: how two processes of the coordinator tell each other to look now, not later.

A bell is a file; ringing it changes its time stamp, and whoever waits looks at the
stamp many times a second, which costs microseconds where asking the SuperLink costs
milliseconds. Nothing depends on a bell being heard: every wait has an end, after
which one looks anyway. A ring between two waits is heard by the next one.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final

LOOK_S: Final = 0.01


class Bell:
    """One bell; each object remembers what it has heard."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._heard = self.mark()

    def mark(self) -> int:
        """Return a number that differs after each ring; 0 before the first."""
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def ring(self) -> None:
        """Make everybody who waits look now.

        Raises:
            OSError: the file cannot be written.
        """
        now = max(time.time_ns(), self.mark() + 1)
        try:
            os.utime(self._path, ns=(now, now))
        except FileNotFoundError:
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600))
            os.utime(self._path, ns=(now, now))

    def wait(self, timeout_s: float) -> None:
        """Return after a ring not heard yet, or after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (mark := self.mark()) == self._heard:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(LOOK_S, left))
        self._heard = mark


class BellWatch:
    """Waits for a bell on an event loop; one look serves everybody who waits."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._waiting = 0
        self._rung = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def mark(self) -> int:
        """Return what to give to `changed`; take it before looking at what may have changed."""
        return self._bell.mark()

    async def changed(self, mark: int, timeout_s: float) -> None:
        """Return once the bell rang after `mark` was taken, or after `timeout_s`."""
        if self._bell.mark() != mark:
            return
        self._waiting += 1
        if self._task is None:
            self._task = asyncio.create_task(self._look(mark))
        try:
            await asyncio.wait_for(self._rung.wait(), timeout_s)
        except TimeoutError:
            return
        finally:
            self._waiting -= 1

    async def _look(self, mark: int) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(LOOK_S)
                if (now := self._bell.mark()) != mark:
                    mark = now
                    self._rung.set()
                    self._rung = asyncio.Event()
        finally:
            self._task = None
