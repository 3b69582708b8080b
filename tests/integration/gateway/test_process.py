"""The gateway as a process: its port, its certificate, its end."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pleura.client.agent.channel import Channel
from pleura.client.errors import CoordinatorUnreachable
from pleura.client.node_key import load_node_key, public_pem
from pleura.common.clock import SystemClock
from pleura.common.errors import InvalidConfigValue, KeyFileInsecure, PleuraError
from pleura.server.errors import PortInUse, TlsMissing
from pleura.server.gateway.process import build_server, open_port
from pleura.server.settings import ServerSettings
from pleura.server.sites import SiteRegistry
from tests.builders.coordinator import RunningGateway, Upstream, coordinator_settings

SERVE = """
import sys
from pleura.common.cli import operator_errors
from pleura.server.gateway.process import main
from pleura.server.settings import ServerSettings
with operator_errors():
    main(ServerSettings.model_validate_json(sys.argv[1]))
"""


@contextmanager
def serving(settings: ServerSettings) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, settings.model_dump_json()],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        if process.stderr:
            process.stderr.close()


def wait_for_port(settings: ServerSettings) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection((settings.host, settings.port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the gateway does not listen")


def test_gateway_ends_within_three_seconds_although_a_pull_is_held(tmp_path: Path) -> None:
    upstream = Upstream()
    settings = coordinator_settings(tmp_path / "c", superlink_port=upstream.port)
    registry = SiteRegistry(settings.sites_db_file, SystemClock())
    gateway = RunningGateway(settings, registry)
    with serving(settings) as process:
        wait_for_port(settings)
        site = gateway.approved_site("site-a", tmp_path / "a")
        with Channel.from_settings(site, SystemClock()) as channel:
            puller = threading.Thread(target=pull_until_it_ends, args=(channel, site.node_key_file))
            puller.start()
            while not upstream.asked:
                time.sleep(0.02)
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert time.monotonic() - started < 3
            puller.join(10)
            assert not puller.is_alive()
    upstream.close()
    registry.close()
    lines = (settings.log_dir / "gateway.jsonl").read_text().splitlines()
    names = [json.loads(line)["event"] for line in lines]
    assert names[0] == "process.started"
    assert names[-1] == "process.stopped"
    assert "site.enrolled" in names


def pull_until_it_ends(channel: Channel, node_key_file: Path) -> None:
    pem = public_pem(load_node_key(node_key_file)).encode()
    headers = {"flwr-public-key": base64.b64encode(pem).decode()}
    try:
        channel.request("POST", "/v1/fleet/pull-messages", headers=headers)
    except CoordinatorUnreachable:
        return


def test_taken_port_is_named_and_the_exit_status_is_the_environments(tmp_path: Path) -> None:
    settings = coordinator_settings(tmp_path / "c")
    with socket.create_server((settings.host, settings.port)), serving(settings) as process:
        assert process.wait(30) == PortInUse.exit_code
        assert process.stderr is not None and "HOST-PORT" in process.stderr.read()


def test_port_errors_are_told_apart(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUse):
        open_port("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InvalidConfigValue):
        open_port("203.0.113.1", 0)  # an address of nobody here


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda s: s.tls_cert_file.unlink(), TlsMissing),
        (lambda s: s.tls_key_file.unlink(), TlsMissing),
        (lambda s: s.tls_key_file.chmod(0o640), KeyFileInsecure),
        (lambda s: s.signing_key_file.chmod(0o644), KeyFileInsecure),
    ],
)
def test_gateway_does_not_start_without_private_keys_and_certificate(
    tmp_path: Path, spoil: Callable[[ServerSettings], None], error: type[PleuraError]
) -> None:
    settings = coordinator_settings(tmp_path / "c")
    spoil(settings)
    with pytest.raises(error):
        build_server(settings, SystemClock())
