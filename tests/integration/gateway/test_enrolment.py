"""Enrolment over a real TLS connection, from the code to the approval."""

from __future__ import annotations

import socket
import stat
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from pleura.client.agent.channel import Channel, pinned_context
from pleura.client.enrol import join, retire_keys, site_standing, wait_for_approval
from pleura.client.errors import (
    CaMismatch,
    CoordinatorUnreachable,
    EnrolmentRefused,
    NotEnrolled,
    WrongFederation,
)
from pleura.client.node_key import load_node_key, public_pem
from pleura.client.settings import SiteSettings
from pleura.common.canonical import canonical_json
from pleura.common.clock import FakeClock, SystemClock
from pleura.common.enrolment import EnrolmentRequest, InviteCode, parse_invite_code
from pleura.common.errors import ClockSkew, InviteCodeMalformed, KeyUnknown, SiteNotApproved
from pleura.common.ids import SiteId
from pleura.common.keys import SigningKey, load_key
from pleura.server.sites import SiteRegistry, SiteState
from pleura.server.tls import authority_fingerprint
from tests.builders.coordinator import (
    RunningGateway,
    coordinator_settings,
    free_port,
    running_gateway,
)

CLOCK = SystemClock()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path / "coordinator") as running:
        yield running


def test_site_that_joined_waits_until_it_is_approved(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    settings = gateway.site_settings("site-a", tmp_path / "a")
    enrolled = join(settings, gateway.invite("site-a"), CLOCK)
    assert enrolled.standing.state == "pending"
    site = gateway.registry.get(SiteId("site-a"))
    assert site is not None and site.state is SiteState.PENDING
    assert site.signing_key.key_id == enrolled.key_id
    with Channel.from_settings(settings, CLOCK) as channel:
        with pytest.raises(SiteNotApproved):
            wait_for_approval(settings, channel, timeout_s=0.1, poll_s=0.05)
        gateway.registry.approve(SiteId("site-a"))
        wait_for_approval(settings, channel, timeout_s=0.0)


def test_keys_are_made_at_the_site_private_and_the_coordinators_is_pinned(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    settings = gateway.pending_site("site-a", tmp_path / "a")
    coordinator = load_key(gateway.settings.signing_key_file).public
    assert settings.coordinator_key_file.read_text() == coordinator.to_b64() + "\n"
    for file in (settings.site_key_file, settings.transport_key_file, settings.node_key_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert b"PRIVATE KEY" in file.read_bytes()
    stored = b"".join(p.read_bytes() for p in gateway.settings.state_dir.glob("sites.db*"))
    assert b"PRIVATE KEY" not in stored


def test_coordinator_keeps_no_secret_of_a_code(gateway: RunningGateway) -> None:
    invite = parse_invite_code(gateway.invite("site-a"))
    stored = b"".join(p.read_bytes() for p in gateway.settings.state_dir.glob("sites.db*"))
    assert invite.secret not in stored
    assert invite.secret_hash.encode() in stored


def test_wrong_code_is_refused(gateway: RunningGateway, tmp_path: Path) -> None:
    right = parse_invite_code(gateway.invite("site-a"))
    wrong = InviteCode(bytes(16), right.ca_prefix).text
    with pytest.raises(EnrolmentRefused, match="REJ-CODE"):
        join(gateway.site_settings("site-a", tmp_path / "a"), wrong, CLOCK)
    assert gateway.registry.get(SiteId("site-a")) is None


def test_code_of_another_site_is_refused(gateway: RunningGateway, tmp_path: Path) -> None:
    code = gateway.invite("site-b")
    with pytest.raises(EnrolmentRefused, match="REJ-CODE"):
        join(gateway.site_settings("site-a", tmp_path / "a"), code, CLOCK)


def test_used_code_is_refused_for_other_keys(gateway: RunningGateway, tmp_path: Path) -> None:
    code = gateway.invite("site-a")
    join(gateway.site_settings("site-a", tmp_path / "a"), code, CLOCK)
    with pytest.raises(EnrolmentRefused, match="REJ-CODE"):
        join(gateway.site_settings("site-a", tmp_path / "thief"), code, CLOCK)


def test_same_request_after_a_lost_reply_is_harmless(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    settings, code = gateway.site_settings("site-a", tmp_path / "a"), gateway.invite("site-a")
    assert join(settings, code, CLOCK) == join(settings, code, CLOCK)


def test_expired_code_is_refused(tmp_path: Path) -> None:
    clock = FakeClock(datetime.now(UTC))
    with running_gateway(tmp_path / "coordinator", clock=clock) as gateway:
        code = gateway.invite("site-a")
        clock.advance(24 * 3600)
        settings = gateway.site_settings("site-a", tmp_path / "a")
        with pytest.raises(EnrolmentRefused, match="REJ-CODE"):
            join(settings, code, CLOCK)


def test_ten_wrong_codes_shut_the_address_out_for_an_hour(tmp_path: Path) -> None:
    clock = FakeClock(datetime.now(UTC))
    with running_gateway(tmp_path / "coordinator", clock=clock) as gateway:
        settings, good = gateway.site_settings("site-a", tmp_path / "a"), gateway.invite("site-a")
        wrong = InviteCode(bytes(16), parse_invite_code(good).ca_prefix).text
        for _ in range(10):
            with pytest.raises(EnrolmentRefused, match="REJ-CODE"):
                join(settings, wrong, CLOCK)
        with pytest.raises(EnrolmentRefused, match="REJ-RATE"):
            join(settings, good, CLOCK)
        clock.advance(3601)
        assert join(settings, good, CLOCK).standing.state == "pending"


def test_request_whose_keys_were_exchanged_on_the_way_is_refused(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    """The proof binds all keys; the code stays usable for the true site."""
    code = gateway.invite("site-a")
    sent = enrolment_of(gateway.pending_site("donor", tmp_path / "donor"), code)
    request = sent.model_copy(update={"transport_key": SigningKey.generate().public.to_b64()})
    reply = post(gateway, canonical_json(request.model_dump()))
    assert (reply.status_code, reply.json()["code"]) == (401, "REJ-SIGNATURE")
    settings = gateway.site_settings("site-a", tmp_path / "a")
    assert join(settings, code, CLOCK).standing.state == "pending"


def test_keys_of_another_site_cannot_be_enrolled_again(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    donor = gateway.pending_site("donor", tmp_path / "donor")
    request = enrolment_of(donor, gateway.invite("site-a"))
    reply = post(gateway, canonical_json(request.model_dump()))
    assert (reply.status_code, reply.json()["code"]) == (403, "REJ-KEY-TAKEN")


def enrolment_of(settings: SiteSettings, code: str) -> EnrolmentRequest:
    """A proved request for site-a with the keys another site has on disk."""
    signing = load_key(settings.site_key_file)
    return EnrolmentRequest(
        site_id=SiteId("site-a"),
        code=code,
        signing_key=signing.public.to_b64(),
        transport_key=load_key(settings.transport_key_file).public.to_b64(),
        node_key=public_pem(load_node_key(settings.node_key_file)),
    ).proved_by(signing)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"site_id":"site-a"}', 400),
        (b'{"site_id":"site-a","site_id":"site-b"}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 5000, 400),
        (b" " * (16 * 1024 + 1), 413),
    ],
)
def test_anything_but_an_enrolment_is_refused(
    gateway: RunningGateway, body: bytes, status: int
) -> None:
    assert post(gateway, body).status_code == status


def post(gateway: RunningGateway, body: bytes) -> httpx.Response:
    context = pinned_context(gateway.settings.ca_file)
    with httpx.Client(base_url=gateway.url, verify=context) as client:
        return client.post("/pleura/v1/enrolments", content=body)


def test_code_for_another_ca_stops_before_anything_is_sent(tmp_path: Path) -> None:
    """A listener that would notice a single byte stands where the coordinator should be."""
    mine, theirs = coordinator_settings(tmp_path / "mine"), coordinator_settings(tmp_path / "other")
    with socket.create_server(("127.0.0.1", mine.port)) as listener:
        gateway = RunningGateway(mine, SiteRegistry(mine.sites_db_file, CLOCK))
        settings = gateway.site_settings("site-a", tmp_path / "a")
        code = InviteCode(bytes(16), authority_fingerprint(theirs)[:16]).text
        with pytest.raises(CaMismatch):
            join(settings, code, CLOCK)
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert not settings.site_key_file.exists()


def test_ca_file_with_a_second_certificate_is_refused(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    other = coordinator_settings(tmp_path / "other")
    both = tmp_path / "both.pem"
    both.write_bytes(gateway.settings.ca_file.read_bytes() + other.ca_file.read_bytes())
    settings = gateway.site_settings("site-a", tmp_path / "a")
    coordinator = settings.coordinator.model_copy(update={"ca_file": both})
    with pytest.raises(CaMismatch):
        join(
            settings.model_copy(update={"coordinator": coordinator}),
            gateway.invite("site-a"),
            CLOCK,
        )


def test_server_whose_certificate_is_from_another_ca_gets_no_code(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "true") as true, running_gateway(tmp_path / "false") as false:
        settings = true.site_settings("site-a", tmp_path / "a")
        to_impostor = settings.coordinator.model_copy(update={"url": false.url})
        with pytest.raises(CaMismatch):
            join(
                settings.model_copy(update={"coordinator": to_impostor}),
                true.invite("site-a"),
                CLOCK,
            )


def test_mistyped_code_is_noticed_before_anything_is_sent(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    code = gateway.invite("site-a")
    typo = code[:10] + ("A" if code[10] != "A" else "B") + code[11:]
    with pytest.raises(InviteCodeMalformed):
        join(gateway.site_settings("site-a", tmp_path / "a"), typo, CLOCK)


def test_silent_coordinator_is_unreachable_and_the_code_stays_good(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    settings, code = gateway.site_settings("site-a", tmp_path / "a"), gateway.invite("site-a")
    elsewhere = settings.coordinator.model_copy(update={"url": f"https://127.0.0.1:{free_port()}"})
    with pytest.raises(CoordinatorUnreachable):
        join(settings.model_copy(update={"coordinator": elsewhere}), code, CLOCK)
    assert join(settings, code, CLOCK).standing.state == "pending"


def test_clocks_that_differ_too_much_are_named(gateway: RunningGateway, tmp_path: Path) -> None:
    late = FakeClock(datetime.now(UTC) - timedelta(seconds=250))
    with pytest.raises(ClockSkew):
        join(gateway.site_settings("site-a", tmp_path / "a"), gateway.invite("site-a"), late)


def test_another_federation_is_refused_and_not_pinned(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    settings = gateway.site_settings("site-a", tmp_path / "a")
    other = settings.coordinator.model_copy(update={"federation_id": "elsewhere"})
    with pytest.raises(WrongFederation):
        join(settings.model_copy(update={"coordinator": other}), gateway.invite("site-a"), CLOCK)
    assert not settings.coordinator_key_file.exists()


def test_coordinator_that_shows_another_key_than_the_pinned_one_is_refused(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    settings = gateway.approved_site("site-a", tmp_path / "a")
    settings.coordinator_key_file.write_text(SigningKey.generate().public.to_b64())
    with Channel.from_settings(settings, CLOCK) as channel, pytest.raises(EnrolmentRefused):
        site_standing(settings, channel)


def test_revoked_site_comes_back_only_with_new_keys(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    settings = gateway.approved_site("site-a", tmp_path / "a")
    gateway.registry.revoke(SiteId("site-a"))
    with pytest.raises(EnrolmentRefused, match="REJ-KEY-TAKEN"):
        join(settings, gateway.invite("site-a"), CLOCK)
    old_key_id = load_key(settings.site_key_file).public.key_id
    retire_keys(settings)
    again = join(settings, gateway.invite("site-a"), CLOCK)
    assert again.standing.state == "pending"
    assert again.key_id != old_key_id
    kept = settings.site_key_file.with_name("site.key.retired0")
    assert load_key(kept).public.key_id == old_key_id


def test_waiting_survives_an_unreachable_coordinator_and_ends_at_revocation(
    tmp_path: Path,
) -> None:
    with running_gateway(tmp_path / "coordinator") as gateway:
        settings = gateway.pending_site("site-a", tmp_path / "a")
        elsewhere = settings.coordinator.model_copy(
            update={"url": f"https://127.0.0.1:{free_port()}"}
        )
        away = settings.model_copy(update={"coordinator": elsewhere})
        with Channel.from_settings(away, CLOCK) as channel, pytest.raises(CoordinatorUnreachable):
            wait_for_approval(away, channel, timeout_s=0.1, poll_s=0.02)
        revoker = threading.Timer(0.1, lambda: gateway.registry.revoke(SiteId("site-a")))
        revoker.start()
        started = time.monotonic()
        with Channel.from_settings(settings, CLOCK) as channel, pytest.raises(KeyUnknown):
            wait_for_approval(settings, channel, timeout_s=10, poll_s=0.05)
        assert time.monotonic() - started < 5


def test_channel_of_a_site_that_never_joined_says_so(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    with pytest.raises(NotEnrolled):
        Channel.from_settings(gateway.site_settings("site-a", tmp_path / "a"), CLOCK)
