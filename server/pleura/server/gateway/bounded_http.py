"""HTTP with a bound on headers: their time and their size, which uvicorn leaves open.

Without it a thousand connections that send one header byte a minute would shut out
every site. Bodies have their own bounds in `auth`.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pleura.common import events
from pleura.server.errors import HeadersUnbounded


class BoundedHttp(HttpToolsProtocol):
    """One connection; it is cut when the headers of a request are late or too large."""

    header_s: ClassVar[float] = 30.0
    header_bytes: ClassVar[int] = 512 * 1024  # one read may carry 256 KiB of body as well

    _deadline: asyncio.TimerHandle | None = None
    _pending_bytes: int = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time of the first request."""
        super().connection_made(transport)
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._stop()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Start the time of a further request on the same connection."""
        super().on_message_begin()
        if self._deadline is None:
            self._start()

    def on_headers_complete(self) -> None:
        """The headers are here: from now on the body's bounds hold."""
        self._stop()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Count what arrives before the headers are complete."""
        super().data_received(data)
        if self._deadline is not None:
            self._pending_bytes += len(data)
            if self._pending_bytes > self.header_bytes:
                self._cut()

    def _start(self) -> None:
        self._pending_bytes = 0
        self._deadline = self.loop.call_later(self.header_s, self._cut)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self) -> None:
        self._stop()
        events.emit("request.refused", code=HeadersUnbounded.code, status=408, stage="headers")
        self.transport.abort()
