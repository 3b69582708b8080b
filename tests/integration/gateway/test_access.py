"""Who gets past the gateway: signed, fresh, unaltered, approved; and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from pleura.client.agent.channel import Channel, pinned_context
from pleura.client.errors import CaMismatch, CoordinatorUnreachable
from pleura.common.canonical import sha256_hex
from pleura.common.clock import FakeClock, SystemClock
from pleura.common.errors import ClockSkew, KeyUnknown, SignatureRejected, SiteNotApproved
from pleura.common.ids import SiteId
from pleura.common.keys import SigningKey
from pleura.common.request_signature import HEADERS
from pleura.server.ledger.log import StatementLog
from tests.builders.coordinator import RunningGateway, coordinator_settings, running_gateway

EMPTY = sha256_hex(b"")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway") / "coordinator") as running:
        yield running


@pytest.fixture(scope="module")
def channel(gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Channel]:
    with gateway.channel("site-a", tmp_path_factory.mktemp("a") / "state") as opened:
        yield opened


def plain(gateway: RunningGateway) -> httpx.Client:
    """A client that trusts the CA but signs nothing."""
    return httpx.Client(base_url=gateway.url, verify=pinned_context(gateway.settings.ca_file))


def test_signed_request_of_an_approved_site_is_answered(channel: Channel) -> None:
    reply = channel.request("GET", "/pleura/v1/site").json()
    assert (reply["state"], reply["federation_id"]) == ("approved", "test-federation")


def test_log_is_read_from_any_index(gateway: RunningGateway, channel: Channel) -> None:
    log = StatementLog(gateway.settings.log_db_file)
    for number in range(3):
        log.append("order", b"envelope %d" % number)
    log.close()
    lines = channel.request("GET", "/pleura/v1/log?from=1").content.splitlines()
    assert [line.decode() for line in lines] == [
        '{"envelope":"ZW52ZWxvcGUgMQ==","index":1}',
        '{"envelope":"ZW52ZWxvcGUgMg==","index":2}',
    ]
    assert channel.request("GET", "/pleura/v1/log?from=99").content == b""


def test_list_of_sites_names_key_and_state(gateway: RunningGateway, channel: Channel) -> None:
    site = gateway.registry.get(SiteId("site-a"))
    assert site is not None
    row = {"site_id": "site-a", "key_id": site.signing_key.key_id, "state": "approved"}
    assert row in channel.request("GET", "/pleura/v1/sites").json()


@pytest.mark.parametrize(
    "target",
    [
        "/pleura/v1/site",
        "/pleura/v1/sites",
        "/pleura/v1/log?from=0",
        "/pleura/v1/blobs/" + "0" * 64,
    ],
)
def test_unsigned_request_is_refused(gateway: RunningGateway, target: str) -> None:
    with plain(gateway) as client:
        reply = client.get(target)
    assert (reply.status_code, reply.json()["code"]) == (401, "REJ-SIGNATURE")
    assert set(reply.json()) == {"code", "hint"}


@pytest.mark.parametrize("missing", HEADERS)
def test_request_without_one_of_the_headers_is_refused(
    gateway: RunningGateway, channel: Channel, missing: str
) -> None:
    headers = channel.signing_headers("GET", "/pleura/v1/site", EMPTY)
    headers.pop(missing)
    with plain(gateway) as client:
        assert client.get("/pleura/v1/site", headers=headers).status_code == 401


@pytest.mark.parametrize("doubled", HEADERS)
def test_request_with_a_signature_header_twice_is_refused(
    gateway: RunningGateway, channel: Channel, doubled: str
) -> None:
    headers = list(channel.signing_headers("GET", "/pleura/v1/site", EMPTY).items())
    headers += [(doubled, "other")]
    with plain(gateway) as client:
        reply = client.get("/pleura/v1/site", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "REJ-SIGNATURE")


def test_request_sent_twice_is_refused_the_second_time(
    gateway: RunningGateway, channel: Channel
) -> None:
    headers = channel.signing_headers("GET", "/pleura/v1/site", EMPTY)
    with plain(gateway) as client:
        assert client.get("/pleura/v1/site", headers=headers).status_code == 200
        reply = client.get("/pleura/v1/site", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "REJ-REPLAY")


def test_signature_does_not_carry_to_another_path_query_or_method(
    gateway: RunningGateway, channel: Channel
) -> None:
    with plain(gateway) as client:
        for method, target in [
            ("GET", "/pleura/v1/sites"),
            ("GET", "/pleura/v1/log?from=0"),
            ("HEAD", "/pleura/v1/blobs/" + "0" * 64),
        ]:
            headers = channel.signing_headers("GET", "/pleura/v1/log?from=1", EMPTY)
            assert client.request(method, target, headers=headers).status_code == 401


def test_altered_body_is_refused(gateway: RunningGateway, channel: Channel) -> None:
    target = f"/pleura/v1/blobs/{'1' * 64}?offset=0&total=5"
    headers = channel.signing_headers("PATCH", target, sha256_hex(b"hello"))
    with plain(gateway) as client:
        reply = client.patch(target, content=b"hellx", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "REJ-DIGEST")
    assert channel.blob_state("1" * 64).offset == 0


def test_body_where_none_belongs_is_refused(gateway: RunningGateway, channel: Channel) -> None:
    headers = channel.signing_headers("GET", "/pleura/v1/site", sha256_hex(b"x"))
    with plain(gateway) as client:
        reply = client.request("GET", "/pleura/v1/site", content=b"x", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (413, "REJ-SIZE")


def test_key_of_nobody_is_refused(gateway: RunningGateway, tmp_path: Path) -> None:
    stranger = Channel(
        gateway.url,
        gateway.settings.ca_file,
        SiteId("site-a"),
        SigningKey.generate(),
        SystemClock(),
    )
    with stranger, pytest.raises(KeyUnknown):
        stranger.request("GET", "/pleura/v1/site")


def test_signature_by_another_key_under_the_right_key_id_is_refused(
    gateway: RunningGateway, channel: Channel
) -> None:
    headers = channel.signing_headers("GET", "/pleura/v1/site", EMPTY)
    with Channel(
        gateway.url,
        gateway.settings.ca_file,
        SiteId("site-a"),
        SigningKey.generate(),
        SystemClock(),
    ) as forger:
        forged = forger.signing_headers("GET", "/pleura/v1/site", EMPTY)
    with plain(gateway) as client:
        reply = client.get(
            "/pleura/v1/site", headers={**forged, "Pleura-Key": headers["Pleura-Key"]}
        )
    assert (reply.status_code, reply.json()["code"]) == (401, "REJ-SIGNATURE")


@pytest.mark.parametrize("shift_s", [-250, 250])
def test_clock_too_early_or_late_is_named_to_the_site(
    gateway: RunningGateway, tmp_path: Path, shift_s: int
) -> None:
    settings = gateway.approved_site(f"clock{shift_s + 300}", tmp_path / "s")
    wrong = FakeClock(datetime.now(UTC) + timedelta(seconds=shift_s))
    with Channel.from_settings(settings, wrong) as late, pytest.raises(ClockSkew):
        late.request("GET", "/pleura/v1/site")
    headers = late.signing_headers("GET", "/pleura/v1/site", EMPTY)
    with plain(gateway) as client:  # and the gateway itself refuses, whatever the site checks
        reply = client.get("/pleura/v1/site", headers=headers)
    assert reply.status_code == 401
    assert reply.json()["code"] in ("HOST-CLOCK",)


def test_request_signed_before_the_gateway_started_is_sent_again_not_given_up(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    """Its nonce memory does not reach back, so the gateway refuses and the site retries."""
    settings = gateway.approved_site("early", tmp_path / "s")
    early = FakeClock(datetime.now(UTC) - timedelta(seconds=200))
    with Channel.from_settings(settings, early) as channel:
        headers = channel.signing_headers("GET", "/pleura/v1/site", EMPTY)
        with plain(gateway) as client:
            reply = client.get("/pleura/v1/site", headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (401, "REJ-REPLAY")
        with pytest.raises(CoordinatorUnreachable):
            channel.request("GET", "/pleura/v1/site")


def test_pending_site_may_only_ask_where_it_stands(gateway: RunningGateway, tmp_path: Path) -> None:
    settings = gateway.pending_site("waiting", tmp_path / "s")
    with Channel.from_settings(settings, SystemClock()) as waiting:
        assert waiting.request("GET", "/pleura/v1/site").json()["state"] == "pending"
        for target in ("/pleura/v1/sites", "/pleura/v1/log?from=0"):
            with pytest.raises(SiteNotApproved):
                waiting.request("GET", target)
        with pytest.raises(SiteNotApproved):
            waiting.request("POST", "/v1/fleet/pull-messages")


def test_revoked_site_is_out_at_its_next_request(gateway: RunningGateway, tmp_path: Path) -> None:
    with gateway.channel("leaving", tmp_path / "s") as leaving:
        assert leaving.request("GET", "/pleura/v1/sites").status_code == 200
        gateway.registry.revoke(SiteId("leaving"))
        with pytest.raises(KeyUnknown):
            leaving.request("GET", "/pleura/v1/sites")
        assert leaving.request("GET", "/pleura/v1/site").json()["state"] == "revoked"


def test_registry_remembers_when_a_site_was_heard(gateway: RunningGateway, tmp_path: Path) -> None:
    with gateway.channel("heard", tmp_path / "s") as heard:
        heard.request("GET", "/pleura/v1/site")
    site = gateway.registry.get(SiteId("heard"))
    assert site is not None and site.last_seen is not None
    assert abs((datetime.now(UTC) - site.last_seen).total_seconds()) < 10


ODD_TARGETS = [
    "/",
    "/docs",
    "/openapi.json",
    "/redoc",
    "/pleura/v1/site/",
    "/pleura/v1/site?x=1",
    "/pleura/v1//site",
    "/pleura/v1/%73ite",
    "/pleura/v1/../v1/site",
    "/pleura/v1/log",
    "/pleura/v1/log?from=0&from=1",
    "/pleura/v1/blobs/" + "0" * 63,
    "/pleura/v1/blobs/" + "A" * 64,
    "/v1/fleet/",
    "/v1/fleet/../control/list-runs",
    "/v1/fleet/%2e%2e/control/list-runs",
    "/v1/fleet//pull-messages",
    "/v1/fleet/pull-messages/",
    "/v1/fleet/pull-messages?x=1",
    "/v1/fleet%2fpull-messages",
    "/v1/fleet/get-fab",
    "/v1/fleet/unregister-node",
    "/v1/control/list-runs",
    "/v1/runtime/acquire-task",
    "//v1/fleet/pull-messages",
    "/V1/FLEET/PULL-MESSAGES",
]


@pytest.mark.parametrize("target", ODD_TARGETS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_any_other_target_is_not_there_even_when_signed(
    gateway: RunningGateway, channel: Channel, method: str, target: str
) -> None:
    headers = channel.signing_headers(method, target, EMPTY)
    assert raw_status(gateway, channel, method, target, headers) == 404


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "HEAD", "CONNECT"]
)
def test_other_methods_are_not_there(
    gateway: RunningGateway, channel: Channel, method: str
) -> None:
    for target in ("/pleura/v1/site", "/v1/fleet/pull-messages", "/pleura/v1/enrolments"):
        headers = channel.signing_headers(method, target, EMPTY)
        assert raw_status(gateway, channel, method, target, headers) in (400, 404)


def raw_status(
    gateway: RunningGateway, channel: Channel, method: str, target: str, headers: dict[str, str]
) -> int:
    """Send the target as it is, which no HTTP library does, and return the status."""
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    with (
        socket.create_connection(("127.0.0.1", gateway.settings.port), timeout=10) as connection,
        channel.ssl_context.wrap_socket(connection, server_hostname="127.0.0.1") as stream,
    ):
        stream.sendall(head.encode("ascii"))
        reply = stream.recv(4096)
    return int(reply.split(b" ", 2)[1])


def test_server_with_another_ca_is_a_mismatch_and_gets_nothing(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    other = coordinator_settings(tmp_path / "other")
    with (
        Channel(
            gateway.url, other.ca_file, SiteId("site-a"), SigningKey.generate(), SystemClock()
        ) as channel,
        pytest.raises(CaMismatch),
    ):
        channel.request("GET", "/pleura/v1/site")


def test_certificate_for_another_name_is_a_mismatch(gateway: RunningGateway) -> None:
    url = f"https://localhost:{gateway.settings.port}"  # the certificate names 127.0.0.1 only
    with (
        Channel(
            url, gateway.settings.ca_file, SiteId("site-a"), SigningKey.generate(), SystemClock()
        ) as channel,
        pytest.raises(CaMismatch),
    ):
        channel.request("GET", "/pleura/v1/site")


def test_nobody_listening_is_unreachable_not_refused(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    settings = coordinator_settings(tmp_path / "silent")
    with (
        Channel(
            settings.public_url,
            settings.ca_file,
            SiteId("site-a"),
            SigningKey.generate(),
            SystemClock(),
        ) as channel,
        pytest.raises(CoordinatorUnreachable),
    ):
        channel.request("GET", "/pleura/v1/site")


def test_unsigned_wrong_signature_is_named(gateway: RunningGateway, channel: Channel) -> None:
    headers = channel.signing_headers("GET", "/pleura/v1/site", EMPTY)
    signature = headers["Pleura-Signature"]
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
    with plain(gateway) as client:
        reply = client.get("/pleura/v1/site", headers={**headers, "Pleura-Signature": flipped})
    assert (reply.status_code, reply.json()["code"]) == (401, SignatureRejected.code)
