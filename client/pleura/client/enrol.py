"""Enrolment of a site: make keys here, prove who asks, pin who answers.

The one-time code carries the fingerprint of the coordinator's CA. It is compared
with the CA file before a connection is opened, and the connection then trusts that
CA only. Private keys are made in the state folder and never leave it; running the
command again after a lost reply sends the same request and is harmless.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import httpx
from pydantic import BaseModel, ValidationError

from pleura.client.agent.channel import (
    Channel,
    check_skew,
    pinned_context,
    refusal_code,
    transport_error,
)
from pleura.client.errors import (
    CaMismatch,
    CoordinatorUnreachable,
    EnrolmentRefused,
    ReplyMalformed,
    WrongFederation,
)
from pleura.client.node_key import load_or_create_node_key, public_pem
from pleura.client.settings import SiteSettings
from pleura.common import events
from pleura.common.canonical import canonical_json, parse_json
from pleura.common.clock import Clock
from pleura.common.enrolment import (
    Base64Key,
    EnrolmentRequest,
    ca_fingerprint,
    parse_invite_code,
)
from pleura.common.errors import EnvelopeMalformed, KeyUnknown, SiteNotApproved, Unreachable
from pleura.common.files import ensure_private_folder, fsync_folder, write_atomic
from pleura.common.ids import FederationIdField
from pleura.common.keys import VerifyKey, load_or_create_key

ENROL_TARGET: Final = "/pleura/v1/enrolments"
SITE_TARGET: Final = "/pleura/v1/site"
_TIMEOUT_S: Final = 30.0


class SiteStanding(BaseModel, frozen=True, extra="forbid"):
    """What the coordinator says about this site."""

    state: Literal["pending", "approved", "revoked"]
    federation_id: FederationIdField
    coordinator_key: Base64Key


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A finished enrolment request: what was pinned, and the id of this site's signing key."""

    standing: SiteStanding
    key_id: str


def join(settings: SiteSettings, code: str, clock: Clock) -> Enrolled:
    """Enrol this site with a one-time code and pin the coordinator's key.

    Raises:
        InviteCodeMalformed: the code was not copied whole; nothing was sent.
        CaMismatch: the CA file is not the one the code was made for, and nothing was
            sent; or the server's certificate does not come from it.
        EnrolmentRefused: the coordinator refused the code, or another coordinator's
            key is pinned here already.
        WrongFederation: the coordinator runs another federation than the settings name.
        CoordinatorUnreachable: no answer; the same code can be tried again.
        ClockSkew: the clocks differ too much.
        KeyFileInsecure, KeyUnreadable, StateInsecure: see `keys`.
    """
    check_code_against_ca(settings, code)
    request, key_id = _prepare(settings, code.strip())
    response = _send(settings, request, clock)
    standing = _standing_of(response)
    _pin(settings, standing)
    events.emit(
        "site.enrolled", site=settings.site_id, federation=standing.federation_id, key=key_id
    )
    return Enrolled(standing, key_id)


def check_code_against_ca(settings: SiteSettings, code: str) -> None:
    """Return if the CA file is the one the code was made for.

    Raises:
        InviteCodeMalformed: not a code.
        CaMismatch: another CA, no CA, or more than one certificate in the file.
    """
    invite = parse_invite_code(code)
    try:
        fingerprint = ca_fingerprint(settings.coordinator.ca_file.read_bytes())
    except (OSError, ValueError) as exc:
        raise CaMismatch("the CA file holds no single certificate") from exc
    if not invite.matches_ca(fingerprint):
        raise CaMismatch("the code was made for another CA")


def retire_keys(settings: SiteSettings) -> None:
    """Set the site's keys aside, so that the next `join` makes new ones.

    For a site that was revoked: the coordinator never takes a revoked key again. The
    files are renamed, not deleted, because old statements are still verified with them.
    """
    for file in (settings.site_key_file, settings.transport_key_file, settings.node_key_file):
        if file.exists():
            number = len(list(file.parent.glob(f"{file.name}.retired*")))
            file.rename(file.with_name(f"{file.name}.retired{number}"))
            fsync_folder(file.parent)


