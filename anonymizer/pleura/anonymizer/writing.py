"""Writing: a draft in the target folder that becomes a file only when somebody says so.

Bytes of pixels go from file to file inside the kernel. What was written is read back: both
digests are those of the bytes on disk, and copied pixels are compared with their source.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pleura.anonymizer.errors import SelfCheckFailed, Truncated
from pleura.anonymizer.source import CHUNK_BYTES, FileSource, Source, Span
from pleura.common.files import PART, fsync_folder, raise_if_disk_full


@dataclass(slots=True)
class Draft:
    """An unfinished file; `copied` lists the spans in it and where each begins."""

    path: Path
    source: FileSource
    copied: list[tuple[Span, int]] = field(default_factory=list)

    def commit(self, target: Path, *, fsync: bool) -> None:
        """Give the draft its place; with `fsync` it survives a power cut from here on.

        Raises:
            OSError: it cannot be moved; the caller's block removes the draft.
        """
        if fsync:
            os.fsync(self.source.fileno())
        self.path.replace(target)
        if fsync:
            fsync_folder(target.parent)


@contextmanager
def drafted(folder: Path, pieces: Iterable[bytes | Span]) -> Iterator[Draft]:
    """Write the pieces to a file of mode 0600 in `folder`; gone at the end unless committed.

    Raises:
        OSError: it cannot be written.
        Truncated: a span's source got shorter.
    """
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=PART, dir=folder)
    path = Path(name)
    try:
        with FileSource(descriptor) as file:
            draft = Draft(path, file)
            _write(draft, pieces)
            yield draft
    finally:
        path.unlink(missing_ok=True)


def _write(draft: Draft, pieces: Iterable[bytes | Span]) -> None:
    small: list[bytes] = []
    size = 0
    for piece in pieces:
        if isinstance(piece, Span) or size > CHUNK_BYTES:
            draft.source.append(b"".join(small))
            small, size = [], 0
        if isinstance(piece, Span):
            draft.copied.append((piece, draft.source.size))
            _copy(piece, draft.source)
        else:
            small.append(piece)
            size += len(piece)
    draft.source.append(b"".join(small))


def _copy(span: Span, target: FileSource) -> None:
    """Append a span; inside the kernel where both files can do that."""
    done = _copy_in_kernel(span, target) if isinstance(span.source, FileSource) else 0
    while done < span.size:
        chunk = span.read(done, CHUNK_BYTES)
        if not chunk:
            raise Truncated()
        target.append(chunk)
        done += len(chunk)


def _copy_in_kernel(span: Span, target: FileSource) -> int:
    """Return how many bytes were copied: all, or none where the file systems cannot."""
    assert isinstance(span.source, FileSource)
    source, done = span.source.fileno(), 0
    while done < span.size:
        try:
            count = os.copy_file_range(
                source,
                target.fileno(),
                span.size - done,
                offset_src=span.start + done,
                offset_dst=target.size,
            )
        except OSError as exc:
            raise_if_disk_full(exc)
            return done  # reading on names what is wrong with the source
        if count == 0:
            return done
        done += count
        target.size += count
    return done


def digests(source: Source, draft: Draft) -> tuple[str, str]:
    """Return the SHA-256 (hex) of the source and of the draft, both read from disk.

    Raises:
        SelfCheckFailed: copied bytes differ from their source.
    """
    before, after = hashlib.sha256(), hashlib.sha256()
    seen = written = 0
    for span, at in draft.copied:
        if span.source is not source or span.start < seen:
            _compare(span, draft.source, at)
            continue
        for chunk in Span(source, seen, span.start - seen).chunks():
            before.update(chunk)
        for chunk in Span(draft.source, written, at - written).chunks():
            after.update(chunk)
        for offset in range(0, span.size, CHUNK_BYTES):
            original = span.read(offset, CHUNK_BYTES)
            if draft.source.read(at + offset, len(original)) != original:
                raise SelfCheckFailed("pixel bytes")
            before.update(original)
            after.update(original)
        seen, written = span.start + span.size, at + span.size
    for chunk in Span(source, seen, source.size - seen).chunks():
        before.update(chunk)
    for chunk in Span(draft.source, written, draft.source.size - written).chunks():
        after.update(chunk)
    return before.hexdigest(), after.hexdigest()


def _compare(span: Span, written: FileSource, at: int) -> None:
    for offset in range(0, span.size, CHUNK_BYTES):
        original = span.read(offset, CHUNK_BYTES)
        if written.read(at + offset, len(original)) != original:
            raise SelfCheckFailed("pixel bytes")


def digest_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with FileSource(path) as source:
        for chunk in Span(source, 0, source.size).chunks():
            digest.update(chunk)
    return digest.hexdigest()
