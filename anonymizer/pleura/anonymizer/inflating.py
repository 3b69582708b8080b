"""Deflated data sets (PS3.5 A.5): out of a source into a source, and back.

Small ones stay in memory; a larger one goes to a file without a name in a folder the caller
chooses, so that memory stays flat and nothing is left behind by a crash.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pleura.anonymizer.errors import LimitExceeded, Truncated, Undecodable
from pleura.anonymizer.source import CHUNK_BYTES, BytesSource, FileSource, Source, Span

MAX_INFLATED_BYTES: Final = 4 << 30
MAX_INFLATE_RATIO: Final = 100
MAX_INFLATE_FLOOR_BYTES: Final = 16 << 20
SPOOL_BYTES: Final = 8 << 20


def inflate(source: Source, start: int, *, spool: Path | None = None) -> Source:
    """Return the inflated bytes of `source` from `start` on.

    `spool` is the folder for what is too large for memory (the system's, if None).

    Raises:
        Truncated: the stream ends early or has a tail.
        Undecodable: it is no deflate stream.
        LimitExceeded: it inflates beyond 4 GiB or a ratio of 100.
    """
    packed = source.size - start
    limit = max(MAX_INFLATE_FLOOR_BYTES, min(MAX_INFLATED_BYTES, MAX_INFLATE_RATIO * packed))
    pieces: list[bytes] = []
    size = 0
    file: FileSource | None = None
    for piece in _plain(Span(source, start, packed)):
        size += len(piece)
        if size > limit:
            raise LimitExceeded("inflated size")
        if file is None and size > SPOOL_BYTES:
            file = _unnamed(spool)
            file.append(b"".join(pieces))
        if file is None:
            pieces.append(piece)
        else:
            file.append(piece)
    return BytesSource(b"".join(pieces)) if file is None else file


def _unnamed(folder: Path | None) -> FileSource:
    with tempfile.TemporaryFile(dir=folder) as file:
        return FileSource(os.dup(file.fileno()))


def _plain(packed: Span) -> Iterator[bytes]:
    """Yield the inflated bytes in bounded pieces."""
    inflator = zlib.decompressobj(-zlib.MAX_WBITS)
    tail = 0
    try:
        for chunk in packed.chunks():
            if inflator.eof:
                tail += len(chunk)
                continue
            while chunk and not inflator.eof:
                piece = inflator.decompress(chunk, CHUNK_BYTES)
                chunk = inflator.unconsumed_tail
                if piece:
                    yield piece
            tail += len(inflator.unused_data)
        while not inflator.eof and (piece := inflator.decompress(b"", CHUNK_BYTES)):
            yield piece
    except zlib.error as exc:
        raise Undecodable("damaged deflate stream") from exc
    if not inflator.eof or tail > 1:
        raise Truncated()


def deflate(pieces: Iterable[bytes | Span]) -> Iterator[bytes]:
    """Yield the deflated data set, padded to an even length (PS3.5 A.5)."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    size = 0
    for piece in pieces:
        for chunk in piece.chunks() if isinstance(piece, Span) else (piece,):
            packed = packer.compress(chunk)
            size += len(packed)
            yield packed
    packed = packer.flush()
    yield packed + b"\0" * ((size + len(packed)) % 2)
