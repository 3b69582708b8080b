"""The gateway application: one closed table of routes, checked in one place.

Order of every request: route, signature, state of the site, body, handler. There
is no documentation page, no schema and no redirect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from pleura.common import events
from pleura.common.blobs import BlobStore
from pleura.common.clock import Clock
from pleura.common.errors import PleuraError
from pleura.common.ids import SiteId
from pleura.common.keys import VerifyKey
from pleura.server.bell import Bell
from pleura.server.gateway.auth import Authenticator, signed_body
from pleura.server.gateway.blobs import BlobRoutes
from pleura.server.gateway.enrolment import EnrolmentRoute
from pleura.server.gateway.fleet_proxy import HOLD_S, FleetProxy
from pleura.server.gateway.refusals import refusal
from pleura.server.gateway.routes import Match, find_route
from pleura.server.gateway.seats import Seat
from pleura.server.gateway.statements import LogReader, StatementRoutes
from pleura.server.settings import ServerSettings
from pleura.server.sites import Site, SiteRegistry


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What the gateway works with; the process opens them, tests open their own."""

    settings: ServerSettings
    registry: SiteRegistry
    log: LogReader
    blobs: BlobStore
    is_model: Callable[[str], bool]
    coordinator_key: VerifyKey
    clock: Clock
    is_stopping: Callable[[], bool] = lambda: False
    hold_s: float = HOLD_S


class Gateway:
    """The ASGI application behind the public port."""

    def __init__(self, parts: GatewayParts) -> None:
        settings = parts.settings
        self._seated: Counter[SiteId] = Counter()
        self._auth = Authenticator(parts.registry, parts.clock)
        self._enrolment = EnrolmentRoute(
            parts.registry, settings.federation_id, parts.coordinator_key, parts.clock
        )
        self._blobs = BlobRoutes(
            parts.blobs, parts.registry, parts.is_model, settings.max_blob_mb * 1024 * 1024
        )
        self._statements = StatementRoutes(parts.log, parts.registry)
        self._fleet = FleetProxy(
            settings.superlink_port,
            parts.registry,
            parts.clock,
            parts.is_stopping,
            orders=Bell(settings.orders_bell_file),
            answers=Bell(settings.answers_bell_file),
            hold_s=parts.hold_s,
        )

    async def close(self) -> None:
        """Close the connections to the SuperLink."""
        await self._fleet.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        with Seat(self._seated) as seat:
            response = await self._answer(Request(scope, receive, send), seat)
            await response(scope, receive, send)

    async def _answer(self, request: Request, seat: Seat) -> Response:
        stage = "route"
        site_id: SiteId | None = None
        try:
            target = target_of(request.scope)
            match = find_route(request.method, target)
            stage = match.route.name
            if not match.route.is_signed:
                return await self._enrolment.enrol(request)
            site = self._auth.site_of(request, target, match.route.states)
            site_id = site.site_id
            seat.take(site_id)
            return await self._dispatch(match, request, site)
        except PleuraError as exc:
            return refusal(exc, stage, site=site_id)
        except Exception as exc:  # noqa: BLE001 - the daemon's top: recorded, never detailed
            return _fault(exc)

    async def _dispatch(self, match: Match, request: Request, site: Site) -> Response:
        match match.route.name:
            case "site":
                await signed_body(request, 0)
                return self._enrolment.state(site)
            case "sites":
                return await self._statements.sites(request, site)
            case "log":
                return await self._statements.log(request, site)
            case "blob.head":
                return await self._blobs.head(request, site, match.parts[0])
            case "blob.get":
                return await self._blobs.get(request, site, match.parts[0])
            case "blob.patch":
                return await self._blobs.patch(request, site, match.parts[0])
            case "fleet":
                return await self._fleet.handle(request, site)
        raise LookupError("a route without a handler")


def create_app(parts: GatewayParts) -> Starlette:
    """Return the application; its lifespan closes the connections to the SuperLink."""
    gateway = Gateway(parts)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await gateway.close()

    app = Starlette(routes=[StarletteRoute("/{path:path}", gateway)], lifespan=lifespan)
    app.router.redirect_slashes = False
    return app


def target_of(scope: Scope) -> str:
    """Return path and query as they travelled, the text a site signs."""
    raw: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return (raw + (b"?" + query if query else b"")).decode("latin-1")


def _fault(exc: Exception) -> Response:
    events.emit("error.raised", code=PleuraError.code, error=type(exc).__name__)
    return JSONResponse(
        {"code": PleuraError.code, "hint": PleuraError.hint},
        status_code=500,
        headers={"Connection": "close"},
    )
