"""A TLS-terminating proxy in front of the gateway: keeps every byte sites send.

It shows the coordinator's own certificate, so a site that pins the CA cannot tell
the difference; what it records is what left the hospital, in the clear.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PIECE = 64 * 1024
Rewrite = Callable[[bytes], bytes]


class RecordingProxy:
    """Accepts on a free loopback port and forwards each connection to the gateway."""

    def __init__(self, tls: Path, gateway_port: int, rewrite: Rewrite | None = None) -> None:
        """Use the key and CA in the coordinator's `tls` folder.

        `rewrite` may change each piece on its way from the gateway to the site.
        """
        self._inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._inside.load_cert_chain(tls / "server.pem", tls / "server.key")
        self._outside = ssl.create_default_context(cafile=str(tls / "ca.pem"))
        self._gateway_port, self._rewrite = gateway_port, rewrite
        self._lock = threading.Lock()
        self._sent: list[bytearray] = []
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def sent(self) -> tuple[bytes, ...]:
        """Return what was sent so far, one value a connection."""
        with self._lock:
            return tuple(bytes(part) for part in self._sent)

    def close(self) -> None:
        """Cut every connection."""
        self._is_closed = True
        self._listening.close()
        with self._lock:
            still = list(self._open)
        for connection in still:
            _cut(connection)

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                raw, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        record, opened = bytearray(), [raw]
        try:
            site = self._inside.wrap_socket(raw, server_side=True)
            opened.append(site)
            plain = socket.create_connection(("127.0.0.1", self._gateway_port), timeout=10)
            opened.append(plain)
            plain.settimeout(None)
            gateway = self._outside.wrap_socket(plain, server_hostname="127.0.0.1")
        except OSError:
            for connection in opened:
                _cut(connection)
            return
        with self._lock:
            self._sent.append(record)
            self._open |= {site, gateway}

        def keep(piece: bytes) -> bytes:
            with self._lock:
                record.extend(piece)
            return piece

        back = threading.Thread(
            target=_pump, args=(gateway, site, self._rewrite or (lambda b: b)), daemon=True
        )
        back.start()
        _pump(site, gateway, keep)
        back.join(5)
        with self._lock:
            self._open -= {site, gateway}


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


def _pump(source: socket.socket, target: socket.socket, pass_on: Rewrite) -> None:
    try:
        while piece := source.recv(PIECE):
            target.sendall(pass_on(piece))
    except OSError:
        pass
    finally:
        _cut(source)
        _cut(target)


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        connection.close()
