"""Sources: the bytes of a file by position, so that no pixel has to be held in memory.

A `Span` stands for bytes that stay where they are until somebody copies or decodes them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from pleura.anonymizer.errors import Unreadable

_READ_ONLY: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
CHUNK_BYTES: Final = 1 << 16  # stays in the cache of a core while it is hashed and compared


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

    def __init__(self, path: Path | int) -> None:
        """Open the file, or take over an open descriptor.

        Raises:
            OSError: it cannot be opened, or is no regular file: a pipe would keep us waiting.
        """
        self._is_open = False
        opened = path if isinstance(path, int) else os.open(path, _READ_ONLY)
        self._descriptor, self._is_open = opened, True
        state = os.fstat(self._descriptor)
        if not stat.S_ISREG(state.st_mode):
            self.close()
            raise OSError(errno.EINVAL, "no regular file")
        self.size = state.st_size

    def read(self, start: int, count: int) -> bytes:
        """Return up to `count` bytes from `start`; fewer only at the end.

        Raises:
            Unreadable: the file cannot be read.
        """
        pieces: list[bytes] = []
        while count > 0:
            try:
                piece = os.pread(self._descriptor, count, start)
            except OSError:
                raise Unreadable("a part of the file") from None
            if not piece:
                break
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def append(self, data: bytes) -> None:
        """Write bytes at the end, of a file that was opened for it.

        Raises:
            OSError: they cannot be written.
        """
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            view, self.size = view[written:], self.size + written

    def fileno(self) -> int:
        """Return the descriptor, for copies inside the kernel."""
        return self._descriptor

    def close(self) -> None:
        """Close the file."""
        if self._is_open:
            self._is_open = False
            os.close(self._descriptor)

    def __del__(self) -> None:
        self.close()

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
