"""The closed table of what the public port answers. Anything else is 404.

A target is matched as the bytes that travelled: a path with `..`, `//`, an encoded
sign or a query that its route does not know matches nothing, so no two parsers can
read it differently.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from pleura.server.errors import RouteUnknown
from pleura.server.gateway.auth import ANY_STATE, APPROVED_ONLY
from pleura.server.sites import SiteState
from pleura.server.superlink_wire import FLEET_PATHS

_API: Final = "/pleura/v1"
_BLOB: Final = _API + "/blobs/([0-9a-f]{64})"


@dataclass(frozen=True, slots=True)
class Route:
    """One entry: method, pattern of the whole target, and which sites may call it."""

    name: str
    method: str
    target: str
    states: Collection[SiteState]
    is_signed: bool = True


@dataclass(frozen=True, slots=True)
class Match:
    """A route and the parts its pattern captured."""

    route: Route
    parts: tuple[str, ...]


ROUTES: Final[tuple[Route, ...]] = (
    Route("enrol", "POST", _API + "/enrolments", ANY_STATE, is_signed=False),
    Route("site", "GET", _API + "/site", ANY_STATE),
    Route("sites", "GET", _API + "/sites", APPROVED_ONLY),
    Route("log", "GET", _API + r"/log\?from=[0-9]{1,15}", APPROVED_ONLY),
    Route("blob.head", "HEAD", _BLOB, APPROVED_ONLY),
    Route("blob.get", "GET", _BLOB, APPROVED_ONLY),
    Route("blob.patch", "PATCH", _BLOB + r"\?offset=[0-9]{1,18}&total=[0-9]{1,18}", APPROVED_ONLY),
    *(Route("fleet", "POST", re.escape(path), APPROVED_ONLY) for path in sorted(FLEET_PATHS)),
)
_COMPILED: Final = tuple((route, re.compile(route.target)) for route in ROUTES)


def find_route(method: str, target: str) -> Match:
    """Return the entry for a method and a target (path and query as sent).

    Raises:
        RouteUnknown: there is none.
    """
    for route, pattern in _COMPILED:
        if route.method == method and (match := pattern.fullmatch(target)):
            return Match(route, match.groups())
    raise RouteUnknown("target")
