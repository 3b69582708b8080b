"""The run keeper: when a run gets a new worker, and what a lease says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pleura.common.errors import AlreadyRunning
from pleura.common.ids import RunId
from pleura.server.errors import PortInUse
from pleura.server.keeper import PAUSES_S, START_GRACE_S, STEADY_S, Watch
from pleura.server.lease import is_lease_free, run_lease
from pleura.server.supervisor import require_free_port, state_lock

RUN = RunId("run-a")
HOLDER = """
import sys, time
from pathlib import Path
from pleura.server.lease import run_lease
with run_lease(Path(sys.argv[1]), "run-a"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_new_run_is_submitted_at_once() -> None:
    assert Watch().seen(is_free=True, now=0).is_due(0)


def test_a_run_is_not_submitted_twice_while_its_worker_starts() -> None:
    watch = Watch().submitting(0).seen(is_free=True, now=START_GRACE_S - 1)
    assert not watch.is_due(START_GRACE_S - 1)
    assert not watch.is_stuck(START_GRACE_S - 1)


def test_a_submission_that_leads_to_nothing_is_stuck() -> None:
    assert Watch().submitting(0).seen(is_free=True, now=START_GRACE_S).is_stuck(START_GRACE_S)


def test_a_held_lease_needs_nothing() -> None:
    watch = Watch().submitting(0).seen(is_free=False, now=2)
    assert not watch.is_due(1000)
    assert not watch.is_stuck(1000)


def test_a_worker_that_dies_is_replaced_at_once() -> None:
    watch = Watch().submitting(0).seen(is_free=False, now=2).seen(is_free=True, now=60)
    assert watch.is_due(60)


def test_workers_that_die_young_are_replaced_with_growing_pauses() -> None:
    watch, now, pauses = Watch(), 0.0, []
    for _ in range(10):
        watch = watch.submitting(now).seen(is_free=False, now=now).seen(is_free=True, now=now)
        pauses.append(watch.not_before - now)
        now = watch.not_before
    assert pauses == sorted(pauses)
    assert pauses[0] == 0
    assert pauses[-1] == PAUSES_S[-1]


def test_a_worker_that_lived_long_ends_the_pauses() -> None:
    watch = Watch(tries=6).seen(is_free=False, now=0).seen(is_free=False, now=STEADY_S)
    assert watch.seen(is_free=True, now=STEADY_S).is_due(STEADY_S)


def test_a_refused_submission_waits_before_the_next() -> None:
    watch = Watch().submitting(0).failed(1)
    assert not watch.is_due(1.4)
    assert watch.is_due(1.5)


def test_a_lease_is_held_by_one_process(tmp_path: Path) -> None:
    with run_lease(tmp_path, RUN):
        assert not is_lease_free(tmp_path, RUN)
        with pytest.raises(AlreadyRunning), run_lease(tmp_path, RUN, sleep=lambda _: None):
            pass
    assert is_lease_free(tmp_path, RUN)


def test_a_lease_that_was_never_taken_is_free(tmp_path: Path) -> None:
    assert is_lease_free(tmp_path, RUN)


def test_a_killed_process_frees_its_lease_at_once(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not is_lease_free(tmp_path, RUN)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(5)
        killed = time.monotonic()
        assert is_lease_free(tmp_path, RUN)
        assert time.monotonic() - killed < 0.5


def test_a_state_folder_has_one_coordinator(tmp_path: Path) -> None:
    with state_lock(tmp_path), pytest.raises(AlreadyRunning), state_lock(tmp_path):
        pass


def test_a_port_in_use_is_named_before_anything_starts() -> None:

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUse):
        require_free_port("127.0.0.1", taken.getsockname()[1])
