"""Signed requests: accepted once, as signed, now; anything else is refused by name."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from pleura.common.canonical import sha256_hex
from pleura.common.errors import ClockSkew, KeyUnknown, ReplayRejected, SignatureRejected
from pleura.common.ids import SiteId
from pleura.common.keys import SigningKey, VerifyKey
from pleura.common.request_signature import (
    CONTENT,
    HEADERS,
    KEY,
    NONCE,
    TIME,
    NonceMemory,
    check_request,
    sign_request,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
A, B = SiteId("site-a"), SiteId("site-b")
KEY_A, KEY_B = SigningKey.generate(), SigningKey.generate()
BODY = sha256_hex(b"body")


def key_of(site: SiteId) -> VerifyKey | None:
    return {A: KEY_A.public, B: KEY_B.public}.get(site)


def memory() -> NonceMemory:
    return NonceMemory(NOW - timedelta(hours=1))


def signed(**changes: str) -> dict[str, str]:
    headers = sign_request(KEY_A, A, "POST", "/pleura/v1/x?y=1", BODY, NOW)
    return {**headers, **changes}


def check(
    headers: dict[str, str],
    *,
    method: str = "POST",
    target: str = "/pleura/v1/x?y=1",
    now: datetime = NOW,
    nonces: NonceMemory | None = None,
) -> SiteId:
    return check_request(headers, method, target, key_of=key_of, now=now, nonces=nonces or memory())


def test_a_signed_request_names_its_site() -> None:
    assert check(signed()) == A


def test_a_request_is_accepted_once() -> None:
    nonces, headers = memory(), signed()
    check(headers, nonces=nonces)
    with pytest.raises(ReplayRejected):
        check(headers, nonces=nonces)


def test_a_nonce_is_forgotten_only_after_its_time_is_refused_anyway() -> None:
    nonces, headers = memory(), signed()
    check(headers, nonces=nonces)
    later = NOW + timedelta(seconds=601)
    check(sign_request(KEY_A, A, "POST", "/pleura/v1/x?y=1", BODY, later), now=later, nonces=nonces)
    with pytest.raises(ClockSkew):
        check(headers, now=later, nonces=nonces)


def test_a_request_signed_before_the_memory_began_is_refused() -> None:
    with pytest.raises(ReplayRejected):
        check(signed(), nonces=NonceMemory(NOW + timedelta(seconds=2)))


@pytest.mark.parametrize(
    ("method", "target"),
    [("PUT", "/pleura/v1/x?y=1"), ("POST", "/pleura/v1/x?y=2"), ("POST", "/pleura/v1/z")],
)
def test_another_method_or_path_is_refused(method: str, target: str) -> None:
    with pytest.raises(SignatureRejected):
        check(signed(), method=method, target=target)


@pytest.mark.parametrize(
    ("header", "value"), [(CONTENT, "0" * 64), (NONCE, "0" * 32), (TIME, "2026-01-01T12:00:01Z")]
)
def test_a_changed_header_is_refused(header: str, value: str) -> None:
    with pytest.raises(SignatureRejected):
        check(signed(**{header: value}))


@pytest.mark.parametrize("header", HEADERS)
def test_a_missing_header_is_refused(header: str) -> None:
    headers = signed()
    del headers[header]
    with pytest.raises((SignatureRejected, KeyUnknown)):
        check(headers)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (CONTENT, "short"),
        (NONCE, "no hex"),
        (TIME, "yesterday"),
        (TIME, "2026-01-01T12:00:00"),
        ("Pleura-Signature", "***"),
        ("Pleura-Site", "../x"),
    ],
)
def test_a_malformed_header_is_refused(header: str, value: str) -> None:
    with pytest.raises(SignatureRejected):
        check(signed(**{header: value}))


@pytest.mark.parametrize("seconds", [-241, 241])
def test_a_clock_that_differs_too_much_is_named(seconds: int) -> None:
    with pytest.raises(ClockSkew):
        check(signed(), now=NOW + timedelta(seconds=seconds))
    check(signed(), now=NOW + timedelta(seconds=seconds * 239 // 241))


def test_the_site_is_part_of_what_is_signed() -> None:
    # even where two sites were to hold one key, a request of one is none of the other
    def one_key(_: SiteId) -> VerifyKey:
        return KEY_A.public

    with pytest.raises(SignatureRejected):
        check_request(
            signed(**{"Pleura-Site": "site-b"}),
            "POST",
            "/pleura/v1/x?y=1",
            key_of=one_key,
            now=NOW,
            nonces=memory(),
        )


def test_the_signed_text_is_this_one() -> None:
    headers = signed()
    text = "\n".join(
        ("pleura-request-v2", A, "POST", "/pleura/v1/x?y=1", BODY, headers[NONCE], headers[TIME])
    )
    KEY_A.public.verify(base64.b64decode(headers["Pleura-Signature"]), text.encode())


def test_a_signature_of_the_first_version_is_refused() -> None:
    headers = signed()
    text = "\n".join(
        ("pleura-request-v1", "POST", "/pleura/v1/x?y=1", BODY, headers[NONCE], headers[TIME])
    )
    old = base64.b64encode(KEY_A.sign(text.encode())).decode()
    with pytest.raises(SignatureRejected):
        check({**headers, "Pleura-Signature": old})


def test_an_id_with_a_line_break_is_no_id() -> None:
    with pytest.raises(SignatureRejected):
        check(signed(**{"Pleura-Site": "site-a\n"}))


def test_one_site_cannot_sign_for_another() -> None:
    with pytest.raises(KeyUnknown):
        check(signed(**{"Pleura-Site": "site-b"}))
    with pytest.raises(SignatureRejected):
        check(signed(**{"Pleura-Site": "site-b", KEY: KEY_B.public.key_id}))
    with pytest.raises(KeyUnknown):
        check(signed(**{"Pleura-Site": "site-z"}))
