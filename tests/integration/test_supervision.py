"""Supervision of real child processes: restart, giving up, clean stop, no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pleura.common.exit_codes import ExitCode
from pleura.common.supervision import ChildSpec, Supervisor

SLEEP = "import time; time.sleep(60)"


def child(code: str, name: str = "child") -> ChildSpec:
    return ChildSpec(name, (sys.executable, "-c", code))


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not reached"
        time.sleep(0.02)


def run_in_thread(
    supervisor: Supervisor, stop: threading.Event
) -> tuple[threading.Thread, list[ExitCode]]:
    result: list[ExitCode] = []
    thread = threading.Thread(
        target=lambda: result.append(supervisor.run_until(stop, poll_s=0.02)), daemon=True
    )
    thread.start()
    return thread, result


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_child_comes_back_and_all_stop_on_request() -> None:
    stop = threading.Event()
    supervisor = Supervisor([child(SLEEP, "one"), child(SLEEP, "two")])
    thread, result = run_in_thread(supervisor, stop)
    wait_for(lambda: len(supervisor.pids()) == 2)
    first = supervisor.pids()
    os.kill(first["one"], signal.SIGKILL)
    wait_for(lambda: supervisor.pids().get("one", first["one"]) != first["one"])
    assert supervisor.pids()["two"] == first["two"]
    last = supervisor.pids()
    stop.set()
    thread.join(15)
    assert result == [ExitCode.OK]
    assert not any(alive(pid) for pid in last.values())


def test_an_end_that_restarting_cannot_mend_stops_everything() -> None:
    stop = threading.Event()
    refused = child(f"import sys; sys.exit({int(ExitCode.REFUSED)})", "agent")
    supervisor = Supervisor([child(SLEEP, "other"), refused])
    assert supervisor.run_until(stop, poll_s=0.02) == ExitCode.REFUSED
    assert supervisor.pids() == {}


PARENT = """
import sys, threading
from pleura.common.supervision import ChildSpec, Supervisor
child = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
spec = ChildSpec("c", (sys.executable, "-c", child, sys.argv[1]))
Supervisor([spec]).run_until(threading.Event())
"""


def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(note)])
    try:
        wait_for(lambda: note.exists() and note.read_text())
        pid = int(note.read_text())
        assert alive(pid)
        parent.kill()
        wait_for(lambda: not alive(pid))
    finally:
        parent.kill()
        parent.wait()
