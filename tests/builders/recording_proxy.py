"""A TLS-terminating proxy in front of the gateway: keeps every byte sites send.

It shows the coordinator's own certificate, so a site that pins the CA cannot tell
the difference; what it records is what left the hospital, in the clear.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
PIECE = 64 * 1024
HOST = "127.0.0.1"
Rewrite = Callable[[bytes], bytes]


class RecordingProxy:
    """Accepts on a free loopback port and forwards each connection to the gateway.

    One event loop in one thread: a TLS connection must not be read and written by
    two threads at once.
    """

    def __init__(self, tls: Path, gateway_port: int, rewrite: Rewrite | None = None) -> None:
        """Use the key and CA in the coordinator's `tls` folder.

        `rewrite` may change each piece on its way from the gateway to the site.
        """
        self._inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._inside.load_cert_chain(tls / "server.pem", tls / "server.key")
        self._outside = ssl.create_default_context(cafile=str(tls / "ca.pem"))
        self._gateway_port, self._rewrite = gateway_port, rewrite
        self._sent: list[bytearray] = []
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._on_loop(asyncio.start_server(self._serve, HOST, 0, ssl=self._inside))
        self.port = int(self._server.sockets[0].getsockname()[1])

    def sent(self) -> tuple[bytes, ...]:
        """Return what was sent so far, one value a connection."""
        return self._on_loop(self._copies())

    def close(self) -> None:
        """Cut every connection."""
        self._on_loop(self._cut_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _copies(self) -> tuple[bytes, ...]:
        return tuple(bytes(part) for part in self._sent)

    async def _cut_all(self) -> None:
        self._server.close()
        still = list(self._open)
        for writer in [writer for task in still for writer in self._open[task]]:
            writer.transport.abort()
        if still:
            await asyncio.wait(still, timeout=10)

    async def _serve(self, site: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._open[task] = [back]
        try:
            gateway, forth = await asyncio.open_connection(
                HOST, self._gateway_port, ssl=self._outside, server_hostname=HOST
            )
            writers.append(forth)
            record = bytearray()
            self._sent.append(record)
            await asyncio.gather(
                _pump(site, forth, lambda piece: _kept(record, piece)),
                _pump(gateway, back, self._rewrite or (lambda piece: piece)),
            )
        except OSError:
            pass
        finally:
            for writer in writers:
                writer.close()
            for writer in writers:
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            del self._open[task]


@contextmanager
def recording_proxy(
    tls: Path, gateway_port: int, rewrite: Rewrite | None = None
) -> Iterator[RecordingProxy]:
    """Run a proxy until the block ends."""
    proxy = RecordingProxy(tls, gateway_port, rewrite)
    try:
        yield proxy
    finally:
        proxy.close()


def with_date(moment: str) -> Rewrite:
    """Return a rewrite that puts another `Date` into replies."""
    line = b"date: " + moment.encode("ascii")
    return lambda piece: re.sub(rb"(?im)^date: [^\r\n]*", line, piece)


async def _pump(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, pass_on: Rewrite
) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE):
            target.write(pass_on(piece))
            await target.drain()
    target.close()


def _kept(record: bytearray, piece: bytes) -> bytes:
    record.extend(piece)
    return piece
