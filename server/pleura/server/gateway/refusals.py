"""Refusals: the status and the two words with which the gateway says no.

A refusal tells `code` and `hint`, never details: those go to the event log of the
coordinator, where the operator reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import JSONResponse

from pleura.common import events
from pleura.common.errors import (
    BlobMissing,
    BlobTooLarge,
    ClockSkew,
    DigestMismatch,
    DiskFull,
    EnvelopeMalformed,
    KeyUnknown,
    PleuraError,
    Refused,
    ReplayRejected,
    SignatureRejected,
    Unreachable,
)
from pleura.common.ids import SiteId
from pleura.server.errors import RouteUnknown, SiteStateWrong, TooManyRequests

# first match wins: leaves before branches
_STATUSES: Final[tuple[tuple[type[PleuraError], int], ...]] = (
    (RouteUnknown, 404),
    (BlobMissing, 404),
    (EnvelopeMalformed, 400),
    (BlobTooLarge, 413),
    (TooManyRequests, 429),
    (SignatureRejected, 401),
    (KeyUnknown, 401),
    (ReplayRejected, 401),
    (ClockSkew, 401),
    (DigestMismatch, 401),
    (SiteStateWrong, 403),
    (Refused, 403),
    (DiskFull, 507),
    (Unreachable, 503),
)


def status_of(error: PleuraError) -> int:
    """Return the HTTP status of an error; a fault of ours is 500."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def refusal(
    error: PleuraError,
    stage: str,
    *,
    site: SiteId | None = None,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Record a refusal as an event and return it as a reply.

    The connection is closed after it, because the request's body may be unread.
    """
    final = status if status is not None else status_of(error)
    fields: dict[str, object] = {"code": error.code, "status": final, "stage": stage}
    if site is not None:
        fields["site"] = site
    events.emit("request.refused", **fields)
    return JSONResponse(
        {"code": error.code, "hint": error.hint},
        status_code=final,
        headers={**(headers or {}), "Connection": "close"},
    )
