"""The gateway's pure decisions: routes, statuses, limits, pages of the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from flwr.proto.fleet_pb2 import (
    ActivateNodeResponse,
    PullMessagesResponse,
    Reconnect,
    RegisterNodeFleetResponse,
)
from flwr.proto.message_pb2 import Message
from hypothesis import given
from hypothesis import strategies as st

from pleura.common.canonical import parse_json
from pleura.common.errors import (
    BlobTooLarge,
    DigestMismatch,
    DiskFull,
    KeyUnknown,
    PleuraError,
    Refused,
    SignatureRejected,
    SiteNotApproved,
)
from pleura.server.errors import RouteUnknown, SuperLinkUnreachable, TooManyRequests
from pleura.server.gateway.auth import declared_length
from pleura.server.gateway.enrolment import WrongCodes, network_of
from pleura.server.gateway.fleet_proxy import ask_interval_s
from pleura.server.gateway.refusals import refusal, status_of
from pleura.server.gateway.routes import ROUTES, find_route
from pleura.server.gateway.statements import log_lines
from pleura.server.superlink_wire import (
    FLEET_PATHS,
    claimed_node_key,
    is_empty_pull,
    node_id_of,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_enrolment_is_the_only_route_without_a_signature() -> None:
    assert [route.target for route in ROUTES if not route.is_signed] == ["/pleura/v1/enrolments"]


def test_no_route_leads_to_flowers_control_runtime_or_bundles() -> None:
    for path in FLEET_PATHS:
        assert path.startswith("/v1/fleet/")
        assert "fab" not in path and "unregister" not in path


@given(st.text(st.sampled_from("/v1fletconrpuima-.%2e?&=_"), max_size=40))
def test_random_targets_match_nothing_but_the_table(target: str) -> None:
    with pytest.raises(RouteUnknown):
        find_route("POST", "/v1/fleet/" + target + "/..")
    with pytest.raises(RouteUnknown):
        find_route("GET", target)


@pytest.mark.parametrize("suffix", ["", "\n", "/", "?", "?a=b", "%20", "\x00"])
def test_fleet_paths_match_exactly(suffix: str) -> None:
    target = "/v1/fleet/pull-messages" + suffix
    if suffix == "":
        assert find_route("POST", target).route.name == "fleet"
        return
    with pytest.raises(RouteUnknown):
        find_route("POST", target)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RouteUnknown(), 404),
        (SignatureRejected(), 401),
        (KeyUnknown(), 401),
        (DigestMismatch(), 401),
        (SiteNotApproved(), 403),
        (BlobTooLarge(), 413),
        (TooManyRequests(), 429),
        (SuperLinkUnreachable(), 503),
        (DiskFull(), 507),
        (Refused(), 403),
        (PleuraError(), 500),
    ],
)
def test_every_error_has_its_status(error: PleuraError, status: int) -> None:
    assert status_of(error) == status


def test_refusal_tells_code_and_hint_but_no_detail() -> None:
    reply = refusal(SignatureRejected("detail for the log only"), "site")
    assert parse_json(bytes(reply.body)) == {
        "code": "REJ-SIGNATURE",
        "hint": SignatureRejected.hint,
    }
    assert reply.headers["connection"] == "close"


def test_declared_length_above_the_limit_is_refused() -> None:
    assert declared_length({"content-length": "16"}, 16) == 16
    assert declared_length({}, 16) is None
    with pytest.raises(BlobTooLarge):
        declared_length({"content-length": "17"}, 16)


def test_ten_wrong_codes_within_an_hour_close_the_door_and_an_hour_opens_it() -> None:
    wrong = WrongCodes()
    for second in range(10):
        wrong.check("10.0.0.1", NOW)
        wrong.count("10.0.0.1", NOW + timedelta(seconds=second))
    with pytest.raises(TooManyRequests):
        wrong.check("10.0.0.1", NOW + timedelta(seconds=10))
    wrong.check("10.0.0.2", NOW)
    with pytest.raises(TooManyRequests):
        wrong.check("10.0.0.1", NOW + timedelta(seconds=3599))
    wrong.check("10.0.0.1", NOW + timedelta(seconds=3600))


def test_memory_of_wrong_codes_is_bounded() -> None:
    wrong = WrongCodes()
    for number in range(10_050):
        wrong.count(f"host-{number}", NOW)
    assert len(wrong._times) == 10_000


@pytest.mark.parametrize(
    ("host", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", "unknown"),
    ],
)
def test_addresses_of_one_ipv6_network_count_together(host: str, counted_as: str) -> None:
    assert network_of(host) == counted_as


def test_many_waiting_sites_are_asked_for_less_often() -> None:
    assert ask_interval_s(1) == 0.5
    assert ask_interval_s(50) == pytest.approx(2.5)


def test_pull_reply_is_empty_only_without_messages() -> None:
    assert is_empty_pull(b"")
    assert is_empty_pull(PullMessagesResponse(reconnect=Reconnect(reconnect=5)).SerializeToString())
    full = PullMessagesResponse(messages_list=[Message()])
    assert not is_empty_pull(full.SerializeToString())
    assert not is_empty_pull(b"\xff\xff not protobuf")


def test_node_number_is_read_from_register_and_activate_only() -> None:
    body = ActivateNodeResponse(node_id=7).SerializeToString()
    assert node_id_of("/v1/fleet/activate-node", body) == 7
    registered = RegisterNodeFleetResponse(node_id=2**64 - 1).SerializeToString()
    assert node_id_of("/v1/fleet/register-node", registered) == 2**64 - 1
    assert node_id_of("/v1/fleet/pull-messages", body) is None
    assert node_id_of("/v1/fleet/activate-node", b"") is None
    assert node_id_of("/v1/fleet/activate-node", b"\xff") is None


@pytest.mark.parametrize("value", [None, "", "=", "ä", "////"])
def test_unreadable_node_key_claims_nothing_known(value: str | None) -> None:
    headers = {} if value is None else {"flwr-public-key": value}
    assert claimed_node_key(headers) in (None, "")


@dataclass(frozen=True)
class Entry:
    index: int
    envelope: bytes


@dataclass(frozen=True)
class MemoryLog:
    size: int
    entry_bytes: int

    def entries(self, start: int = 0, limit: int = 1000) -> list[Entry]:
        stop = min(start + limit, self.size)
        return [Entry(index, b"x" * self.entry_bytes) for index in range(start, stop)]


def test_log_reply_holds_at_most_1000_entries_in_order() -> None:
    lines = log_lines(MemoryLog(1500, 10), 5)
    assert [parse_json(line)["index"] for line in lines] == list(range(5, 1005))


def test_log_reply_is_bounded_in_bytes_but_never_stuck() -> None:
    lines = log_lines(MemoryLog(100, 1_500_000), 0)
    assert 1 < len(lines) < 6
    assert len(log_lines(MemoryLog(10, 9_000_000), 0)) == 1


def test_log_reply_beyond_the_end_is_empty() -> None:
    assert log_lines(MemoryLog(3, 10), 3) == []
