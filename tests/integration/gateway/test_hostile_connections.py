"""Connections that want to keep the gateway busy, and 10,000 forged requests."""

from __future__ import annotations

import base64
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from starlette.requests import Request

from pleura.client.agent.channel import Channel, blob_target
from pleura.client.errors import CoordinatorUnreachable
from pleura.common.canonical import sha256_hex
from pleura.common.clock import SystemClock
from pleura.common.errors import KeyUnknown, PleuraError, SignatureRejected
from pleura.server.gateway import auth, seats
from pleura.server.gateway.app import target_of
from pleura.server.gateway.auth import APPROVED_ONLY, Authenticator
from pleura.server.gateway.bounded_http import BoundedHttp
from tests.builders.coordinator import RunningGateway, running_gateway

FORGERIES = 10_000


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningGateway]:
    monkeypatch.setattr(BoundedHttp, "header_s", 0.4)
    with running_gateway(tmp_path / "coordinator") as running:
        yield running


@pytest.fixture
def channel(gateway: RunningGateway, tmp_path: Path) -> Iterator[Channel]:
    with gateway.channel("site-a", tmp_path / "a") as opened:
        yield opened


@pytest.fixture
def stream(gateway: RunningGateway, channel: Channel) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", gateway.settings.port), timeout=10) as plain,
        channel.ssl_context.wrap_socket(plain, server_hostname="127.0.0.1") as opened,
    ):
        yield opened


def is_cut(stream: ssl.SSLSocket) -> bool:
    try:
        return stream.recv(1) == b""
    except (ConnectionError, ssl.SSLError):
        return True


def test_connection_that_says_nothing_is_cut(stream: ssl.SSLSocket) -> None:
    started = time.monotonic()
    assert is_cut(stream)
    assert time.monotonic() - started < 5


def test_connection_that_never_ends_its_headers_is_cut(stream: ssl.SSLSocket) -> None:
    stream.sendall(b"GET /pleura/v1/site HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    assert is_cut(stream)


def test_headers_that_come_in_pieces_within_the_deadline_are_answered(
    stream: ssl.SSLSocket,
) -> None:
    stream.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n")
    time.sleep(0.1)
    stream.sendall(b"\r\n")
    assert stream.recv(12) == b"HTTP/1.1 404"


def test_headers_without_end_are_cut_by_their_size(
    stream: ssl.SSLSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedHttp, "header_s", 60.0)
    stream.sendall(b"GET /pleura/v1/site HTTP/1.1\r\nHost: x\r\n")
    with pytest.raises((ConnectionError, ssl.SSLError)):
        for _ in range(10_000):
            stream.sendall(b"X-Header: " + b"x" * 1000 + b"\r\n")


def test_request_after_an_idle_while_is_answered(channel: Channel) -> None:
    """The deadline counts from a request's first byte, not from the last answer."""
    assert channel.request("GET", "/pleura/v1/site").status_code == 200
    time.sleep(0.8)
    assert channel.request("GET", "/pleura/v1/site").status_code == 200


def test_of_ten_thousand_replays_and_alterations_none_is_accepted(
    gateway: RunningGateway, channel: Channel
) -> None:
    auth = Authenticator(gateway.registry, SystemClock())
    generator = random.Random(20260101)
    empty = sha256_hex(b"")
    target = "/pleura/v1/log?from=12"
    genuine = channel.signing_headers("GET", target, empty)
    assert auth.site_of(request("GET", target, genuine), target, APPROVED_ONLY)
    accepted = 0
    for number in range(FORGERIES):
        if number % 10 == 0:
            forged, method, path = dict(genuine), "GET", target  # the same request again
        else:
            fresh = channel.signing_headers("GET", target, empty)
            forged, method, path = altered(generator, fresh, target)
        try:
            auth.site_of(request(method, path, forged), path, APPROVED_ONLY)
        except PleuraError:
            continue
        accepted += 1
    assert accepted == 0


def altered(
    generator: random.Random, headers: dict[str, str], target: str
) -> tuple[dict[str, str], str, str]:
    """Change one sign of one header, or of the target, or the method."""
    place = generator.choice([*headers, "target", "method"])
    if place == "method":
        return headers, generator.choice(["POST", "HEAD", "PATCH"]), target
    if place == "target":
        return headers, "GET", one_sign_changed(generator, target)
    return {**headers, place: one_sign_changed(generator, headers[place])}, "GET", target


def one_sign_changed(generator: random.Random, text: str) -> str:
    place = generator.randrange(len(text))
    sign = generator.choice([s for s in "0123456789abcdefABCDEF+/=-:TZ" if s != text[place]])
    return text[:place] + sign + text[place + 1 :]


def request(method: str, target: str, headers: dict[str, str]) -> Request:
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
    }
    assert target_of(scope) == target
    return Request(scope)


