"""Blobs on their way: base models from coordinator to trainer, updates back.

Both ways continue where they were cut. The trainer verifies what it is given,
the coordinator what it is sent; the agent only moves bytes and keeps one copy of
an update until it is acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from pleura.client.agent.channel import UploadState
from pleura.client.agent.trainer_link import NeedsBase
from pleura.client.errors import CoordinatorUnreachable
from pleura.common import events
from pleura.common.blobs import BlobStore
from pleura.common.errors import DigestMismatch
from pleura.common.ids import short

_TRIES: Final = 3  # of a whole transfer whose bytes had another digest


class Coordinator(Protocol):
    """The routes of the gateway for blobs, as `Channel` offers them."""

    def blob_state(self, digest: str) -> UploadState: ...

    def upload_chunk(self, digest: str, file: Path, offset: int) -> UploadState: ...

    def download(self, digest: str, offset: int = 0) -> Iterator[bytes]: ...


class Trainer(Protocol):
    """The calls of the trainer for blobs, as `TrainerLink` offers them."""

    def put_blob(self, sha256: str, total: int, offset: int, data: Iterator[bytes]) -> bool: ...

    def get_blob(self, sha256: str, offset: int = 0) -> Iterator[bytes]: ...


class BlobCarrier:
    """Moves blobs between one coordinator and one trainer."""

    def __init__(self, coordinator: Coordinator, trainer: Trainer, store: BlobStore) -> None:
        self._coordinator, self._trainer, self._store = coordinator, trainer, store

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
            BlobTooLarge: the coordinator allows less.
            DigestMismatch: the coordinator dropped the bytes three times.
        """
        file, started = self._fetched(sha256, size), time.monotonic()
        for attempt in range(1, _TRIES + 1):
            try:
                self._upload(sha256, file)
            except DigestMismatch:
                if attempt == _TRIES:
                    raise
            else:
                break
        seconds = time.monotonic() - started
        events.emit("blob.sent", digest=short(sha256), bytes=size, seconds=seconds)

    def forget(self, sha256: str) -> None:
        """Delete the agent's copy of an update."""
        self._store.path(sha256).unlink(missing_ok=True)

    def _upload(self, sha256: str, file: Path) -> None:
        state = self._coordinator.blob_state(sha256)
        while not state.is_complete:
            reached = self._coordinator.upload_chunk(sha256, file, state.offset)
            if not reached.is_complete and reached.offset <= state.offset:
                raise CoordinatorUnreachable("the upload makes no headway")
            state = reached

    def _fetched(self, sha256: str, size: int) -> Path:
        if not self._store.has(sha256):
            offset = self._store.partial_size(sha256)
            data = self._trainer.get_blob(sha256, offset)
            self._store.append_partial(sha256, offset, data, size)
            self._store.finish_partial(sha256)
        return self._store.path(sha256)
