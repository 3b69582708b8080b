"""Statement routes: the signed log and the list of sites, as every approved site may see them.

A site that keeps what it read can show later that nothing was changed or left out.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pleura.common.canonical import canonical_json
from pleura.common.errors import EnvelopeMalformed
from pleura.server.gateway.auth import query_of, signed_body
from pleura.server.sites import Site, SiteRegistry

MAX_ENTRIES: Final = 1000
PAGE_ENTRIES: Final = 50
MAX_REPLY_BYTES: Final = 8 * 1024 * 1024
_FROM: Final = re.compile(r"from=([0-9]{1,15})")


class LoggedEnvelope(Protocol):
    """One entry of the log."""

    @property
    def index(self) -> int: ...
    @property
    def envelope(self) -> bytes: ...


class LogReader(Protocol):
    """What this route needs of the statement log."""

    def entries(self, start: int = 0, limit: int = 1000) -> Sequence[LoggedEnvelope]: ...


class StatementRoutes:
    """GET of `/pleura/v1/log` and `/pleura/v1/sites`."""

    def __init__(self, log: LogReader, registry: SiteRegistry) -> None:
        self._log = log
        self._registry = registry

    async def log(self, request: Request, _site: Site) -> Response:
        """Return entries as JSON lines from `from`, at most 1000 and about 8 MiB.

        Raises:
            EnvelopeMalformed: the query is not `from=N`.
            DigestMismatch: the body is not the signed one.
        """
        await signed_body(request, 0)
        match = _FROM.fullmatch(query_of(request.scope))
        if match is None:
            raise EnvelopeMalformed("from")
        lines = log_lines(self._log, int(match.group(1)))
        return Response(b"".join(lines), media_type="application/x-ndjson")

    async def sites(self, request: Request, _site: Site) -> Response:
        """Return every site with the id of its signing key and its state.

        Raises:
            DigestMismatch: the body is not the signed one.
        """
        await signed_body(request, 0)
        rows = [
            {"site_id": s.site_id, "key_id": s.signing_key.key_id, "state": s.state.value}
            for s in self._registry.all()
        ]
        return JSONResponse(rows)


def log_lines(log: LogReader, start: int) -> list[bytes]:
    """Return the JSON lines of entries from `start` that fit one reply, at least one."""
    lines: list[bytes] = []
    size = 0
    while len(lines) < MAX_ENTRIES:
        page = log.entries(start + len(lines), min(PAGE_ENTRIES, MAX_ENTRIES - len(lines)))
        for entry in page:
            envelope = base64.b64encode(entry.envelope).decode("ascii")
            line = canonical_json({"index": entry.index, "envelope": envelope}) + b"\n"
            size += len(line)
            if lines and size > MAX_REPLY_BYTES:
                return lines
            lines.append(line)
        if len(page) < PAGE_ENTRIES:
            break
    return lines
