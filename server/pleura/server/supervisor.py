"""`pleura server run`: gateway, SuperLink and run keeper, for as long as it is wanted.

The gateway and the SuperLink are child processes that are restarted when they end.
The keeper works in this process. One coordinator owns a state folder at a time.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pleura.common import events
from pleura.common.blobs import BlobStore
from pleura.common.errors import AlreadyRunning
from pleura.common.exit_codes import ExitCode
from pleura.common.files import ensure_private_folder
from pleura.common.supervision import ChildSpec, Supervisor
from pleura.server.errors import PortForbidden, PortInUse
from pleura.server.keeper import RunKeeper
from pleura.server.settings import CONFIG_ENV, ServerSettings
from pleura.server.superlink import (
    HOST,
    flower_environment,
    has_executor,
    is_listening,
    prepare,
    superlink_argv,
)

GATEWAY, SUPERLINK = "gateway", "superlink"


def children(settings: ServerSettings, config: Path) -> list[ChildSpec]:
    """Return the two child processes: the public gateway and the loopback SuperLink."""
    return [
        ChildSpec(
            SUPERLINK,
            superlink_argv(settings),
            flower_environment(settings, config),
            settings.log_dir / "superlink.log",
        ),
        ChildSpec(
            GATEWAY,
            [sys.executable, "-P", "-m", "pleura.server.gateway"],
            {CONFIG_ENV: str(config.resolve())},
            settings.log_dir / "gateway.log",
        ),
    ]


def run(settings: ServerSettings, config: Path, stop: threading.Event) -> ExitCode:
    """Run the coordinator until `stop` is set; return how it ended.

    Raises:
        StateInsecure: the state folder is open to others.
        AlreadyRunning: another coordinator owns the state folder.
        PortInUse, PortForbidden: one of the two ports cannot be had.
    """
    ensure_private_folder(settings.state_dir)
    ensure_private_folder(settings.log_dir)
    with state_lock(settings.state_dir):
        events.configure("server", file=settings.log_dir / "server.jsonl")
        for host, port in ((settings.host, settings.port), (HOST, settings.superlink_port)):
            require_free_port(host, port)
        BlobStore(settings.blobs_dir).sweep()
        prepare(settings)
        return _supervise(settings, config, stop)


def _supervise(settings: ServerSettings, config: Path, stop: threading.Event) -> ExitCode:
    def restart_superlink() -> None:
        pid = supervisor.pids().get(SUPERLINK)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)

    keeper = RunKeeper(
        settings,
        config,
        restart_superlink,
        is_ready=lambda: is_listening(settings),
        has_executor=lambda: has_executor(supervisor.pids().get(SUPERLINK, 0)),
    )
    supervisor = Supervisor(children(settings, config), tick=keeper.tick)
    events.emit("process.started", process="server", pid=os.getpid(), port=settings.port)
    try:
        return supervisor.run_until(stop)
    finally:
        keeper.close()
        events.emit("process.stopped", process="server", pid=os.getpid())


@contextmanager
def state_lock(state_dir: Path) -> Iterator[None]:
    """Own a state folder.

    Raises:
        AlreadyRunning: another process owns it.
    """
    descriptor = os.open(state_dir / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as exc:
        raise AlreadyRunning("state folder of the coordinator") from exc
    finally:
        os.close(descriptor)


def require_free_port(host: str, port: int) -> None:
    """Return if a server could listen there now.

    Raises:
        PortForbidden: this user may not listen there.
        PortInUse: something does, or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as exc:
            raise PortForbidden(str(port)) from exc
        except OSError as exc:
            raise PortInUse(f"{host}:{port}") from exc
