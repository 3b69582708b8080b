"""A real gateway on a free loopback port, and sites that enrolled with it for real."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pleura.client.agent.channel import Channel
from pleura.client.enrol import join
from pleura.client.settings import CoordinatorSection, SiteSettings
from pleura.common.blobs import BlobStore
from pleura.common.canonical import sha256_hex
from pleura.common.clock import Clock, SystemClock
from pleura.common.enrolment import FINGERPRINT_DIGITS, InviteCode
from pleura.common.ids import FederationId, SiteId
from pleura.common.keys import load_or_create_key
from pleura.common.orders import BlobRef
from pleura.server.gateway.process import build_server, open_port
from pleura.server.settings import ServerSettings
from pleura.server.sites import SiteRegistry
from pleura.server.store import RunStore
from pleura.server.tls import authority_fingerprint, ensure_tls
from tests.builders.federation import make_plan

FEDERATION = FederationId("test-federation")


def free_port() -> int:
    """Return a port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def coordinator_settings(
    folder: Path, *, superlink_port: int = 65000, port: int | None = None, max_blob_mb: int = 64
) -> ServerSettings:
    """Return settings with keys and certificates made below `folder`."""
    chosen = port or free_port()
    settings = ServerSettings(
        federation_id=FEDERATION,
        state_dir=folder,
        port=chosen,
        public_url=f"https://127.0.0.1:{chosen}",
        superlink_port=superlink_port,
        max_blob_mb=max_blob_mb,
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ensure_tls(settings, SystemClock().now())
    load_or_create_key(settings.signing_key_file)
    return settings


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that answers, and the registry of its coordinator."""

    settings: ServerSettings
    registry: SiteRegistry

    @property
    def url(self) -> str:
        return self.settings.public_url

    def invite(self, site: str) -> str:
        """Return a fresh one-time code."""
        secret = self.registry.invite(SiteId(site), timedelta(hours=24))
        prefix = authority_fingerprint(self.settings)[:FINGERPRINT_DIGITS]
        return InviteCode(secret, prefix).text

    def site_settings(self, site: str, folder: Path) -> SiteSettings:
        """Return the settings of a site that points at this gateway."""
        return SiteSettings(
            site_id=SiteId(site),
            state_dir=folder,
            coordinator=CoordinatorSection(
                url=self.url, federation_id=FEDERATION, ca_file=self.settings.ca_file
            ),
        )

    def pending_site(self, site: str, folder: Path) -> SiteSettings:
        """Enrol a site and leave it pending."""
        settings = self.site_settings(site, folder)
        join(settings, self.invite(site), SystemClock())
        return settings

    def approved_site(self, site: str, folder: Path) -> SiteSettings:
        """Enrol and approve a site."""
        settings = self.pending_site(site, folder)
        self.registry.approve(SiteId(site))
        return settings

    def publish_model(self, data: bytes) -> str:
        """Store bytes as the initial model of a new run and return their SHA-256."""
        digest = sha256_hex(data)
        BlobStore(self.settings.blobs_dir).put_stream([data], digest, 2**30)
        ref = BlobRef(
            blob_sha256=digest, size_bytes=len(data), tensor_digest=digest, schema_digest=digest
        )
        store = RunStore(self.settings.runs_db_file)
        plan = make_plan(run_id=f"run-{digest[:12]}")
        store.create(plan, ref, digest, SystemClock().now())
        store.close()
        return digest

    def channel(self, site: str, folder: Path, clock: Clock | None = None) -> Channel:
        """Return the channel of a fresh approved site."""
        return Channel.from_settings(self.approved_site(site, folder), clock or SystemClock())


@contextmanager
def running_gateway(
    folder: Path,
    *,
    superlink_port: int = 65000,
    hold_s: float = 1.0,
    max_blob_mb: int = 64,
    clock: Clock | None = None,
) -> Iterator[RunningGateway]:
    """Serve TLS on a free port in a thread until the block ends."""
    settings = coordinator_settings(folder, superlink_port=superlink_port, max_blob_mb=max_blob_mb)
    server = build_server(settings, clock or SystemClock(), hold_s=hold_s)
    listening = open_port(settings.host, settings.port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    registry = SiteRegistry(settings.sites_db_file, clock or SystemClock())
    try:
        yield RunningGateway(settings, registry)
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
        registry.close()


class Upstream:
    """A tiny HTTP server on loopback in the SuperLink's place; it keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.reply: bytes = b""
        self.status = 200
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                names = {name.lower(): value for name, value in self.headers.items()}
                upstream.asked.append((self.command, self.path, names, body))
                self.send_response(upstream.status)
                self.send_header("Content-Type", "application/protobuf")
                self.send_header("Set-Cookie", "inside=1")
                self.send_header("Content-Length", str(len(upstream.reply)))
                self.end_headers()
                self.wfile.write(upstream.reply)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
