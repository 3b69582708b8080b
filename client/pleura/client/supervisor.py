"""Supervisor: `pleura client run` keeps agent, trainer and ingest alive.

One instance a state folder, by file lock. The folder must be private. Each
process runs separately, so that none can reach what another holds; the trainer
takes itself off the network, and what it reports is said once at start-up.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pleura.client.agent.trainer_link import TrainerLink
from pleura.client.errors import NotEnrolled, TrainerUnreachable
from pleura.client.process import PROCESSES, UMASK
from pleura.client.settings import SiteSettings
from pleura.common import events
from pleura.common.errors import AlreadyRunning
from pleura.common.exit_codes import ExitCode
from pleura.common.files import ensure_private_folder
from pleura.common.supervision import ChildSpec, Supervisor

# no home calls, no installs, whatever the environment says (FLOWER.md facts 5 and 6)
FLOWER_ENV: Final = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
_ORDER: Final = ("trainer", "ingest", "agent")


def run(
    settings: SiteSettings,
    config: Path,
    stop: threading.Event,
    *,
    on_sandbox: Callable[[bool], None],
) -> ExitCode:
    """Supervise the three processes until `stop`; return why supervision ended.

    `on_sandbox` is called once, when the trainer first says whether it is sandboxed.

    Raises:
        AlreadyRunning: another supervisor holds this state folder.
        StateInsecure: a folder of the state is open to others.
    """
    with single_instance(settings.state_dir / "lock"):
        ensure_private_folder(settings.trainer_socket.parent)
        supervisor = Supervisor(
            children(config, settings.log_dir), tick=_SandboxWatch(settings, on_sandbox)
        )
        return supervisor.run_until(stop)


def prepare(settings: SiteSettings) -> None:
    """Make the state folder private before anything is written, and see that the site joined.

    Raises:
        StateInsecure: the state folder is open to others.
        NotEnrolled: the site has not joined yet.
    """
    os.umask(UMASK)
    ensure_private_folder(settings.state_dir)
    require_enrolled(settings)
    ensure_private_folder(settings.log_dir)


def children(config: Path, log_dir: Path) -> list[ChildSpec]:
    """Return how each process is started, the trainer first."""
    return [
        ChildSpec(
            name,
            [sys.executable, "-P", "-m", "pleura.client.process", name, "--config", str(config)],
            env=FLOWER_ENV,
            output=log_dir / f"{name}.out",
        )
        for name in _ORDER
        if name in PROCESSES
    ]


def require_enrolled(settings: SiteSettings) -> None:
    """Return if every key that enrolment makes is there.

    Raises:
        NotEnrolled: one is missing.
    """
    needed = (
        settings.transport_key_file,
        settings.node_key_file,
        settings.site_key_file,
        settings.coordinator_key_file,
    )
    for path in needed:
        if not path.is_file():
            raise NotEnrolled(f"{path.name} is missing")


@contextmanager
def single_instance(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` while the block runs.

    Raises:
        AlreadyRunning: another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise AlreadyRunning("state folder") from exc
        yield
    finally:
        os.close(descriptor)


class _SandboxWatch:
    """Asks the trainer once whether it is sandboxed; silent until it answers."""

    def __init__(self, settings: SiteSettings, tell: Callable[[bool], None]) -> None:
        self._socket, self._tell = settings.trainer_socket, tell
        self._is_told = False

    def __call__(self) -> None:
        if self._is_told or not self._socket.exists():
            return
        try:
            with TrainerLink(self._socket) as link:
                is_sandboxed = link.status(timeout_s=1.0).sandboxed
        except TrainerUnreachable:
            return
        self._is_told = True
        if not is_sandboxed:
            events.emit("sandbox.unavailable", code="HOST-SANDBOX")
        self._tell(is_sandboxed)
