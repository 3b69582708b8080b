"""Enrolment route: the one request that needs no signature, because it brings the keys.

Everything is checked before the code is spent, and an address that guesses codes
is shut out: ten wrong ones within an hour, then 429.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pleura.common import events
from pleura.common.canonical import parse_json
from pleura.common.clock import Clock
from pleura.common.enrolment import EnrolmentRequest
from pleura.common.errors import EnvelopeMalformed, SignatureRejected
from pleura.common.ids import FederationId
from pleura.common.keys import VerifyKey
from pleura.server.errors import (
    EnrolmentCodeWrong,
    EnrolmentKeyTaken,
    SiteStateWrong,
    TooManyRequests,
)
from pleura.server.gateway.auth import whole_body
from pleura.server.sites import Site, SiteRegistry

BODY_LIMIT: Final = 16 * 1024
WRONG_LIMIT: Final = 10
WRONG_WINDOW: Final = timedelta(hours=1)
ADDRESS_LIMIT: Final = 10_000  # addresses remembered; beyond it the oldest are forgotten


class WrongCodes:
    """Counts refused enrolments of an address within the last hour."""

    def __init__(self) -> None:
        self._times: dict[str, deque[datetime]] = {}

    def check(self, address: str, now: datetime) -> None:
        """Return if this address may try.

        Raises:
            TooManyRequests: it was wrong ten times within the hour.
        """
        if len(self._recent(address, now)) >= WRONG_LIMIT:
            raise TooManyRequests("enrolment")

    def count(self, address: str, now: datetime) -> None:
        """Remember one wrong code."""
        times = self._recent(address, now)
        self._times.pop(address, None)  # to the end: the least recent goes first
        self._times[address] = times
        times.append(now)
        while len(self._times) > ADDRESS_LIMIT:
            self._times.pop(next(iter(self._times)))

    def _recent(self, address: str, now: datetime) -> deque[datetime]:
        times = self._times.get(address, deque())
        while times and now - times[0] >= WRONG_WINDOW:
            times.popleft()
        return times


class EnrolmentRoute:
    """POST `/pleura/v1/enrolments` and GET `/pleura/v1/site`."""

    def __init__(
        self,
        registry: SiteRegistry,
        federation_id: FederationId,
        coordinator_key: VerifyKey,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._federation_id = federation_id
        self._coordinator_key = coordinator_key
        self._clock = clock
        self._wrong = WrongCodes()

    async def enrol(self, request: Request) -> Response:
        """Take an enrolment.

        Raises:
            TooManyRequests: this address was wrong too often.
            EnvelopeMalformed: not an enrolment request.
            BlobTooLarge: larger than one can be.
            EnrolmentCodeWrong, SignatureRejected, EnrolmentKeyTaken: see `SiteRegistry.enrol`.
        """
        address = network_of(request.client.host if request.client else "")
        self._wrong.check(address, self._clock.now())
        body = await whole_body(request, BODY_LIMIT)
        try:
            site = self._registry.enrol(parse_enrolment(body))
        except (
            EnvelopeMalformed,
            EnrolmentCodeWrong,
            EnrolmentKeyTaken,
            SignatureRejected,
            SiteStateWrong,
        ) as exc:
            self._wrong.count(address, self._clock.now())
            events.emit("enrolment.refused", code=exc.code)
            raise
        return self._reply(site, status=202)

    def state(self, site: Site) -> Response:
        """Tell a site where it stands."""
        return self._reply(site, status=200)

    def _reply(self, site: Site, status: int) -> JSONResponse:
        body = {
            "state": site.state.value,
            "federation_id": self._federation_id,
            "coordinator_key": self._coordinator_key.to_b64(),
        }
        return JSONResponse(body, status_code=status)


def parse_enrolment(body: bytes) -> EnrolmentRequest:
    """Return the request in a body.

    Raises:
        EnvelopeMalformed: not exactly the fields of an enrolment.
    """
    try:
        return EnrolmentRequest.model_validate(parse_json(body))
    except ValidationError as exc:
        raise EnvelopeMalformed("enrolment request") from exc


def network_of(host: str) -> str:
    """Return what wrong codes are counted by: an IPv4 address, or an IPv6 /64 network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
