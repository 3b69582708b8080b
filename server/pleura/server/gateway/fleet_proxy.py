"""Fleet proxy: the only way from the network to Flower's SuperLink.

The SuperLink's control and runtime interfaces answer anyone who reaches them, so
it listens on loopback and this proxy forwards a closed list of fleet calls, from
approved sites, with the node key the site enrolled. An empty pull is held back
and asked again when the ServerApp rings that orders are there, and now and then, so
a site learns of an order at once and nobody asks in a loop. Each part of an answer
that passes here rings for the ServerApp.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import httpx
from starlette.requests import Request
from starlette.responses import Response

from pleura.common.clock import Clock
from pleura.server.bell import Bell, BellWatch
from pleura.server.errors import NodeKeyMismatch, SuperLinkUnreachable
from pleura.server.gateway.auth import APPROVED_ONLY, check_state, signed_body
from pleura.server.sites import Site, SiteRegistry
from pleura.server.superlink_wire import (
    PULL_MESSAGES,
    PUSH_OBJECT,
    claimed_node_key,
    is_empty_pull,
    node_id_of,
    speaks_for_itself,
)

BODY_LIMIT: Final = 16 * 1024 * 1024
HOLD_S: Final = 20.0
ASK_EVERY_S: Final = 0.5  # if no bell is heard
MAX_ASKS_PER_S: Final = 20.0  # of all sites together; each costs the SuperLink about 3 ms
_FORWARDED: Final = frozenset({"accept", "content-type"})
_RETURNED: Final = frozenset({"content-type"})
_FLOWER_PREFIX: Final = "flwr-"


class FleetProxy:
    """Forwards fleet calls to `http://127.0.0.1:<port>`."""

    def __init__(
        self,
        superlink_port: int,
        registry: SiteRegistry,
        clock: Clock,
        is_stopping: Callable[[], bool],
        *,
        orders: Bell,
        answers: Bell,
        hold_s: float = HOLD_S,
    ) -> None:
        self._orders, self._answers = BellWatch(orders), answers
        self._registry = registry
        self._clock = clock
        self._is_stopping = is_stopping
        self._hold_s = hold_s
        self._waiting = 0
        self._client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{superlink_port}",
            timeout=httpx.Timeout(30.0, connect=5.0),
            limits=httpx.Limits(max_connections=256, max_keepalive_connections=64),
            follow_redirects=False,
            trust_env=False,  # loopback: never through a proxy of the environment
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def handle(self, request: Request, site: Site) -> Response:
        """Forward one authenticated fleet call and return its reply.

        Raises:
            NodeKeyMismatch: the request claims another node key than the enrolled one, or
                pushes an answer as another node.
            BlobTooLarge, DigestMismatch: see `signed_body`.
            SuperLinkUnreachable: no answer on loopback.
            KeyUnknown: the site was revoked while its pull was held.
        """
        if claimed_node_key(request.headers) != site.node_key:
            raise NodeKeyMismatch(site.site_id)
        body = await signed_body(request, BODY_LIMIT)
        path = str(request.scope["path"])
        if not speaks_for_itself(path, body):
            raise NodeKeyMismatch(site.site_id)
        headers = _kept(request.headers, _FORWARDED)
        if path == PULL_MESSAGES:
            reply = await self._held_pull(request, site, headers, body)
        else:
            reply = await self._ask(path, headers, body)
        if reply.status_code == httpx.codes.OK:
            node_id = node_id_of(path, reply.content)
            if node_id is not None:
                self._registry.record_node(site.site_id, node_id, self._clock.now())
            if path == PUSH_OBJECT:
                self._answers.ring()
        return Response(
            reply.content, status_code=reply.status_code, headers=_kept(reply.headers, _RETURNED)
        )

    async def _held_pull(
        self, request: Request, site: Site, headers: Mapping[str, str], body: bytes
    ) -> httpx.Response:
        deadline = time.monotonic() + self._hold_s
        self._waiting += 1
        try:
            while True:
                mark = self._orders.mark()
                reply = await self._ask(PULL_MESSAGES, headers, body)
                if reply.status_code != httpx.codes.OK or not is_empty_pull(reply.content):
                    return reply
                left = max(0.0, deadline - time.monotonic())
                await self._orders.changed(mark, min(left, ask_interval_s(self._waiting)))
                if time.monotonic() >= deadline or self._is_stopping():
                    return reply
                # asked before the next pull: a message pulled for nobody would be lost
                if await request.is_disconnected():
                    return reply
                check_state(self._registry.get(site.site_id), APPROVED_ONLY)
        finally:
            self._waiting -= 1

    async def _ask(self, path: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        try:
            return await self._client.post(path, content=body, headers=dict(headers))
        except httpx.TransportError as exc:
            raise SuperLinkUnreachable(type(exc).__name__) from exc


def ask_interval_s(waiting: int) -> float:
    """Return how long to wait for the bell so that all sites together stay bearable."""
    return max(ASK_EVERY_S, waiting / MAX_ASKS_PER_S)


def _kept(headers: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    """Return the named headers and Flower's own; everything else stays here."""
    return {
        name.lower(): value
        for name, value in headers.items()
        if name.lower() in names or name.lower().startswith(_FLOWER_PREFIX)
    }
