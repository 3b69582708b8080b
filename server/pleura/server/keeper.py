"""The run keeper: sees to it that every unfinished run has a ServerApp working on it.

A run whose lease is free gets a new Flower run as soon as the SuperLink listens
(`flwr run` would wait for it with long pauses). A SuperLink whose SuperExec is gone
takes runs but starts nothing, so it is restarted; so it is if a submission leads to
no lease within `START_GRACE_S`. A ServerApp that ends soon again and again is
started with growing pauses.

`Watch` is pure; `RunKeeper.tick` carries it out and never waits.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pleura.common import events
from pleura.common.ids import RunId
from pleura.server.errors import FlowerCallFailed
from pleura.server.lease import is_lease_free
from pleura.server.settings import ServerSettings
from pleura.server.store import RunStore
from pleura.server.superlink import start_submission, submitted_run

CHECK_S: Final = 0.5
CALL_S: Final = 60.0  # `flwr run` takes seconds; one that waits longer is cut off
START_GRACE_S: Final = 30.0
EXECUTOR_GRACE_S: Final = 2.0  # a SuperLink listens before it has started its SuperExec
STEADY_S: Final = 20.0  # a lease held this long ends the pauses
PAUSES_S: Final = (0.0, 0.0, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Watch:
    """What the keeper knows of one unfinished run; times are monotonic seconds.

    `submitted_at` is when a submission was started whose ServerApp has not taken the
    lease yet; `held_since` is when the lease was first seen held.
    """

    tries: int = 0
    not_before: float = 0.0
    submitted_at: float | None = None
    held_since: float | None = None

    def seen(self, is_free: bool, now: float) -> Watch:
        """Return this after a look at the lease."""
        if not is_free:
            held = self.held_since if self.held_since is not None else now
            tries = 0 if now - held >= STEADY_S else self.tries
            return Watch(tries, 0.0, None, held)
        if self.held_since is not None:  # its worker ended
            pause = PAUSES_S[min(self.tries, len(PAUSES_S) - 1)]
            return Watch(self.tries, now + pause, None, None)
        return self

    def submitting(self, now: float) -> Watch:
        """Return this after a submission was started."""
        return Watch(self.tries + 1, 0.0, now, None)

    def failed(self, now: float) -> Watch:
        """Return this after a submission was refused or missed."""
        pause = max(0.5, PAUSES_S[min(self.tries, len(PAUSES_S) - 1)])
        return replace(self, submitted_at=None, not_before=now + pause)

    def is_due(self, now: float) -> bool:
        """Say whether a submission is needed now."""
        return self.held_since is None and self.submitted_at is None and now >= self.not_before

    def is_stuck(self, now: float) -> bool:
        """Say whether a submission led to nothing."""
        return self.submitted_at is not None and now - self.submitted_at >= START_GRACE_S


@dataclass
class RunKeeper:
    """Checks leases every `CHECK_S` when ticked from the supervisor's loop."""

    settings: ServerSettings
    config: Path
    restart_superlink: Callable[[], None]
    clock: Callable[[], float] = time.monotonic
    is_ready: Callable[[], bool] = lambda: True
    has_executor: Callable[[], bool] = lambda: True
    _watches: dict[RunId, Watch] = field(default_factory=dict)
    _calls: dict[RunId, subprocess.Popen[bytes]] = field(default_factory=dict)
    _called_at: dict[RunId, float] = field(default_factory=dict)
    _store: RunStore | None = None
    _checked_at: float = -CHECK_S
    _executor_missed_at: float | None = None

    def tick(self) -> None:
        """Look at every unfinished run if it is time; start what is missing."""
        now = self.clock()
        self._reap(now)
        if now - self._checked_at < CHECK_S:
            return
        self._checked_at = now
        leases = self.settings.leases_dir
        self._watches = {
            run_id: self._watches.get(run_id, Watch()).seen(is_lease_free(leases, run_id), now)
            for run_id in self._unfinished()
        }
        if not self._can_start(now):
            return
        for run_id, watch in self._watches.items():
            if run_id in self._calls:
                continue
            if watch.is_stuck(now):
                self._restart(now)
                return
            if watch.is_due(now):
                self._submit(run_id, watch, now)

    def _submit(self, run_id: RunId, watch: Watch, now: float) -> None:
        self._calls[run_id] = start_submission(self.settings, self.config, run_id)
        self._called_at[run_id] = now
        self._watches[run_id] = watch.submitting(now)
        events.emit("run.submitted", run=run_id, count=watch.tries + 1)

    def _can_start(self, now: float) -> bool:
        """Say whether the SuperLink can start a ServerApp; restart one that never will."""
        if not self.is_ready():
            return False
        if self.has_executor():
            self._executor_missed_at = None
            return True
        if self._executor_missed_at is None:
            self._executor_missed_at = now
        if now - self._executor_missed_at >= EXECUTOR_GRACE_S:
            self._restart(now)
        return False

    def _restart(self, now: float) -> None:
        """Restart the SuperLink; what was submitted to it is gone with it."""
        events.emit("process.failed", process="superexec", code=FlowerCallFailed.code)
        self.restart_superlink()
        self._executor_missed_at = None
        self._watches = {
            run: watch.failed(now) if watch.submitted_at is not None else watch
            for run, watch in self._watches.items()
        }

    def close(self) -> None:
        """Stop submissions that are under way."""
        for process in self._calls.values():
            process.kill()
            process.communicate()
        self._calls.clear()
        if self._store is not None:
            self._store.close()

    def _unfinished(self) -> Collection[RunId]:
        if self._store is None:
            self._store = RunStore(self.settings.runs_db_file)
        return self._store.unfinished()

    def _reap(self, now: float) -> None:
        for run_id, process in list(self._calls.items()):
            if process.poll() is None:
                if now - self._called_at[run_id] < CALL_S:
                    continue
                process.kill()
            output, _ = process.communicate()
            del self._calls[run_id]
            try:
                submitted_run(process.returncode, output)
                if (watch := self._watches.get(run_id)) is not None and watch.submitted_at:
                    self._watches[run_id] = replace(watch, submitted_at=now)
            except FlowerCallFailed as exc:
                events.emit("process.failed", process="flwr", code=exc.code)
                watch = self._watches.get(run_id, Watch())
                if watch.held_since is None:
                    self._watches[run_id] = watch.failed(now)
