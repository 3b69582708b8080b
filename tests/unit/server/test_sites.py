"""The site registry: invited, pending, approved, revoked, and never by accident."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pleura.common.clock import FakeClock
from pleura.common.enrolment import EnrolmentRequest, InviteCode
from pleura.common.errors import EnvelopeMalformed, SignatureRejected
from pleura.common.ids import SiteId
from pleura.common.keys import SigningKey
from pleura.server.errors import (
    EnrolmentCodeWrong,
    EnrolmentKeyTaken,
    SiteStateWrong,
    SiteUnknown,
)
from pleura.server.sites import SiteRegistry, SiteState

A, B = SiteId("site-a"), SiteId("site-b")
DAY = timedelta(hours=24)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def registry(tmp_path: Path, clock: FakeClock) -> Iterator[SiteRegistry]:
    opened = SiteRegistry(tmp_path / "sites.db", clock)
    yield opened
    opened.close()


def node_pem(curve: ec.EllipticCurve | None = None) -> str:
    key = ec.generate_private_key(curve or ec.SECP384R1()).public_key()
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def request(
    site: SiteId, secret: bytes, signing: SigningKey | None = None, **changes: str
) -> EnrolmentRequest:
    key = signing or SigningKey.generate()
    fields = {
        "site_id": site,
        "code": InviteCode(secret, "0" * 16).text,
        "signing_key": key.public.to_b64(),
        "transport_key": SigningKey.generate().public.to_b64(),
        "node_key": node_pem(),
    }
    return EnrolmentRequest.model_validate({**fields, **changes}).proved_by(key)


def test_a_site_goes_from_invited_to_approved_to_revoked(registry: SiteRegistry) -> None:
    assert registry.get(A) is None
    sent = request(A, registry.invite(A, DAY))
    assert registry.get(A) is None  # invited is not yet known
    site = registry.enrol(sent)
    assert (site.site_id, site.state) == (A, SiteState.PENDING)
    assert site.signing_key.to_b64() == sent.signing_key
    assert site.transport_key.to_b64() == sent.transport_key
    assert site.node_key == sent.node_key
    assert registry.approve(A).state is SiteState.APPROVED
    assert registry.revoke(A).state is SiteState.REVOKED
    assert [s.site_id for s in registry.all()] == [A]


def test_another_process_sees_a_revocation_at_once(
    registry: SiteRegistry, tmp_path: Path, clock: FakeClock
) -> None:
    registry.enrol(request(A, registry.invite(A, DAY)))
    registry.approve(A)
    other = SiteRegistry(tmp_path / "sites.db", clock)
    registry.revoke(A)
    seen = other.get(A)
    other.close()
    assert seen is not None and seen.state is SiteState.REVOKED


def test_database_file_is_private(registry: SiteRegistry, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "sites.db").stat().st_mode) == 0o600


def test_approving_twice_changes_nothing(registry: SiteRegistry) -> None:
    registry.enrol(request(A, registry.invite(A, DAY)))
    assert registry.approve(A) == registry.approve(A)


def test_revoked_site_cannot_be_approved(registry: SiteRegistry) -> None:
    registry.enrol(request(A, registry.invite(A, DAY)))
    registry.revoke(A)
    with pytest.raises(SiteStateWrong):
        registry.approve(A)


def test_unknown_site_cannot_be_approved_or_revoked(registry: SiteRegistry) -> None:
    with pytest.raises(SiteUnknown):
        registry.approve(A)
    with pytest.raises(SiteUnknown):
        registry.revoke(A)


def test_approved_site_is_not_invited_again(registry: SiteRegistry) -> None:
    registry.enrol(request(A, registry.invite(A, DAY)))
    registry.approve(A)
    with pytest.raises(SiteStateWrong):
        registry.invite(A, DAY)


def test_code_from_before_an_approval_cannot_replace_the_keys(
    registry: SiteRegistry, tmp_path: Path
) -> None:
    registry.enrol(request(A, registry.invite(A, DAY)))
    second = registry.invite(A, DAY)  # still pending: allowed
    registry.approve(A)
    with pytest.raises(SiteStateWrong):
        registry.enrol(request(A, second))


def test_new_invitation_ends_the_older_one(registry: SiteRegistry) -> None:
    first = registry.invite(A, DAY)
    second = registry.invite(A, DAY)
    with pytest.raises(EnrolmentCodeWrong, match="unknown"):
        registry.enrol(request(A, first))
    assert registry.enrol(request(A, second)).state is SiteState.PENDING


def test_revocation_ends_open_invitations(registry: SiteRegistry) -> None:
    registry.enrol(request(A, registry.invite(A, DAY)))
    open_code = registry.invite(A, DAY)
    registry.revoke(A)
    with pytest.raises(EnrolmentCodeWrong, match="unknown"):
        registry.enrol(request(A, open_code))


def test_code_expires(registry: SiteRegistry, clock: FakeClock) -> None:
    secret = registry.invite(A, DAY)
    clock.advance(24 * 3600 - 1)
    early = request(A, secret)
    clock.advance(1)
    with pytest.raises(EnrolmentCodeWrong, match="expired"):
        registry.enrol(early)


def test_code_is_for_one_site_and_one_use(registry: SiteRegistry) -> None:
    secret = registry.invite(A, DAY)
    with pytest.raises(EnrolmentCodeWrong, match="unknown"):
        registry.enrol(request(B, secret))
    registry.enrol(request(A, secret))
    with pytest.raises(EnrolmentCodeWrong, match="used"):
        registry.enrol(request(A, secret))


def test_wrong_proof_does_not_use_up_the_code(registry: SiteRegistry) -> None:
    secret = registry.invite(A, DAY)
    forged = request(A, secret).proved_by(SigningKey.generate())
    with pytest.raises(SignatureRejected):
        registry.enrol(forged)
    assert registry.enrol(request(A, secret)).state is SiteState.PENDING


def test_text_that_is_no_code_is_a_wrong_code(registry: SiteRegistry) -> None:
    with pytest.raises(EnrolmentCodeWrong, match="form"):
        registry.enrol(request(A, bytes(16), code="PL1-nothing"))


def test_key_of_another_site_is_refused(registry: SiteRegistry) -> None:
    key = SigningKey.generate()
    registry.enrol(request(A, registry.invite(A, DAY), key))
    secret = registry.invite(B, DAY)
    with pytest.raises(EnrolmentKeyTaken):
        registry.enrol(request(B, secret, key))
    assert registry.get(B) is None
    assert registry.enrol(request(B, secret)).state is SiteState.PENDING  # code not used up


def test_revoked_keys_never_come_back_under_any_name(registry: SiteRegistry) -> None:
    key = SigningKey.generate()
    registry.enrol(request(A, registry.invite(A, DAY), key))
    registry.revoke(A)
    with pytest.raises(EnrolmentKeyTaken):
        registry.enrol(request(A, registry.invite(A, DAY), key))
    registry.enrol(request(A, registry.invite(A, DAY)))
    with pytest.raises(EnrolmentKeyTaken):
        registry.enrol(request(B, registry.invite(B, DAY), key))


@pytest.mark.parametrize("node_key", [node_pem(ec.SECP256R1()), "x" * 200])
def test_node_key_must_be_on_the_curve_of_flower(registry: SiteRegistry, node_key: str) -> None:
    with pytest.raises(EnvelopeMalformed):
        registry.enrol(request(A, registry.invite(A, DAY), node_key=node_key))


def test_signing_and_transport_key_must_differ(registry: SiteRegistry) -> None:
    key = SigningKey.generate()
    with pytest.raises(EnvelopeMalformed):
        registry.enrol(request(A, registry.invite(A, DAY), key, transport_key=key.public.to_b64()))


def test_node_number_and_times_are_remembered(registry: SiteRegistry, clock: FakeClock) -> None:
    registry.enrol(request(A, registry.invite(A, DAY)))
    registry.record_node(A, 2**64 - 1, clock.now())
    clock.advance(5)
    registry.touch(A, clock.now())
    site = registry.get(A)
    assert site is not None and site.node_id == 2**64 - 1
    assert site.last_seen == clock.now()
    assert site.activated_at is not None
    assert clock.now() - site.activated_at == timedelta(seconds=5)


def test_a_blob_belongs_to_the_site_that_sent_it(registry: SiteRegistry) -> None:
    registry.record_upload("1" * 64, A)
    registry.record_upload("1" * 64, A)
    assert registry.has_sent("1" * 64, A)
    assert not registry.has_sent("1" * 64, B)
    assert not registry.has_sent("2" * 64, B)