def site_standing(settings: SiteSettings, channel: Channel) -> SiteStanding:
    """Ask the coordinator where this site stands, and compare it with what is pinned.

    Raises:
        EnrolmentRefused: the coordinator shows another key than the pinned one.
        WrongFederation: it runs another federation.
        and as `Channel.request`.
    """
    response = channel.request("GET", SITE_TARGET)
    standing = _standing_of(response)
    _check_pinned(settings, standing)
    return standing


def wait_for_approval(
    settings: SiteSettings,
    channel: Channel,
    *,
    timeout_s: float,
    poll_s: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Return when the site is approved; an unreachable coordinator is asked again.

    Raises:
        KeyUnknown: the site was revoked.
        SiteNotApproved: still pending after `timeout_s`.
        CoordinatorUnreachable: no answer at the end of `timeout_s`.
        and as `site_standing`.
    """
    deadline = monotonic() + timeout_s
    while True:
        problem: SiteNotApproved | Unreachable = SiteNotApproved(settings.site_id)
        try:
            state = site_standing(settings, channel).state
        except Unreachable as exc:
            problem = exc
        else:
            if state == "approved":
                return
            if state == "revoked":
                raise KeyUnknown("revoked")
        if monotonic() + poll_s > deadline:
            raise problem
        sleep(poll_s)


def _prepare(settings: SiteSettings, code: str) -> tuple[EnrolmentRequest, str]:
    """Make or read the three keys and return the proved request and the signing key's id."""
    for folder in (settings.state_dir, settings.trainer_dir, settings.agent_dir):
        ensure_private_folder(folder)
    signing_key = load_or_create_key(settings.site_key_file)
    transport_key = load_or_create_key(settings.transport_key_file)
    node_key = load_or_create_node_key(settings.node_key_file)
    request = EnrolmentRequest(
        site_id=settings.site_id,
        code=code,
        signing_key=signing_key.public.to_b64(),
        transport_key=transport_key.public.to_b64(),
        node_key=public_pem(node_key),
    )
    return request.proved_by(signing_key), signing_key.public.key_id


def _send(settings: SiteSettings, request: EnrolmentRequest, clock: Clock) -> httpx.Response:
    context = pinned_context(settings.coordinator.ca_file)
    body = canonical_json(request.model_dump())
    with httpx.Client(
        base_url=settings.coordinator.url, verify=context, timeout=_TIMEOUT_S
    ) as client:
        try:
            response = client.post(
                ENROL_TARGET, content=body, headers={"Content-Type": "application/json"}
            )
        except httpx.TransportError as exc:
            raise transport_error(exc) from exc
    check_skew(response.headers, clock.now())
    if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise CoordinatorUnreachable(f"status {response.status_code}")
    if response.status_code != httpx.codes.ACCEPTED:
        raise EnrolmentRefused(refusal_code(response.content) or f"status {response.status_code}")
    return response


def _standing_of(response: httpx.Response) -> SiteStanding:
    try:
        return SiteStanding.model_validate(parse_json(response.content))
    except (ValidationError, EnvelopeMalformed) as exc:
        raise ReplyMalformed("standing of the site") from exc


def _check_pinned(settings: SiteSettings, standing: SiteStanding) -> None:
    if standing.federation_id != settings.coordinator.federation_id:
        raise WrongFederation(standing.federation_id)
    pin = settings.coordinator_key_file
    if pin.exists():
        pinned = VerifyKey.from_b64(pin.read_text(encoding="ascii"))
        if pinned.to_b64() != standing.coordinator_key:
            raise EnrolmentRefused("another coordinator key is pinned")


def _pin(settings: SiteSettings, standing: SiteStanding) -> None:
    _check_pinned(settings, standing)
    if not settings.coordinator_key_file.exists():
        key = VerifyKey.from_b64(standing.coordinator_key)
        write_atomic(settings.coordinator_key_file, key.to_b64().encode("ascii") + b"\n")
