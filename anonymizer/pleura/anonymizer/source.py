"""Sources: the bytes of a file by position, so that no pixel has to be held in memory.

A `Span` stands for bytes that stay where they are until somebody copies or decodes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

CHUNK_BYTES: Final = 1 << 20


class Source(Protocol):
    """Bytes that can be read by position."""

    @property
    def size(self) -> int:
        """Number of bytes."""
        ...

    def read(self, start: int, count: int) -> bytes:
        """Return up to `count` bytes from `start`; fewer only at the end."""
        ...


@dataclass(frozen=True, slots=True)
class BytesSource:
    """A source over bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.data)

    def read(self, start: int, count: int) -> bytes:
        """Return up to `count` bytes from `start`."""
        return self.data[start : start + count]


class FileSource:
    """A source over an open file; reads by position, so its order does not matter."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be opened.
        """
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, count: int) -> bytes:
        """Return up to `count` bytes from `start`; fewer only at the end."""
        pieces: list[bytes] = []
        while count > 0:
            piece = os.pread(self._descriptor, count, start)
            if not piece:
                break
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def fileno(self) -> int:
        """Return the descriptor, for copies inside the kernel."""
        return self._descriptor

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Span:
    """`size` bytes of a source from `start` on."""

    source: Source
    start: int
    size: int

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return self.read(0, self.size)

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` within the span."""
        count = max(0, min(count, self.size - offset))
        return self.source.read(self.start + offset, count)

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the bytes in pieces of `size`."""
        for offset in range(0, self.size, size):
            yield self.read(offset, size)
