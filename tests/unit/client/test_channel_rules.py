"""The channel's pure decisions: clocks, refusals, broken connections."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from pleura.client.agent.channel import (
    check_skew,
    pinned_context,
    raise_for_refusal,
    refusal_code,
    transport_error,
)
from pleura.client.errors import (
    CaMismatch,
    CoordinatorRefused,
    CoordinatorUnreachable,
    ReplyMalformed,
)
from pleura.common.errors import (
    BlobTooLarge,
    ClockSkew,
    DigestMismatch,
    KeyUnknown,
    SignatureRejected,
    SiteNotApproved,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DATE = {"Date": "Thu, 01 Jan 2026 12:00:00 GMT"}


def reply(status: int, code: str | None = None) -> httpx.Response:
    content = b"" if code is None else b'{"code":"%s","hint":"x"}' % code.encode()
    request = httpx.Request("GET", "https://coordinator.example.org/")
    return httpx.Response(status, stream=httpx.ByteStream(content), request=request)


@pytest.mark.parametrize("shift_s", [-240, -31, 0, 31, 240])
def test_clocks_within_four_minutes_are_accepted(shift_s: int) -> None:
    assert check_skew(DATE, NOW + timedelta(seconds=shift_s)) == abs(shift_s)


@pytest.mark.parametrize("shift_s", [-241, 241])
def test_clocks_further_apart_are_refused(shift_s: int) -> None:
    with pytest.raises(ClockSkew):
        check_skew(DATE, NOW + timedelta(seconds=shift_s))


@pytest.mark.parametrize("headers", [{}, {"Date": ""}, {"Date": "yesterday"}])
def test_reply_without_a_date_is_malformed(headers: dict[str, str]) -> None:
    with pytest.raises(ReplyMalformed):
        check_skew(headers, NOW)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, SignatureRejected),
        (401, KeyUnknown),
        (401, ClockSkew),
        (403, SiteNotApproved),
        (413, BlobTooLarge),
        (422, DigestMismatch),
    ],
)
def test_refusal_becomes_the_error_the_gateway_named(status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        raise_for_refusal(reply(status, error.code))  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [400, 401, 403, 405, 413, 422, 429])
def test_refusal_without_a_known_code_is_still_a_refusal(status: int) -> None:
    for unknown in (None, "REJ-NEW-RULE"):
        with pytest.raises(CoordinatorRefused):
            raise_for_refusal(reply(status, unknown))


def test_reply_that_was_read_already_is_understood_too() -> None:
    """Flower's client hands over whole replies."""
    read = reply(401, "REJ-KEY")
    read.read()
    with pytest.raises(KeyUnknown):
        raise_for_refusal(read)


@pytest.mark.parametrize("status", [500, 502, 503, 507])
def test_fault_of_the_coordinator_is_unreachable_not_refused(status: int) -> None:
    with pytest.raises(CoordinatorUnreachable):
        raise_for_refusal(reply(status, "REJ-KEY"))


@pytest.mark.parametrize("status", [200, 202, 206, 404, 409, 416])
def test_other_replies_are_the_callers(status: int) -> None:
    raise_for_refusal(reply(status, "REJ-KEY"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"code":5}',
        b'{"code":"' + b"X" * 100 + b'"}',
        b'{"code":"REJ\\u001b[2J"}',  # would move the cursor of an operator's terminal
        b'{"code":"REJ-KEY\\n"}',
        b"\xff",
    ],
)
def test_code_of_an_odd_body_is_empty(content: bytes) -> None:
    assert refusal_code(content) == ""


def test_certificate_fault_below_a_broken_connection_is_a_ca_mismatch() -> None:
    error = httpx.ConnectError("tls")
    fault = ssl.SSLCertVerificationError(1, "unable to get local issuer")
    fault.verify_code = 20
    error.__cause__ = fault
    assert isinstance(transport_error(error), CaMismatch)
    assert isinstance(transport_error(httpx.ConnectError("refused")), CoordinatorUnreachable)
    assert isinstance(transport_error(httpx.ReadTimeout("late")), CoordinatorUnreachable)
    assert isinstance(transport_error(httpx.ProxyError("407")), CoordinatorUnreachable)


def test_missing_or_empty_ca_file_is_a_ca_mismatch(tmp_path: Path) -> None:
    with pytest.raises(CaMismatch):
        pinned_context(tmp_path / "absent.pem")
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(CaMismatch):
        pinned_context(tmp_path / "empty.pem")
