"""Request authentication: which site asks, may it ask this, and is the body the signed one.

Headers are checked before a byte of the body is read. The body is then compared
with the signed digest: whole in memory for small routes, piece by piece for blobs.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from pleura.common.canonical import sha256_hex
from pleura.common.clock import Clock
from pleura.common.errors import (
    BlobTooLarge,
    DigestMismatch,
    KeyUnknown,
    SignatureRejected,
    SiteNotApproved,
)
from pleura.common.ids import SiteId
from pleura.common.keys import VerifyKey
from pleura.common.request_signature import CONTENT, HEADERS, NonceMemory, check_request
from pleura.server.errors import SiteUnreachable
from pleura.server.sites import Site, SiteRegistry, SiteState

BODY_SILENCE_S: Final = 30.0  # a body that stops this long is given up
BODY_BYTES_PER_S: Final = 4096  # slower on the whole than this: given up too
TOUCH_EVERY_S: Final = 10.0
APPROVED_ONLY: Final = frozenset({SiteState.APPROVED})
ANY_STATE: Final = frozenset(SiteState)


class Authenticator:
    """Checks signed requests against the registry as it stands at this moment."""

    def __init__(self, registry: SiteRegistry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._nonces = NonceMemory(clock.now())
        self._touched: dict[SiteId, datetime] = {}

    def site_of(self, request: Request, target: str, states: Collection[SiteState]) -> Site:
        """Return the site that signed this request.

        Raises:
            SignatureRejected, ClockSkew, ReplayRejected: see `check_request`; also a
                signature header that stands twice.
            KeyUnknown: the site is unknown or revoked.
            SiteNotApproved: it waits for approval and this route is not for it.
        """
        now = self._clock.now()
        for name in HEADERS:
            if len(request.headers.getlist(name)) > 1:
                raise SignatureRejected("a header stands twice")
        site_id = check_request(
            request.headers,
            request.method,
            target,
            key_of=self._transport_key,
            now=now,
            nonces=self._nonces,
        )
        site = check_state(self._registry.get(site_id), states)
        last = self._touched.get(site_id)
        if last is None or (now - last).total_seconds() >= TOUCH_EVERY_S:
            self._touched[site_id] = now
            self._registry.touch(site_id, now)
        return site

    def _transport_key(self, site_id: SiteId) -> VerifyKey | None:
        site = self._registry.get(site_id)
        return None if site is None else site.transport_key


def check_state(site: Site | None, states: Collection[SiteState]) -> Site:
    """Return the site if its state is among `states`.

    Raises:
        KeyUnknown: there is no such site, or it is revoked.
        SiteNotApproved: it is pending.
    """
    if site is not None and site.state in states:
        return site
    if site is not None and site.state is SiteState.PENDING:
        raise SiteNotApproved(site.site_id)
    raise KeyUnknown("unknown or revoked site")


def declared_length(headers: Mapping[str, str], limit: int) -> int | None:
    """Return Content-Length, or None if the body is chunked.

    Raises:
        BlobTooLarge: it says more than `limit`.
    """
    text = headers.get("content-length")
    if text is None:
        return None
    length = int(text)  # the HTTP parser lets only digits through
    if length > limit:
        raise BlobTooLarge("request body")
    return length


async def signed_body(request: Request, limit: int) -> bytes:
    """Return the whole body after comparing it with the signed digest.

    Raises:
        BlobTooLarge: more than `limit` bytes.
        DigestMismatch: not the bytes the site signed.
        SiteUnreachable: the body stopped coming.
    """
    body = await whole_body(request, limit)
    if sha256_hex(body) != request.headers[CONTENT]:
        raise DigestMismatch("request body")
    return body


async def whole_body(request: Request, limit: int) -> bytes:
    """Return the body of a request, signed or not.

    Raises:
        BlobTooLarge: more than `limit` bytes.
        SiteUnreachable: the body stopped coming.
    """
    declared_length(request.headers, limit)
    body = bytearray()
    async for piece in _pieces(request, limit):
        body.extend(piece)
        if len(body) > limit:
            raise BlobTooLarge("request body")
    return bytes(body)


async def streamed_body(request: Request, limit: int, piece_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body in pieces of up to about `piece_bytes`.

    The last piece is yielded only after the digest of all was compared, so a body
    that fits one piece is never seen unless it is right.

    Raises:
        BlobTooLarge: more than `limit` bytes.
        DigestMismatch: not the bytes the site signed.
        SiteUnreachable: the body stopped coming.
    """
    declared_length(request.headers, limit)
    digest, size, buffer = hashlib.sha256(), 0, bytearray()
    async for piece in _pieces(request, limit):
        size += len(piece)
        if size > limit:
            raise BlobTooLarge("request body")
        if buffer and len(buffer) + len(piece) > piece_bytes:
            yield bytes(buffer)
            buffer.clear()
        digest.update(piece)
        buffer.extend(piece)
    if digest.hexdigest() != request.headers[CONTENT]:
        raise DigestMismatch("request body")
    if buffer:
        yield bytes(buffer)


def query_of(scope: Scope) -> str:
    """Return the query as it travelled and was signed.

    `Request.url` is no source of it: that text begins with the Host header, which is
    not signed and may hold a `?` of its own.
    """
    query: bytes = scope["query_string"]
    return query.decode("latin-1")


async def _pieces(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Yield the body as it comes; one byte now and then does not keep a connection."""
    stream = aiter(request.stream())
    deadline = time.monotonic() + BODY_SILENCE_S + limit / BODY_BYTES_PER_S
    while True:
        try:
            left = min(BODY_SILENCE_S, deadline - time.monotonic())
            async with asyncio.timeout(left):  # wait_for would make a task for each piece
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except (TimeoutError, ClientDisconnect) as exc:
            raise SiteUnreachable("request body") from exc
        yield piece
