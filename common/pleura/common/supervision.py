"""Supervision: keeps a fixed set of child processes alive and stops them cleanly.

A child that ends is started again with exponential backoff; one that ends ten
times within five minutes, or with an exit status that restarting cannot mend,
is given up and the supervisor stops with that status. Children die with their
supervisor (PR_SET_PDEATHSIG), so a killed supervisor leaves no orphan.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pleura.common import events
from pleura.common.exit_codes import ExitCode

BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 30.0
CRASH_WINDOW_S: Final = 300.0
CRASH_LIMIT: Final = 10
STOP_GRACE_S: Final = 10.0
# ends that a restart cannot mend: a person must act first
FINAL_STATUS: Final = frozenset(
    {ExitCode.USAGE, ExitCode.CONFIG, ExitCode.ENVIRONMENT, ExitCode.REFUSED}
)
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start one child; `env` is added to this process's environment."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    output: Path | None = None


class _Child:
    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self.starts: list[float] = []
        self.restart_at = 0.0

    def start(self, now: float) -> None:
        output = self.spec.output.open("ab") if self.spec.output else None
        try:
            self.process = subprocess.Popen(
                list(self.spec.argv),
                env={**os.environ, **self.spec.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C goes to the supervisor, which stops children
                preexec_fn=die_with_parent,
            )
        finally:
            if output is not None:
                output.close()
        self.starts = [t for t in self.starts if now - t < CRASH_WINDOW_S] + [now]

    def backoff(self) -> float:
        return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** max(0, len(self.starts) - 1)))


class Supervisor:
    """Runs children until told to stop; `tick` is called between checks."""

    def __init__(
        self, children: Sequence[ChildSpec], *, tick: Callable[[], None] | None = None
    ) -> None:
        self._children = [_Child(spec) for spec in children]
        self._tick = tick

    def pids(self) -> dict[str, int]:
        """Return the process id of every running child."""
        return {
            child.spec.name: child.process.pid
            for child in self._children
            if child.process is not None and child.process.poll() is None
        }

    def run_until(self, stop: threading.Event, *, poll_s: float = 0.1) -> ExitCode:
        """Supervise until `stop` is set; return OK, or why supervision ended."""
        status = ExitCode.OK
        try:
            for child in self._children:
                self._start(child)
            while not stop.wait(poll_s):
                failed = next((s for c in self._children if (s := self._check(c))), None)
                if failed is not None:
                    status = failed
                    break
                if self._tick is not None:
                    self._tick()
        finally:
            self._stop_all()
        return status

    def _start(self, child: _Child) -> None:
        child.start(time.monotonic())
        if child.process is not None:
            events.emit("process.started", process=child.spec.name, pid=child.process.pid)

    def _check(self, child: _Child) -> ExitCode | None:
        now = time.monotonic()
        if child.process is not None:
            ended = child.process.poll()
            if ended is None:
                return None
            child.process = None
            events.emit("process.stopped", process=child.spec.name, status=ended)
            if ended in FINAL_STATUS or len(child.starts) >= CRASH_LIMIT:
                events.emit("process.failed", process=child.spec.name, status=ended)
                return ExitCode(ended) if ended in FINAL_STATUS else ExitCode.INTERNAL
            child.restart_at = now + child.backoff()
        if now >= child.restart_at:
            self._start(child)
            events.emit("process.restarted", process=child.spec.name, count=len(child.starts) - 1)
        return None

    def _stop_all(self) -> None:
        running = [c.process for c in self._children if c.process is not None]
        for process in running:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_GRACE_S
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; call from the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends (also as `preexec_fn`)."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the request
        os.kill(os.getpid(), signal.SIGKILL)


def child_commands(pid: int) -> list[bytes]:
    """Return the command lines of a process's living children, NULs between the words.

    A child that ended but was not waited for has an empty one.
    """
    commands = []
    for listing in Path("/proc", str(pid), "task").glob("*/children"):
        try:
            commands += [
                Path("/proc", c, "cmdline").read_bytes() for c in listing.read_text().split()
            ]
        except OSError:
            continue  # it ended while we looked
    return commands
