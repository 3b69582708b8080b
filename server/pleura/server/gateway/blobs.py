"""Blob routes: model and update bytes, resumable in both directions.

A chunk enters the partial file only as far as it was covered by a signature; the
blob appears only if all bytes have the digest that names it. A site reads what
the coordinator made a model and what it sent itself, never another site's update.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from pleura.common import events
from pleura.common.blobs import BlobStore
from pleura.common.errors import (
    BlobMissing,
    BlobTooLarge,
    DigestMismatch,
    DiskFull,
    EnvelopeMalformed,
)
from pleura.common.ids import short
from pleura.server.errors import UploadOffsetWrong
from pleura.server.gateway.auth import query_of, signed_body, streamed_body
from pleura.server.gateway.refusals import refusal
from pleura.server.sites import Site, SiteRegistry

MAX_CHUNK_BYTES: Final = 64 * 1024 * 1024
PIECE_BYTES: Final = 4 * 1024 * 1024  # held in memory for each upload that is running
READ_BYTES: Final = 1024 * 1024
RESERVE_BYTES: Final = 512 * 1024 * 1024  # kept free for runs and log, whatever sites send
_RANGE: Final = re.compile(r"bytes=([0-9]{1,18})-")
_UPLOAD: Final = re.compile(r"offset=([0-9]{1,18})&total=([0-9]{1,18})")


class BlobRoutes:
    """HEAD, GET and PATCH of `/pleura/v1/blobs/{sha256}`."""

    def __init__(
        self,
        store: BlobStore,
        registry: SiteRegistry,
        is_model: Callable[[str], bool],
        max_blob_bytes: int,
    ) -> None:
        self._store = store
        self._registry = registry
        self._is_model = is_model
        self._max_blob_bytes = max_blob_bytes
        self._turns: dict[str, _Turn] = {}

    async def head(self, request: Request, _site: Site, digest: str) -> Response:
        """Say how much of a blob is here.

        Raises:
            DigestMismatch: the body is not the signed one.
        """
        await signed_body(request, 0)
        if self._store.has(digest):
            return Response(headers={"Content-Length": str(self._store.size(digest))})
        offset = self._store.partial_size(digest)
        return Response(status_code=404, headers={"Upload-Offset": str(offset)})

    async def get(self, request: Request, site: Site, digest: str) -> Response:
        """Stream a blob, from an offset if the site has a part of it.

        Raises:
            BlobMissing: not here, or sent by another site.
            EnvelopeMalformed: the Range is not `bytes=n-`.
        """
        await signed_body(request, 0)
        # asked by what it is, not by who sent it first: a site may send a model's bytes too
        is_open = self._is_model(digest) or self._registry.has_sent(digest, site.site_id)
        if not self._store.has(digest) or not is_open:
            raise BlobMissing("blob")
        size = self._store.size(digest)
        offset = _range_start(request.headers.get("range"))
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if offset is None:
            headers["Content-Length"] = str(size)
            return StreamingResponse(self._read(digest, 0), headers=headers)
        if offset >= size:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Length"] = str(size - offset)
        headers["Content-Range"] = f"bytes {offset}-{size - 1}/{size}"
        return StreamingResponse(self._read(digest, offset), status_code=206, headers=headers)

    async def patch(self, request: Request, site: Site, digest: str) -> Response:
        """Take the next chunk of an upload.

        Raises:
            BlobTooLarge: the blob or the chunk is larger than allowed.
            EnvelopeMalformed: offset or total is missing or contradicts the body.
            DigestMismatch: the chunk is not the signed one; nothing of it is kept.
            DiskFull: no room but the coordinator's reserve; what came before is kept.
        """
        offset, total = _upload_range(query_of(request.scope))
        if total > self._max_blob_bytes:
            raise BlobTooLarge("blob")
        async with self._turn(digest):
            if self._store.has(digest):
                size = self._store.size(digest)
                return _state(size, is_complete=True, is_body_unread=True)
            here = self._usable_partial(digest, total)
            if here != offset:
                error, extra = UploadOffsetWrong(), {"Upload-Offset": str(here)}
                return refusal(error, "blob", site=site.site_id, status=409, headers=extra)
            if self._store.free() - (total - offset) < RESERVE_BYTES:
                raise DiskFull("uploads")
            started = time.monotonic()
            size = await self._append(request, digest, offset, total)
            if size < total:
                return _state(size, is_complete=False)
            # recorded first: the blob is never there without its sender, who alone may read it
            self._registry.record_upload(digest, site.site_id)
            try:
                await to_thread.run_sync(self._store.finish_partial, digest)
            except DigestMismatch as exc:
                self._registry.forget_upload(digest, site.site_id)
                return refusal(exc, "blob", site=site.site_id, status=422)
        events.emit(
            "blob.stored", digest=short(digest), bytes=size, seconds=time.monotonic() - started
        )
        return _state(size, is_complete=True)

    def _usable_partial(self, digest: str, total: int) -> int:
        """Return the size of what is here; more than the whole cannot be right and is dropped."""
        here = self._store.partial_size(digest)
        if here > total:
            self._store.drop_partial(digest)
            return 0
        return here

    async def _append(self, request: Request, digest: str, offset: int, total: int) -> int:
        """Append the body; if it ends in any other way than well, nothing of it is kept."""
        size = offset
        try:
            async for piece in streamed_body(request, MAX_CHUNK_BYTES, PIECE_BYTES):
                append = partial(self._store.append_partial, digest, size, (piece,), total)
                size = await to_thread.run_sync(append)
        except BaseException:
            self._store.trim_partial(digest, offset)
            raise
        return size

    async def _read(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        with self._store.path(digest).open("rb") as file:
            file.seek(offset)
            while piece := await to_thread.run_sync(file.read, READ_BYTES):
                yield piece

    @asynccontextmanager
    async def _turn(self, digest: str) -> AsyncIterator[None]:
        """One upload of a digest at a time; others wait for their turn."""
        turn = self._turns.setdefault(digest, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if turn.users == 0:
                self._turns.pop(digest, None)


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


def _state(size: int, *, is_complete: bool, is_body_unread: bool = False) -> Response:
    headers = {"Connection": "close"} if is_body_unread else None
    return JSONResponse({"offset": size, "complete": is_complete}, headers=headers)


def _range_start(text: str | None) -> int | None:
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    if match is None:
        raise EnvelopeMalformed("range")
    return int(match.group(1))


def _upload_range(query: str) -> tuple[int, int]:
    match = _UPLOAD.fullmatch(query)
    if match is None:
        raise EnvelopeMalformed("offset and total")
    offset, total = int(match.group(1)), int(match.group(2))
    if total == 0 or offset > total:  # equal: all bytes came, but a crash came before the check
        raise EnvelopeMalformed("offset and total")
    return offset, total
