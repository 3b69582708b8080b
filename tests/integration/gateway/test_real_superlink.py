"""The probe of Flower's open interfaces, repeated against the public port.

Behind the gateway runs the real SuperLink. Directly, on loopback, its control
interface answers anyone; through the gateway nothing but signed fleet calls does.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.control_pb2 import ListRunsRequest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    PullMessagesRequest,
    PullMessagesResponse,
    RegisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import sign_message
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

from pleura.client.agent.channel import Channel
from pleura.client.errors import CoordinatorRefused
from pleura.client.node_key import load_node_key, public_pem
from pleura.common.canonical import sha256_hex
from pleura.common.clock import SystemClock
from pleura.common.ids import SiteId
from pleura.server.superlink_wire import FLEET_PATHS, FLEET_PREFIX
from tests.builders.coordinator import RunningGateway, free_port, running_gateway

PROTOBUF = {"Content-Type": "application/protobuf"}


@pytest.fixture(scope="module")
def superlink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The real SuperLink on loopback, as the coordinator starts it."""
    folder, port = tmp_path_factory.mktemp("superlink"), free_port()
    program = Path(sys.executable).parent / "flower-superlink"
    arguments = [
        *(str(program), "--insecure", "--host", "127.0.0.1", "--port", str(port)),
        *("--database", str(folder / "flower.db"), "--isolation", "subprocess"),
        "--disable-runtime-dependency-installation",
    ]
    settings = {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_HOME": str(folder),
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",  # for flower-superexec
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            arguments, env={**os.environ, **settings}, stdout=log, stderr=log
        )
    try:
        _wait_until_it_answers(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(15)


def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the SuperLink ended"
        try:
            httpx.get(f"http://127.0.0.1:{port}/openapi.json", timeout=2)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the SuperLink does not answer")


@dataclass(frozen=True)
class Scene:
    gateway: RunningGateway
    channel: Channel
    node_key_file: Path

    def flower_headers(self) -> dict[str, str]:
        """What Flower's own client adds to a fleet call."""
        key = load_node_key(self.node_key_file)
        moment = now().isoformat()
        pem = public_pem(key).encode("ascii")
        return {
            **PROTOBUF,
            "flwr-public-key": base64.b64encode(pem).decode("ascii"),
            "flwr-timestamp": moment,
            "flwr-signature": base64.b64encode(sign_message(key, moment.encode())).decode("ascii"),
        }

    @property
    def node_pem(self) -> bytes:
        return public_pem(load_node_key(self.node_key_file)).encode("ascii")


@pytest.fixture(scope="module")
def scene(superlink: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    with running_gateway(folder / "coordinator", superlink_port=superlink, hold_s=0.5) as gateway:
        settings = gateway.approved_site("site-a", folder / "a")
        with Channel.from_settings(settings, SystemClock()) as channel:
            yield Scene(gateway, channel, settings.node_key_file)


def test_control_interface_of_the_superlink_does_answer_anyone_on_loopback(
    superlink: int,
) -> None:
    """Why the gateway is needed; if Flower closes this, the pages that say so must change."""
    base = f"http://127.0.0.1:{superlink}"
    body = ListRunsRequest().SerializeToString()
    reply = httpx.post(f"{base}/v1/control/list-runs", content=body, headers=PROTOBUF, timeout=20)
    assert reply.status_code == 200
    assert httpx.get(f"{base}/docs", timeout=20).status_code == 200


def test_no_interface_of_the_superlink_answers_an_unsigned_request(scene: Scene) -> None:
    client = scene.channel._client
    for method, path in sorted(PROTOBUF_REQUEST_TYPES):
        reply = client.request(method, path, content=b"", headers=PROTOBUF)
        expected = 401 if path in FLEET_PATHS else 404
        assert reply.status_code == expected, path
    for path in ("/docs", "/openapi.json", "/health", "/", "/v1/responses", "/some/path"):
        assert client.get(path).status_code == 404, path


def test_signed_request_of_an_approved_site_reaches_the_fleet_interface_only(
    scene: Scene,
) -> None:
    for method, path in sorted(PROTOBUF_REQUEST_TYPES):
        if path.startswith(FLEET_PREFIX):
            continue
        reply = scene.channel.request(method, path, headers=scene.flower_headers())
        assert reply.status_code == 404, path


def test_node_registers_activates_beats_and_pulls_through_the_gateway(scene: Scene) -> None:
    register = RegisterNodeFleetRequest(public_key=scene.node_pem)
    reply = _fleet(scene, "register-node", register.SerializeToString())
    assert reply.status_code == 200
    activate = ActivateNodeRequest(public_key=scene.node_pem, heartbeat_interval=30)
    activated = ActivateNodeResponse.FromString(
        _fleet(scene, "activate-node", activate.SerializeToString()).content
    )
    site = scene.gateway.registry.get(SiteId("site-a"))
    assert site is not None and site.node_id == activated.node_id != 0
    node = Node(node_id=activated.node_id)
    beat = SendNodeHeartbeatRequest(node=node, heartbeat_interval=30)
    reply = _fleet(scene, "send-node-heartbeat", beat.SerializeToString())
    assert SendNodeHeartbeatResponse.FromString(reply.content).success
    started = time.monotonic()
    pull = _fleet(scene, "pull-messages", PullMessagesRequest(node=node).SerializeToString())
    assert not PullMessagesResponse.FromString(pull.content).messages_list
    assert time.monotonic() - started >= 0.5  # held, then empty


def test_superlink_refuses_the_node_number_of_another_node(scene: Scene) -> None:
    reply = scene.channel._client.post(
        "/v1/fleet/pull-messages",
        content=(body := PullMessagesRequest(node=Node(node_id=12345)).SerializeToString()),
        headers={
            **scene.channel.signing_headers("POST", "/v1/fleet/pull-messages", sha256_hex(body)),
            **scene.flower_headers(),
        },
    )
    assert reply.status_code == 401


def _fleet(scene: Scene, name: str, body: bytes) -> httpx.Response:
    return scene.channel.request(
        "POST", FLEET_PREFIX + name, body=body, headers=scene.flower_headers()
    )


def test_superlink_ties_a_node_number_to_the_node_key_that_the_gateway_checked(
    scene: Scene,
) -> None:
    """The gateway compares the key, Flower the number with the key: both are needed."""
    heartbeat = SendNodeHeartbeatRequest(node=Node(node_id=12345), heartbeat_interval=30.0)
    other = public_pem(ec.generate_private_key(ec.SECP384R1())).encode("ascii")
    calls = {
        "send-node-heartbeat": heartbeat.SerializeToString(),
        "register-node": RegisterNodeFleetRequest(public_key=other).SerializeToString(),
    }
    for name, body in calls.items():
        with pytest.raises(CoordinatorRefused, match="status 401"):
            scene.channel.request(
                "POST", FLEET_PREFIX + name, body=body, headers=scene.flower_headers()
            )
