"""Trainer link: the agent's side of the Unix socket, every call with a deadline.

A trainer that does not answer is `TrainerUnreachable`, which is worth retrying;
what the trainer refuses comes back as the named refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import grpc

from pleura.client.errors import BlobNotWanted, TrainerUnreachable
from pleura.common.canonical import MAX_JSON_BYTES
from pleura.common.errors import DigestMismatch, DiskFull, EnvelopeMalformed, PleuraError
from pleura.common.proto import trainer_pb2 as pb
from pleura.common.proto import trainer_pb2_grpc as pb_grpc

MAX_MESSAGE_BYTES: Final = 4 * 2**20
CHUNK_BYTES: Final = 2**20
SUBMIT_TIMEOUT_S: Final = 600.0  # then the order is submitted again and joins its job
BLOB_TIMEOUT_S: Final = 600.0
_STOPPING: Final = "STOPPING"  # not a refusal: the next trainer does the order
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # the target is a path, never a name: the default authority would be the path itself
    ("grpc.default_authority", "trainer"),
)
_REFUSALS: Final[dict[str, type[PleuraError]]] = {
    error.code: error for error in (BlobNotWanted, DigestMismatch, DiskFull)
}


@dataclass(frozen=True, slots=True)
class TrainerStatus:
    version: str
    sandboxed: bool
    busy: bool
    waiting: int


@dataclass(frozen=True, slots=True)
class NeedsBase:
    """The trainer wants this base blob from `have` on; then submit again."""

    sha256: str
    size: int
    have: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A signed answer of the site; `blob_sha256` is empty if it has no blob."""

    envelope: bytes
    blob_sha256: str
    blob_size: int


@dataclass(frozen=True, slots=True)
class Unsigned:
    """The order could not be tied to the coordinator; only a code comes back."""

    code: str


class TrainerLink:
    """One connection to the trainer; safe to share by threads."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=_OPTIONS)
        self._stub = pb_grpc.TrainerStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def status(self, *, timeout_s: float = 5.0) -> TrainerStatus:
        """Return what the trainer says of itself.

        Raises:
            TrainerUnreachable: it does not answer in time.
        """
        try:
            reply = self._stub.Status(pb.StatusRequest(), timeout=timeout_s)
        except grpc.RpcError as exc:
            raise _named(exc) from exc
        return TrainerStatus(reply.version, reply.sandboxed, reply.busy, reply.waiting)

    def submit(
        self, envelope: bytes, *, timeout_s: float = SUBMIT_TIMEOUT_S
    ) -> NeedsBase | Answer | Unsigned:
        """Hand in an order and wait for what becomes of it, however long its job takes.

        Raises:
            TrainerUnreachable: no sign of life within `timeout_s`, or the trainer went
                away; submitting the same bytes again is always safe.
        """
        if len(envelope) > MAX_JSON_BYTES:
            return Unsigned(EnvelopeMalformed.code)
        request = pb.OrderEnvelope(envelope=envelope)
        while True:
            is_alive = False
            try:
                for event in self._stub.Submit(request, timeout=timeout_s):
                    is_alive = True
                    outcome = _outcome(event)
                    if outcome is not None:
                        return outcome
            except grpc.RpcError as exc:
                if is_alive and _is_deadline(exc):
                    continue  # the job goes on: join it again
                raise _named(exc) from exc
            raise TrainerUnreachable("the stream ended without an outcome")

    def put_blob(self, sha256: str, total: int, offset: int, data: Iterable[bytes]) -> bool:
        """Stream bytes of a wanted blob from `offset`; return whether it is complete.

        An error of `data` itself is raised as it is; what was sent before it is kept.

        Raises:
            BlobNotWanted: no accepted order waits for it.
            DigestMismatch: wrong offset, size or bytes; a wrong whole was deleted.
            TrainerUnreachable: no answer in time.
        """
        source = _Source(sha256, total, offset, data)
        try:
            reply = self._stub.PutBlob(iter(source), timeout=BLOB_TIMEOUT_S)
        except grpc.RpcError as exc:
            if source.error is not None:
                raise source.error from exc
            raise _named(exc) from exc
        if source.error is not None:
            raise source.error
        return bool(reply.complete)

    def get_blob(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """Yield an answered update blob from `offset`.

        Raises:
            BlobNotWanted: no answer offers it.
            TrainerUnreachable: no answer in time.
        """
        request = pb.GetBlobRequest(sha256=sha256, offset=offset)
        try:
            for chunk in self._stub.GetBlob(request, timeout=BLOB_TIMEOUT_S):
                yield chunk.data
        except grpc.RpcError as exc:
            raise _named(exc) from exc


class _Source:
    """Cuts data into chunks; an error of the source ends the stream and is kept.

    gRPC consumes request iterators on its own thread, where an exception would
    only become a cancelled call.
    """

    def __init__(self, sha256: str, total: int, offset: int, data: Iterable[bytes]) -> None:
        self._sha256, self._total, self._offset = sha256, total, offset
        self._data = data
        self.error: PleuraError | None = None

    def __iter__(self) -> Iterator[pb.Chunk]:
        offset = self._offset
        yield pb.Chunk(sha256=self._sha256, total=self._total, offset=offset)
        try:
            for piece in self._data:
                for start in range(0, len(piece), CHUNK_BYTES):
                    part = piece[start : start + CHUNK_BYTES]
                    yield pb.Chunk(offset=offset, data=part)
                    offset += len(part)
        except PleuraError as exc:
            self.error = exc


def _outcome(event: pb.JobEvent) -> NeedsBase | Answer | Unsigned | None:
    match event.WhichOneof("event"):
        case "needs_base":
            wanted = event.needs_base
            return NeedsBase(wanted.sha256, wanted.size, wanted.have)
        case "answered":
            found = event.answered
            return Answer(found.envelope, found.blob_sha256, found.blob_size)
        case "refused":
            if event.refused.code == _STOPPING:
                raise TrainerUnreachable("it is stopping")
            return Unsigned(event.refused.code)
        case _:
            return None


def _is_deadline(exc: grpc.RpcError) -> bool:
    return isinstance(exc, grpc.Call) and exc.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def _named(exc: grpc.RpcError) -> PleuraError:
    details = exc.details() if isinstance(exc, grpc.Call) else ""
    refusal = _REFUSALS.get(details or "")
    if refusal is not None:
        return refusal("said by the trainer")
    code = exc.code().name if isinstance(exc, grpc.Call) else type(exc).__name__
    return TrainerUnreachable(code)
