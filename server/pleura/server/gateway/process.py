"""The gateway process: opens the port itself, serves TLS, stops within three seconds."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from types import FrameType
from typing import Final

import uvicorn

from pleura.common import events
from pleura.common.blobs import BlobStore
from pleura.common.clock import Clock, SystemClock
from pleura.common.errors import InvalidConfigValue, KeyFileInsecure
from pleura.common.keys import load_key
from pleura.server.errors import PortForbidden, PortInUse, TlsMissing
from pleura.server.gateway.app import GatewayParts, create_app
from pleura.server.gateway.bounded_http import BoundedHttp
from pleura.server.gateway.fleet_proxy import HOLD_S
from pleura.server.ledger.log import StatementLog
from pleura.server.settings import ServerSettings
from pleura.server.sites import SiteRegistry
from pleura.server.store import RunStore
from pleura.server.tls import renew_if_due

STOP_S: Final = 1  # requests still running after this are cut
KEEP_ALIVE_S: Final = 75
MAX_CONNECTIONS: Final = 1000
BACKLOG: Final = 256


def main(settings: ServerSettings, clock: Clock | None = None) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        TlsMissing, KeyFileInsecure, KeyUnreadable: run `pleura server init` first.
        PortInUse, PortForbidden: the port cannot be had.
        InvalidConfigValue: the host is no address of this machine.
    """
    clock = clock or SystemClock()
    events.configure("gateway", file=settings.log_dir / "gateway.jsonl", clock=clock)
    started = time.monotonic()
    listening = open_port(settings.host, settings.port)
    try:
        server = build_server(settings, clock)
        _let_signals_end_quietly()
        events.emit("process.started", process="gateway", pid=os.getpid(), port=settings.port)
        server.run(sockets=[listening])
    finally:
        listening.close()
    events.emit(
        "process.stopped",
        process="gateway",
        pid=os.getpid(),
        status=0,
        seconds=time.monotonic() - started,
    )


def build_server(
    settings: ServerSettings, clock: Clock, *, hold_s: float = HOLD_S
) -> uvicorn.Server:
    """Open the gateway's databases and keys and return the server, not yet serving.

    Raises:
        TlsMissing, KeyFileInsecure, KeyUnreadable, DatabaseDamaged: see each.
    """
    renew_if_due(settings, clock.now())
    _check_tls(settings)

    def is_stopping() -> bool:  # held pulls end at once when the server stops
        return server.should_exit

    parts = GatewayParts(
        settings=settings,
        registry=SiteRegistry(settings.sites_db_file, clock),
        log=StatementLog(settings.log_db_file),
        blobs=BlobStore(settings.blobs_dir),
        is_model=RunStore(settings.runs_db_file).is_model,
        coordinator_key=load_key(settings.signing_key_file).public,
        clock=clock,
        is_stopping=is_stopping,
        hold_s=hold_s,
    )
    config = uvicorn.Config(
        app=create_app(parts),
        http=BoundedHttp,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # an address a client writes itself is worth nothing
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=STOP_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        limit_concurrency=MAX_CONNECTIONS,
    )
    server = uvicorn.Server(config)
    return server


def open_port(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        PortInUse: another process listens there.
        PortForbidden: this user may not listen there.
        InvalidConfigValue: the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise PortInUse(str(port)) from exc
        if exc.errno in (errno.EACCES, errno.EPERM):
            raise PortForbidden(str(port)) from exc
        raise InvalidConfigValue(f"host: {host}") from exc


def _check_tls(settings: ServerSettings) -> None:
    for file in (settings.tls_cert_file, settings.tls_key_file):
        if not file.is_file():
            raise TlsMissing(file.name)
    if settings.tls_key_file.stat().st_mode & 0o077:
        raise KeyFileInsecure(settings.tls_key_file.name)


def _let_signals_end_quietly() -> None:
    """uvicorn raises the signal that stopped it once more; the process ends with 0 instead."""

    def ignore(_signal: int, _frame: FrameType | None) -> None:
        return

    signal.signal(signal.SIGTERM, ignore)
    signal.signal(signal.SIGINT, ignore)
