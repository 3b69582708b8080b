"""Blobs on their way: base models from coordinator to trainer, updates back.

Both ways continue where they were cut. The trainer verifies what it is given,
the coordinator what it is sent, and the trainer's archive keeps every update; the
agent only moves bytes and holds one chunk of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, Protocol

from pleura.client.agent.channel import UploadState
from pleura.client.agent.trainer_link import NeedsBase
from pleura.client.errors import CoordinatorUnreachable
from pleura.common import events
from pleura.common.errors import DigestMismatch
from pleura.common.ids import short

CHUNK_BYTES: Final = 8 * 2**20  # lost at most when a connection breaks; the limit is 64 MiB
_TRIES: Final = 3  # of a whole transfer whose bytes had another digest


class Coordinator(Protocol):
    """The routes of the gateway for blobs, as `Channel` offers them."""

    def blob_state(self, digest: str) -> UploadState: ...

    def upload_chunk(self, digest: str, data: bytes, offset: int, total: int) -> UploadState: ...

    def download(self, digest: str, offset: int = 0) -> Iterator[bytes]: ...


class Trainer(Protocol):
    """The calls of the trainer for blobs, as `TrainerLink` offers them."""

    def put_blob(self, sha256: str, total: int, offset: int, data: Iterator[bytes]) -> bool: ...

    def get_blob(self, sha256: str, offset: int = 0) -> Iterator[bytes]: ...


class BlobCarrier:
    """Moves blobs between one coordinator and one trainer."""

    def __init__(
        self, coordinator: Coordinator, trainer: Trainer, *, chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        self._coordinator, self._trainer = coordinator, trainer
        self._chunk_bytes = chunk_bytes

    def bring_base(self, needed: NeedsBase) -> None:
        """Stream a base model into the trainer from where it stopped.

        Raises:
            CoordinatorUnreachable, TrainerUnreachable: what arrived is kept; call again.
            BlobMissing: the coordinator has no such blob.
            DigestMismatch: the bytes are not the ordered ones; they were dropped.
        """
        data = self._coordinator.download(needed.sha256, needed.have)
        is_complete = self._trainer.put_blob(needed.sha256, needed.size, needed.have, data)
        if not is_complete:
            raise CoordinatorUnreachable("the transfer ended early")

    def send_update(self, sha256: str, size: int) -> None:
        """Upload an answered update; sent twice it is stored once.

        Raises:
            CoordinatorUnreachable, TrainerUnreachable: what arrived is kept; call again.
            BlobNotWanted: the trainer no longer offers the update.
            BlobTooLarge: the coordinator allows less.
            DigestMismatch: the coordinator dropped the bytes three times.
        """
        started = time.monotonic()
        for attempt in range(1, _TRIES + 1):
            try:
                self._upload(sha256, size)
            except DigestMismatch:
                if attempt == _TRIES:
                    raise
            else:
                break
        seconds = time.monotonic() - started
        events.emit("blob.sent", digest=short(sha256), bytes=size, seconds=seconds)

    def _upload(self, sha256: str, size: int) -> None:
        """Send what the coordinator lacks; where it holds another amount, go on from there."""
        state = self._coordinator.blob_state(sha256)
        while not state.is_complete:
            reached = self._upload_from(sha256, size, state.offset)
            if not reached.is_complete and reached.offset <= state.offset:
                raise CoordinatorUnreachable("the upload makes no headway")
            state = reached

    def _upload_from(self, sha256: str, size: int, offset: int) -> UploadState:
        if offset == size:  # all is there, only the end was not noticed
            return self._coordinator.upload_chunk(sha256, b"", offset, size)
        offset = offset if offset < size else 0  # more than the whole is not a part of it
        state = UploadState(offset, False)
        for chunk in _chunks(self._trainer.get_blob(sha256, offset), self._chunk_bytes):
            state = self._coordinator.upload_chunk(sha256, chunk, offset, size)
            offset += len(chunk)
            if state.is_complete or state.offset != offset:
                break
        return state


def _chunks(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield pieces joined into chunks of `size` bytes; the last may be shorter."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
