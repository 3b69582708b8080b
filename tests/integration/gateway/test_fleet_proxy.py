"""The way to the SuperLink: a closed list of calls, the enrolled node key, a held pull."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from flwr.proto.fleet_pb2 import (
    ActivateNodeResponse,
    PullMessagesResponse,
    PushMessagesRequest,
)
from flwr.proto.message_pb2 import Message, Metadata
from flwr.proto.node_pb2 import Node

from pleura.client.agent.channel import Channel
from pleura.client.errors import CoordinatorRefused, CoordinatorUnreachable
from pleura.client.node_key import load_node_key, public_pem
from pleura.client.settings import SiteSettings
from pleura.common.clock import SystemClock
from pleura.common.errors import BlobTooLarge, KeyUnknown
from pleura.common.ids import SiteId
from pleura.server.bell import Bell
from pleura.server.gateway import fleet_proxy
from pleura.server.superlink_wire import FLEET_PATHS
from tests.builders.coordinator import RunningGateway, Upstream, running_gateway

PULL = "/v1/fleet/pull-messages"
ONE_MESSAGE = PullMessagesResponse(messages_list=[Message()]).SerializeToString()
HOLD_S = 1.2


@dataclass(frozen=True)
class Joined:
    channel: Channel
    node_key: str

    @property
    def headers(self) -> dict[str, str]:
        key = base64.b64encode(self.node_key.encode("ascii")).decode("ascii")
        return {"flwr-public-key": key, "Content-Type": "application/protobuf"}

    def post(self, path: str, body: bytes = b"") -> httpx.Response:
        return self.channel.request("POST", path, body=body, headers=self.headers)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def gateway(tmp_path: Path, upstream: Upstream) -> Iterator[RunningGateway]:
    with running_gateway(
        tmp_path / "coordinator", superlink_port=upstream.port, hold_s=HOLD_S
    ) as running:
        yield running


def joined(settings: SiteSettings) -> Joined:
    channel = Channel.from_settings(settings, SystemClock())
    return Joined(channel, public_pem(load_node_key(settings.node_key_file)))


@pytest.fixture
def site(gateway: RunningGateway, tmp_path: Path) -> Iterator[Joined]:
    opened = joined(gateway.approved_site("site-a", tmp_path / "a"))
    yield opened
    opened.channel.close()


def test_fleet_call_is_forwarded_with_flowers_headers_and_no_others(
    site: Joined, upstream: Upstream
) -> None:
    upstream.reply = b"\x0a\x00"
    reply = site.post("/v1/fleet/get-run", b"request bytes")
    assert reply.content == b"\x0a\x00"
    assert "set-cookie" not in reply.headers
    [(method, path, headers, body)] = upstream.asked
    assert (method, path, body) == ("POST", "/v1/fleet/get-run", b"request bytes")
    assert headers["flwr-public-key"] == site.headers["flwr-public-key"]
    assert not [name for name in headers if name.startswith("pleura-")]


def test_node_number_of_an_activation_is_recorded_for_the_site(
    gateway: RunningGateway, site: Joined, upstream: Upstream
) -> None:
    number = 2**63 + 5  # Flower's numbers are unsigned 64-bit
    upstream.reply = ActivateNodeResponse(node_id=number).SerializeToString()
    site.post("/v1/fleet/activate-node")
    known = gateway.registry.get(SiteId("site-a"))
    assert known is not None and known.node_id == number and known.activated_at is not None


def test_failed_activation_records_nothing(
    gateway: RunningGateway, site: Joined, upstream: Upstream
) -> None:
    upstream.reply, upstream.status = ActivateNodeResponse(node_id=7).SerializeToString(), 409
    assert site.post("/v1/fleet/activate-node").status_code == 409
    known = gateway.registry.get(SiteId("site-a"))
    assert known is not None and known.node_id is None


def test_site_that_uses_the_node_key_of_another_site_is_refused(
    gateway: RunningGateway, site: Joined, upstream: Upstream, tmp_path: Path
) -> None:
    other = joined(gateway.approved_site("site-b", tmp_path / "b"))
    with other.channel, pytest.raises(CoordinatorRefused, match="REJ-NODE-KEY"):
        other.channel.request("POST", PULL, headers=site.headers)
    assert upstream.asked == []


@pytest.mark.parametrize("value", ["", "%%%", base64.b64encode(b"\xff\xfe").decode()])
def test_missing_or_unreadable_node_key_is_refused(
    site: Joined, upstream: Upstream, value: str
) -> None:
    with pytest.raises(CoordinatorRefused, match="REJ-NODE-KEY"):
        site.channel.request("POST", PULL, headers={"flwr-public-key": value})
    assert upstream.asked == []


def test_empty_pull_is_held_and_asked_again(site: Joined, upstream: Upstream) -> None:
    started = time.monotonic()
    assert site.post(PULL).content == b""
    assert time.monotonic() - started >= HOLD_S
    assert 2 <= len(upstream.asked) <= 4  # also without a bell, but not in a loop


def test_bell_ends_the_wait_of_a_held_pull(
    gateway: RunningGateway, site: Joined, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_proxy, "ASK_EVERY_S", 60.0)  # nothing but the bell

    def deliver() -> None:
        while not upstream.asked:
            time.sleep(0.01)
        upstream.reply = ONE_MESSAGE
        Bell(gateway.settings.orders_bell_file).ring()

    threading.Thread(target=deliver).start()
    assert site.post(PULL).content == ONE_MESSAGE


def test_part_of_an_answer_rings_for_the_serverapp(
    gateway: RunningGateway, site: Joined, upstream: Upstream
) -> None:
    answers = Bell(gateway.settings.answers_bell_file)
    site.post("/v1/fleet/push-messages")
    assert answers.mark() == 0
    upstream.status = 409
    site.post("/v1/fleet/push-object")
    assert answers.mark() == 0
    upstream.status = 200
    site.post("/v1/fleet/push-object")
    assert answers.mark() > 0


def test_held_pull_returns_as_soon_as_there_is_a_message(site: Joined, upstream: Upstream) -> None:
    def deliver() -> None:
        upstream.reply = ONE_MESSAGE

    timer = threading.Timer(0.2, deliver)
    timer.start()
    started = time.monotonic()
    assert site.post(PULL).content == ONE_MESSAGE
    assert 0.15 < time.monotonic() - started < HOLD_S


def test_pull_that_has_a_message_is_not_held(site: Joined, upstream: Upstream) -> None:
    upstream.reply = ONE_MESSAGE
    site.post(PULL)
    assert len(upstream.asked) == 1


def test_error_of_the_superlink_is_not_held(site: Joined, upstream: Upstream) -> None:
    upstream.status = 409
    assert site.post(PULL).status_code == 409
    assert len(upstream.asked) == 1


def test_site_revoked_while_its_pull_is_held_is_out(
    gateway: RunningGateway, site: Joined, upstream: Upstream
) -> None:
    timer = threading.Timer(0.2, lambda: gateway.registry.revoke(SiteId("site-a")))
    timer.start()
    with pytest.raises(KeyUnknown):
        site.post(PULL)
    timer.join()


def test_oversized_fleet_message_is_refused_before_it_is_read(
    site: Joined, upstream: Upstream
) -> None:
    with pytest.raises(BlobTooLarge):
        site.post("/v1/fleet/push-object", bytes(16 * 1024 * 1024 + 1))
    assert upstream.asked == []


def test_oversized_message_without_a_length_is_refused_too(
    gateway: RunningGateway, site: Joined, upstream: Upstream
) -> None:
    body = bytes(17 * 1024 * 1024)
    target = "/v1/fleet/push-object"
    headers = site.channel.signing_headers("POST", target, "0" * 64)
    pieces = (body[i : i + 65536] for i in range(0, len(body), 65536))
    reply = site.channel._client.post(target, content=pieces, headers={**headers, **site.headers})
    assert (reply.status_code, reply.json()["code"]) == (413, "REJ-SIZE")
    assert upstream.asked == []


def test_altered_fleet_message_never_reaches_the_superlink(
    site: Joined, upstream: Upstream
) -> None:
    target = "/v1/fleet/push-messages"
    headers = site.channel.signing_headers("POST", target, "0" * 64)
    reply = site.channel._client.post(
        target, content=b"altered", headers={**headers, **site.headers}
    )
    assert (reply.status_code, reply.json()["code"]) == (401, "REJ-DIGEST")
    assert upstream.asked == []


def test_silent_superlink_is_unreachable(
    gateway: RunningGateway, site: Joined, upstream: Upstream
) -> None:
    upstream.close()
    with pytest.raises(CoordinatorUnreachable):
        site.post("/v1/fleet/get-run")


@pytest.mark.parametrize("path", sorted(FLEET_PATHS))
def test_unsigned_fleet_call_never_reaches_the_superlink(
    site: Joined, upstream: Upstream, path: str
) -> None:
    reply = site.channel._client.post(path, content=b"", headers=site.headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "REJ-SIGNATURE")
    assert upstream.asked == []


def test_answer_pushed_as_another_node_never_reaches_the_superlink(
    site: Joined, upstream: Upstream
) -> None:
    def pushed(source: int) -> bytes:
        message = Message(metadata=Metadata(src_node_id=source))
        return PushMessagesRequest(
            node=Node(node_id=7), messages_list=[message]
        ).SerializeToString()

    target = "/v1/fleet/push-messages"
    for body in (pushed(8), b"no protobuf"):
        with pytest.raises(CoordinatorRefused, match="REJ-NODE-KEY"):
            site.post(target, body)
    assert upstream.asked == []
    assert site.post(target, pushed(7)).status_code == 200
