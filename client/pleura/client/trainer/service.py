"""Service: the trainer's gRPC face on its Unix socket.

Translates between protobuf and `jobs`; decides nothing. A base blob is taken only
while an accepted order waits for it, and only update blobs of answers are given.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NoReturn

import grpc

from pleura.client.errors import BlobNotWanted, SocketUnusable
from pleura.client.trainer.archive import Archive
from pleura.client.trainer.jobs import (
    Accepted,
    Answered,
    JobEvent,
    Jobs,
    NeedsBase,
    Progressed,
)
from pleura.common import events
from pleura.common.blobs import BlobStore
from pleura.common.errors import DigestMismatch, DiskFull, PleuraError
from pleura.common.files import ensure_private_folder
from pleura.common.ids import short
from pleura.common.proto import trainer_pb2 as pb
from pleura.common.proto import trainer_pb2_grpc as pb_grpc

MAX_MESSAGE_BYTES: Final = 4 * 2**20
CHUNK_BYTES: Final = 2**20
GRPC_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
)
_STREAMS: Final = 8
_MAX_SOCKET_PATH: Final = 107  # sun_path of Linux, without its final zero byte
_STATUS_OF: Final = {
    DiskFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DigestMismatch: grpc.StatusCode.DATA_LOSS,
}


class TrainerService(pb_grpc.TrainerServicer):
    """Answers the agent of the same site."""

    def __init__(self, jobs: Jobs, archive: Archive, blobs: BlobStore, *, sandboxed: bool) -> None:
        self._jobs, self._archive, self._blobs = jobs, archive, blobs
        self._sandboxed = sandboxed

    def Status(  # noqa: N802 - the name is the protocol's
        self, request: pb.StatusRequest, context: grpc.ServicerContext
    ) -> pb.StatusReply:
        """Say whether the trainer is sandboxed and how much it has to do."""
        waiting = self._jobs.waiting
        return pb.StatusReply(
            version=importlib.metadata.version("pleura"),
            sandboxed=self._sandboxed,
            busy=waiting > 0,
            waiting=max(0, waiting - 1),
        )

    def Submit(  # noqa: N802
        self, request: pb.OrderEnvelope, context: grpc.ServicerContext
    ) -> Iterator[pb.JobEvent]:
        """Stream what becomes of one order."""
        for event in self._jobs.submit(request.envelope):
            yield _to_proto(event)

    def PutBlob(  # noqa: N802
        self, request_iterator: Iterator[pb.Chunk], context: grpc.ServicerContext
    ) -> pb.PutBlobReply:
        """Append to a wanted base blob; the last byte makes it complete."""
        try:
            return self._put(request_iterator)
        except PleuraError as exc:
            _abort(context, exc)

    def GetBlob(  # noqa: N802
        self, request: pb.GetBlobRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.Chunk]:
        """Stream an answered update blob from an offset."""
        try:
            path = self._archive.update_file(request.sha256)
            if path is None:
                raise BlobNotWanted("no answer offers this object")
        except PleuraError as exc:
            _abort(context, exc)
        total, offset = path.stat().st_size, request.offset
        with path.open("rb") as file:
            file.seek(offset)
            while data := file.read(CHUNK_BYTES):
                yield pb.Chunk(sha256=request.sha256, total=total, offset=offset, data=data)
                offset += len(data)

    def _put(self, chunks: Iterator[pb.Chunk]) -> pb.PutBlobReply:
        first = next(chunks, None)
        if first is None:
            raise BlobNotWanted("an empty stream")
        size = self._jobs.wants(first.sha256)
        if first.total != size:
            raise DigestMismatch("the size differs from the order's")
        have = self._blobs.append_partial(first.sha256, first.offset, _data(first, chunks), size)
        if have < size:
            return pb.PutBlobReply(size=have, complete=False)
        self._blobs.finish_partial(first.sha256)
        events.emit("blob.stored", digest=short(first.sha256), bytes=size)
        return pb.PutBlobReply(size=have, complete=True)


def serve(service: TrainerService, socket: Path) -> grpc.Server:
    """Start serving on `socket`, mode 0600 in a private folder.

    Raises:
        StateInsecure: others may enter the socket's folder.
        SocketUnusable: the path is too long or cannot be bound.
    """
    if len(os.fsencode(socket)) > _MAX_SOCKET_PATH:
        raise SocketUnusable(f"its path is longer than {_MAX_SOCKET_PATH} bytes")
    ensure_private_folder(socket.parent)
    socket.unlink(missing_ok=True)
    pool = ThreadPoolExecutor(max_workers=_STREAMS, thread_name_prefix="trainer-rpc")
    server = grpc.server(pool, options=GRPC_OPTIONS, maximum_concurrent_rpcs=2 * _STREAMS)
    pb_grpc.add_TrainerServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError as exc:
        raise SocketUnusable("it cannot be bound") from exc
    finally:
        os.umask(before)
    server.start()
    socket.chmod(0o600)
    return server


def _data(first: pb.Chunk, rest: Iterator[pb.Chunk]) -> Iterator[bytes]:
    expected = first.offset + len(first.data)
    yield first.data
    for chunk in rest:
        if chunk.offset != expected:
            raise DigestMismatch("chunks are out of order")
        expected += len(chunk.data)
        yield chunk.data


def _to_proto(event: JobEvent) -> pb.JobEvent:
    match event:
        case Accepted(digest):
            return pb.JobEvent(accepted=pb.Accepted(order_digest=digest))
        case NeedsBase(sha256, size, have):
            return pb.JobEvent(needs_base=pb.NeedsBase(sha256=sha256, size=size, have=have))
        case Progressed(step, steps):
            return pb.JobEvent(progress=pb.Progress(step=step, steps=steps))
        case Answered(answer):
            return pb.JobEvent(
                answered=pb.Answered(
                    envelope=answer.envelope,
                    blob_sha256=answer.blob_sha256,
                    blob_size=answer.blob_size,
                )
            )
        case _:
            return pb.JobEvent(refused=pb.RefusedUnsigned(code=event.code))


def _abort(context: grpc.ServicerContext, exc: PleuraError) -> NoReturn:
    status = _STATUS_OF.get(type(exc), grpc.StatusCode.FAILED_PRECONDITION)
    context.abort(status, exc.code)
    raise AssertionError("abort raises")