def test_second_spelling_of_a_signature_is_refused(
    gateway: RunningGateway, channel: Channel
) -> None:
    """Base64 leaves four bits of the last sign unused; only zeros are accepted there."""
    auth = Authenticator(gateway.registry, SystemClock())
    target = "/pleura/v1/log?from=12"
    headers = channel.signing_headers("GET", target, sha256_hex(b""))
    signature = headers["Pleura-Signature"]
    signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = signature[:-3] + signs[signs.index(signature[-3]) + 1] + "=="
    assert base64.b64decode(other) == base64.b64decode(signature)
    with pytest.raises(SignatureRejected):
        auth.site_of(
            request("GET", target, {**headers, "Pleura-Signature": other}), target, APPROVED_ONLY
        )
    assert auth.site_of(request("GET", target, headers), target, APPROVED_ONLY)


def test_site_name_of_another_site_does_not_fit_the_key(
    gateway: RunningGateway, channel: Channel, tmp_path: Path
) -> None:
    """The name itself is not signed; each transport key belongs to one site only."""
    gateway.approved_site("site-b", tmp_path / "b")
    auth = Authenticator(gateway.registry, SystemClock())
    target = "/pleura/v1/log?from=12"
    headers = channel.signing_headers("GET", target, sha256_hex(b""))
    with pytest.raises(KeyUnknown):
        auth.site_of(
            request("GET", target, {**headers, "Pleura-Site": "site-b"}), target, APPROVED_ONLY
        )


def test_body_that_drips_is_given_up_though_it_never_stops(
    stream: ssl.SSLSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enrolment is open to everybody: 16 KiB at a byte now and then would last for days."""
    monkeypatch.setattr(auth, "BODY_SILENCE_S", 0.5)
    monkeypatch.setattr(auth, "BODY_BYTES_PER_S", 100_000)
    head = b"POST /pleura/v1/enrolments HTTP/1.1\r\nHost: x\r\nContent-Length: 16000\r\n\r\n"
    stream.sendall(head)
    stream.settimeout(0.1)
    for _ in range(100):
        stream.sendall(b"x")
        with suppress(TimeoutError):
            assert stream.recv(12) == b"HTTP/1.1 503"
            return
    pytest.fail("the gateway waits for ever")


def test_site_that_keeps_many_requests_open_shuts_out_only_itself(
    gateway: RunningGateway,
    channel: Channel,
    stream: ssl.SSLSocket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seats, "SEATS_A_SITE", 1)
    target = f"{blob_target('0' * 64)}?offset=0&total=9"
    headers = channel.signing_headers("PATCH", target, sha256_hex(b"123456789"))
    head = f"PATCH {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    stream.sendall(head.encode("ascii"))
    wait_until(lambda: not answers(channel))
    with gateway.channel("site-b", tmp_path / "b") as other:
        assert answers(other)
    stream.close()
    wait_until(lambda: answers(channel))


def answers(channel: Channel) -> bool:
    try:
        return channel.request("GET", "/pleura/v1/site").status_code == 200
    except CoordinatorUnreachable:
        return False


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
