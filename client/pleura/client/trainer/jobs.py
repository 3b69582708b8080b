"""Jobs: one order at a time, each answered once and for ever.

An order is known by the digest of its envelope. Submitted again while it runs,
it is joined; submitted again later, the stored answer is repeated byte for byte.
A refusal is an answer too. Only orders that cannot be tied to the coordinator
get an unsigned code, because there is nothing to bind a signature to.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from pleura.client.errors import BlobNotWanted
from pleura.client.trainer.answers import Signer
from pleura.client.trainer.archive import Archive, StoredAnswer
from pleura.client.trainer.policy import OpenedOrder, SiteRules, check_order, open_order
from pleura.common import events
from pleura.common.blobs import BlobStore
from pleura.common.clock import Clock
from pleura.common.errors import PleuraError
from pleura.common.ids import KeyId, short
from pleura.common.keys import VerifyKey

INTERNAL: Final = "INTERNAL"
STOPPING: Final = "STOPPING"
_HEARTBEAT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Accepted:
    digest: str


@dataclass(frozen=True, slots=True)
class NeedsBase:
    """The order may run; its base model must be brought first, from `have` on."""

    sha256: str
    size: int
    have: int


@dataclass(frozen=True, slots=True)
class Progressed:
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Answered:
    answer: StoredAnswer


@dataclass(frozen=True, slots=True)
class RefusedUnsigned:
    code: str


JobEvent = Accepted | NeedsBase | Progressed | Answered | RefusedUnsigned
Outcome = Answered | RefusedUnsigned


class Progress(Protocol):
    def __call__(self, done: int, total: int, /) -> None: ...


class Work(Protocol):
    """What a job does with data; the queue knows nothing of it."""

    def check(self, opened: OpenedOrder) -> None:
        """Raise unless this site has the cohort the order needs."""
        ...

    def run(self, opened: OpenedOrder, progress: Progress) -> StoredAnswer:
        """Do the order and return its durable answer."""
        ...


class _Job:
    """One running order and everyone who waits for it."""

    def __init__(self, opened: OpenedOrder) -> None:
        self.opened = opened
        self._changed = threading.Condition()
        self._progress = Progressed(0, 0)
        self._outcome: Outcome | None = None

    def progress(self, done: int, total: int) -> None:
        with self._changed:
            self._progress = Progressed(done, total)
            self._changed.notify_all()

    def finish(self, outcome: Outcome) -> None:
        with self._changed:
            self._outcome = outcome
            self._changed.notify_all()

    def follow(self) -> Iterator[JobEvent]:
        """Yield progress, repeated as a heartbeat, and the outcome last."""
        seen: Progressed | None = None
        while True:
            with self._changed:
                if self._outcome is None and self._progress == seen:
                    self._changed.wait(_HEARTBEAT_S)
                outcome, seen = self._outcome, self._progress
            yield outcome if outcome is not None else seen
            if outcome is not None:
                return


class Jobs:
    """The trainer's queue; `start` begins work, `submit` may be called from any thread."""

    def __init__(
        self,
        *,
        keys: Mapping[KeyId, VerifyKey],
        rules: SiteRules,
        archive: Archive,
        blobs: BlobStore,
        work: Work,
        signer: Signer,
        clock: Clock,
    ) -> None:
        self._keys, self._rules, self._archive = keys, rules, archive
        self._blobs, self._work, self._signer, self._clock = blobs, work, signer, clock
        self._lock = threading.Lock()
        self._active: dict[str, _Job] = {}
        self._wanted: dict[str, int] = {}  # base blobs accepted orders wait for -> size
        self._queue: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._is_stopping = False

    def start(self) -> None:
        """Start the one worker; it ends with the process."""
        threading.Thread(target=self._work_forever, name="trainer-job", daemon=True).start()

    def stop(self) -> None:
        """Make nothing final any more: what still runs is done again after the next start."""
        self._is_stopping = True

    @property
    def waiting(self) -> int:
        """How many orders are running or waiting."""
        return len(self._active)

    def submit(self, envelope: bytes) -> Iterator[JobEvent]:
        """Yield what becomes of an order; see the module text for repeats."""
        try:
            opened = open_order(envelope, self._keys)
        except PleuraError as exc:
            events.emit("order.refused", code=exc.code)
            yield RefusedUnsigned(exc.code)
            return
        yield Accepted(opened.digest)
        try:
            found = self._find_or_begin(opened)
        except PleuraError as exc:  # not even a refusal could be made durable
            events.emit("order.refused", **_who(opened, self._rules), code=exc.code)
            yield RefusedUnsigned(exc.code)
            return
        if isinstance(found, _Job):
            yield from found.follow()
        else:
            yield found

    def wants(self, sha256: str) -> int:
        """Return the size of a base blob some accepted order waits for.

        Raises:
            BlobNotWanted: no order does.
        """
        with self._lock:
            if sha256 not in self._wanted:
                raise BlobNotWanted("no accepted order names this object")
            return self._wanted[sha256]

    def _find_or_begin(self, opened: OpenedOrder) -> _Job | Answered | NeedsBase:
        with self._lock:
            job = self._active.get(opened.digest)
            if job is not None:
                return job
            answer = self._archive.answer(opened)
            if answer is not None:
                return Answered(answer)
            try:
                self._admit(opened)
            except PleuraError as exc:
                return Answered(self._refuse(opened, exc.code))
            base = opened.order.base
            if not self._blobs.has(base.blob_sha256):
                self._wanted[base.blob_sha256] = base.size_bytes
                have = self._blobs.partial_size(base.blob_sha256)
                return NeedsBase(base.blob_sha256, base.size_bytes, have)
            self._wanted.pop(base.blob_sha256, None)
            self._blobs.path(base.blob_sha256).touch()  # newest: not dropped while it waits
            job = _Job(opened)
            self._active[opened.digest] = job
            self._queue.put(job)
            return job

    def _admit(self, opened: OpenedOrder) -> None:
        now = self._clock.now()
        history = self._archive.history(opened.order.run_id)
        check_order(opened, rules=self._rules, history=history, now=now)
        self._work.check(opened)
        self._archive.take(opened, now)
        events.emit(
            "order.received", **_who(opened, self._rules), digest=short(opened.digest),
            kind=opened.order.kind, attempt=opened.order.attempt,
        )  # fmt: skip

    def _refuse(self, opened: OpenedOrder, code: str) -> StoredAnswer:
        envelope = self._signer.refusal(opened, code, self._clock.now())
        answer = self._archive.store(opened, envelope, None)
        events.emit("order.refused", **_who(opened, self._rules), code=code)
        return answer

    def _work_forever(self) -> None:
        while True:
            job = self._queue.get()
            outcome = self._outcome(job)
            with self._lock:
                del self._active[job.opened.digest]
            job.finish(outcome)

    def _outcome(self, job: _Job) -> Outcome:
        who = _who(job.opened, self._rules) | {"kind": job.opened.order.kind}
        try:
            return Answered(self._work.run(job.opened, job.progress))
        except PleuraError as exc:
            code, error = exc.code, type(exc).__name__
        except Exception as exc:  # noqa: BLE001 - the worker's top loop: one job must not end it
            code, error = INTERNAL, type(exc).__name__
        events.emit("job.failed", **who, code=code, error=error)
        if self._is_stopping:
            return RefusedUnsigned(STOPPING)
        try:
            return Answered(self._refuse(job.opened, code))
        except PleuraError as exc:
            return RefusedUnsigned(exc.code)


def _who(opened: OpenedOrder, rules: SiteRules) -> dict[str, object]:
    return {"run": opened.order.run_id, "round": opened.order.round, "site": rules.site_id}
