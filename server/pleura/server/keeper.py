"""The run keeper: sees to it that every unfinished run has a ServerApp working on it.

A run whose lease is free gets a new Flower run as soon as the SuperLink listens
(`flwr run` would wait for it with long pauses). A submission that leads to
no lease within `START_GRACE_S` means that the SuperLink takes runs but starts
nothing (its SuperExec is gone); then the SuperLink is asked to be restarted. A
ServerApp that ends soon again and again is started with growing pauses.

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
    _watches: dict[RunId, Watch] = field(default_factory=dict)
    _calls: dict[RunId, subprocess.Popen[bytes]] = field(default_factory=dict)
    _called_at: dict[RunId, float] = field(default_factory=dict)
    _store: RunStore | None = None
    _checked_at: float = -CHECK_S

    def tick(self) -> None:
        """Look at every unfinished run if it is time; start what is missing."""
        now = self.clock()
        self._reap(now)
        if now - self._checked_at < CHECK_S:
            return
        self._checked_at = now
        unfinished = self._unfinished()
        self._watches = {run: self._watches.get(run, Watch()) for run in unfinished}
        for run_id, watch in self._watches.items():
            seen = watch.seen(is_lease_free(self.settings.leases_dir, run_id), now)
            if seen.is_stuck(now) and run_id not in self._calls:
                events.emit("process.failed", process="superexec", code=FlowerCallFailed.code)
                self.restart_superlink()
                seen = seen.failed(now)
            elif seen.is_due(now) and run_id not in self._calls and self.is_ready():
                self._calls[run_id] = start_submission(self.settings, self.config, run_id)
                self._called_at[run_id] = now
                seen = seen.submitting(now)
                events.emit("run.submitted", run=run_id, count=seen.tries)
            self._watches[run_id] = seen

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
