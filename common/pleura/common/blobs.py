"""Content-addressed store: a blob's name is the SHA-256 of its bytes.

Files lie under `sha256/ab/<digest>`. A blob appears whole or not at all; what
was received of an unfinished upload waits as `.partial` and can be continued.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from pleura.common.errors import BlobMissing, BlobTooLarge, DigestMismatch
from pleura.common.files import (
    atomic_writer,
    free_bytes,
    fsync_file,
    fsync_folder,
    raise_if_disk_full,
    sweep_parts,
)
from pleura.common.ids import SHA256_PATTERN
from pleura.common.tensors import file_sha256

PARTIAL = ".partial"


class BlobStore:
    """A folder of immutable blobs; several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self._root = root / "sha256"
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def sweep(self) -> int:
        """Delete unfinished temporary files; uploads in progress are kept."""
        return sweep_parts(self._root)

    def path(self, digest: str) -> Path:
        """Return where a blob lies, whether or not it is there.

        Raises:
            DigestMismatch: `digest` is not 64 hex digits.
        """
        if not re.fullmatch(SHA256_PATTERN, digest):
            raise DigestMismatch("not a SHA-256")
        return self._root / digest[:2] / digest

    def free(self) -> int:
        """Return the free bytes of the store's volume."""
        return free_bytes(self._root)

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Return a blob's size in bytes.

        Raises:
            BlobMissing: it is not here.
        """
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as exc:
            raise BlobMissing("blob") from exc

    def put_stream(self, chunks: Iterable[bytes], digest: str, max_bytes: int) -> Path:
        """Store the concatenation of `chunks` under `digest`.

        Raises:
            DigestMismatch: the bytes have another digest; nothing is kept.
            BlobTooLarge: more than `max_bytes`; nothing is kept.
            DiskFull: the volume has no room; nothing is kept.
        """
        path = self._prepared(digest)
        running, size = hashlib.sha256(), 0
        with atomic_writer(path) as file:
            for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise BlobTooLarge("blob")
                running.update(chunk)
                file.write(chunk)
            if running.hexdigest() != digest:
                raise DigestMismatch("blob")
        return path

    def adopt(self, source: Path, digest: str) -> Path:
        """Move a finished file of the same volume into the store after checking it.

        Raises:
            DigestMismatch: the file has another digest; it stays where it is.
        """
        if file_sha256(source) != digest:
            raise DigestMismatch("blob")
        path = self._prepared(digest)
        source.replace(path)
        fsync_folder(path.parent)
        return path

    def open_verified(self, digest: str) -> BinaryIO:
        """Return the blob opened for reading, after its bytes were checked.

        Raises:
            BlobMissing: it is not here.
            DigestMismatch: the file on disk was changed.
        """
        path = self.path(digest)
        if not path.is_file():
            raise BlobMissing("blob")
        if file_sha256(path) != digest:
            raise DigestMismatch("blob on disk")
        return path.open("rb")

    # resumable uploads

    def partial_size(self, digest: str) -> int:
        """Return how many bytes of an unfinished upload are here."""
        try:
            return self._partial(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def append_partial(
        self, digest: str, offset: int, chunks: Iterable[bytes], max_bytes: int
    ) -> int:
        """Append to an unfinished upload at `offset`; return its new size.

        Durable only once finished: a tail lost with the machine shows in the digest.

        Raises:
            DigestMismatch: `offset` is not the current size.
            BlobTooLarge: more than `max_bytes` in all.
            DiskFull: the volume has no room; what came before is kept.
        """
        self._prepared(digest)
        descriptor = os.open(self._partial(digest), os.O_RDWR | os.O_CREAT, 0o600)
        try:  # around the whole block: closing writes too
            with os.fdopen(descriptor, "r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if size != offset:
                    raise DigestMismatch("offset differs from what is here")
                for chunk in chunks:
                    if size + len(chunk) > max_bytes:
                        raise BlobTooLarge("blob")
                    file.write(chunk)
                    size += len(chunk)
        except OSError as exc:
            raise_if_disk_full(exc)
            raise
        return size

    def finish_partial(self, digest: str) -> Path:
        """Turn a complete upload into a blob.

        Raises:
            BlobMissing: nothing was uploaded.
            DigestMismatch: the bytes have another digest; the upload is deleted.
        """
        partial = self._partial(digest)
        if not partial.is_file():
            raise BlobMissing("upload")
        fsync_file(partial)
        try:
            return self.adopt(partial, digest)
        except DigestMismatch:
            partial.unlink(missing_ok=True)
            raise

    def trim_partial(self, digest: str, size: int) -> None:
        """Cut an unfinished upload back to its first `size` bytes."""
        partial = self._partial(digest)
        if partial.is_file() and partial.stat().st_size > size:
            os.truncate(partial, size)

    def drop_partial(self, digest: str) -> None:
        """Forget an unfinished upload."""
        self._partial(digest).unlink(missing_ok=True)

    def _partial(self, digest: str) -> Path:
        path = self.path(digest)
        return path.with_name(path.name + PARTIAL)

    def _prepared(self, digest: str) -> Path:
        path = self.path(digest)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fsync_folder(self._root)  # a blob is as durable as the folder it lies in
        return path
