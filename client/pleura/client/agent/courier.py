"""Courier: takes a signed order to the trainer and its answer to the coordinator.

Order in, base model fetched if the trainer lacks it, answer kept, update blob
uploaded, envelope out. Safe to call again with the same bytes at any time: a
running errand is joined, a finished one repeated from the outbox. Waiting for a
side that does not answer ends at the order's expiry.
"""

from __future__ import annotations

import base64
import binascii
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import Final, Protocol, TypeVar

from pleura.client.agent.blobs import BlobCarrier
from pleura.client.agent.outbox import KeptAnswer, Outbox
from pleura.client.agent.trainer_link import Answer, NeedsBase, Unsigned
from pleura.client.errors import OrderRefusedUnsigned
from pleura.common import events
from pleura.common.canonical import parse_json, sha256_hex
from pleura.common.clock import Clock
from pleura.common.errors import EnvelopeMalformed, Unreachable

BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 5.0  # an outage costs little more than itself
T = TypeVar("T")


class Trainer(Protocol):
    """How an order is handed in, as `TrainerLink` offers it."""

    def submit(self, envelope: bytes) -> NeedsBase | Answer | Unsigned: ...


class Backoff:
    """Waiting times 0.2 s..5 s, doubled, with full jitter."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw, self._limit_s = draw, BACKOFF_FIRST_S

    def next_s(self) -> float:
        """Return how long to wait now."""
        wait_s, self._limit_s = self._draw() * self._limit_s, min(BACKOFF_MAX_S, self._limit_s * 2)
        return wait_s

    def reset(self) -> None:
        """Begin with short waits again."""
        self._limit_s = BACKOFF_FIRST_S


class Courier:
    """Runs errands; safe to share by threads."""

    def __init__(
        self,
        trainer: Trainer,
        carrier: BlobCarrier,
        outbox: Outbox,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._trainer, self._carrier, self._outbox = trainer, carrier, outbox
        self._clock, self._stop = clock, stop
        self._lock = threading.Lock()
        self._running: dict[str, Future[bytes]] = {}

    def answer(self, envelope: bytes) -> bytes:
        """Return the site's signed answer to an order, with its blob at the coordinator.

        Raises:
            OrderRefusedUnsigned: the trainer could not tie the order to the coordinator.
            Unreachable: trainer or coordinator did not answer until the order's expiry.
            Refused: the coordinator does not take the blob.
        """
        digest = sha256_hex(envelope)
        with self._lock:
            joined = self._running.get(digest)
            mine: Future[bytes] = joined or Future()
            self._running[digest] = mine
        if joined is not None:
            return joined.result()
        try:
            mine.set_result(self._carry(envelope, digest))
        except BaseException as exc:
            mine.set_exception(exc)
            raise
        finally:
            with self._lock:
                del self._running[digest]
        return mine.result()

    def acknowledge(self, envelope: bytes) -> None:
        """Note that the coordinator took the answer to this order."""
        self._outbox.mark(sha256_hex(envelope), "acknowledged", self._clock.now())

    def sweep(self) -> None:
        """Delete what was acknowledged long ago."""
        self._outbox.sweep(self._clock.now())

    def _carry(self, envelope: bytes, digest: str) -> bytes:
        expires = claimed_expiry(envelope)
        kept = self._outbox.get(digest)
        if kept is None:
            found = self._patiently(lambda: self._ask_trainer(envelope), expires)
            kept = self._outbox.put(
                digest, found.envelope, found.blob_sha256, found.blob_size, self._clock.now()
            )
        if kept.blob_sha256:
            self._patiently(lambda: self._send(kept), expires)
            self._outbox.mark(digest, "uploaded", self._clock.now())
        return kept.envelope

    def _send(self, kept: KeptAnswer) -> None:
        self._carrier.send_update(kept.blob_sha256, kept.blob_size)

    def _ask_trainer(self, envelope: bytes) -> Answer:
        while True:
            outcome = self._trainer.submit(envelope)
            if isinstance(outcome, Answer):
                return outcome
            if isinstance(outcome, Unsigned):
                raise OrderRefusedUnsigned(outcome.code)
            self._carrier.bring_base(outcome)

    def _patiently(self, errand: Callable[[], T], expires: datetime | None) -> T:
        """Run an errand until the other side answers or the order expires."""
        backoff, lost_at = Backoff(), None
        while True:
            try:
                result = errand()
            except Unreachable as exc:
                now = self._clock.now()
                if expires is None or now >= expires:
                    raise
                if lost_at is None:
                    lost_at = now
                    events.emit("connection.lost", process="agent", error=type(exc).__name__)
                if self._stop.wait(backoff.next_s()):
                    raise
                continue
            if lost_at is not None:
                seconds = (self._clock.now() - lost_at).total_seconds()
                events.emit("connection.restored", process="agent", seconds=seconds)
            return result


def claimed_expiry(envelope: bytes) -> datetime | None:
    """Return when an order says it expires, or None if it says nothing readable.

    The agent cannot verify orders; this only bounds how long it tries.
    """
    try:
        payload = base64.b64decode(parse_json(envelope)["payload"], validate=True)
        moment = datetime.fromisoformat(parse_json(payload)["predicate"]["expires_at"])
    except (EnvelopeMalformed, KeyError, TypeError, ValueError, binascii.Error):
        return None
    return moment if moment.tzinfo is not None else None
