"""Collecting: sends the orders of open rounds and takes in answers until they are decided.

The decisions are `rounds.decide` and `admission.admit`; this module carries them
out: push, pull, log, store. An admitted answer is in the statement log before it
is in the store, so a crash between the two repeats the step with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pleura.common import events
from pleura.common.blobs import BlobStore
from pleura.common.canonical import MAX_JSON_BYTES, sha256_hex
from pleura.common.clock import Clock
from pleura.common.errors import BlobMissing, DataFault, Refused
from pleura.common.ids import SiteId, short
from pleura.common.keys import SigningKey
from pleura.common.results import RefusalStatement, UpdateStatement
from pleura.common.tensors import PackedReader, TensorSchema
from pleura.server.admission import Admitted, Expectation, admit
from pleura.server.errors import RunStopped
from pleura.server.ledger.log import StatementLog
from pleura.server.rounds import (
    Answered,
    Node,
    Outcome,
    RoundView,
    Sending,
    SiteView,
    decide,
)
from pleura.server.runs import (
    ADMITTED,
    AnswerRecord,
    RoundKind,
    RoundRecord,
    RunState,
)
from pleura.server.store import RunStore
from pleura.server.transport import Parcel, Registry, Reply, SiteEntry, Transport

RESUME_GRACE_S: Final = 30.0  # a round whose deadline passed while we were down
REGISTRY_S: Final = 0.25
POLL_S: Final = 0.25  # if no bell is heard


@dataclass(frozen=True, slots=True)
class Office:
    """Everything the coordinator's work on runs needs; tests bring their own parts.

    `scratch` is a folder on the volume of the blobs. `checkpoint` is told the name of
    each step as it is reached. `sleep` may return early when answers came.
    """

    store: RunStore
    log: StatementLog
    blobs: BlobStore
    scratch: Path
    registry: Registry
    key: SigningKey
    transport: Transport
    clock: Clock
    sleep: Callable[[float], None] = time.sleep
    checkpoint: Callable[[str], None] = lambda _: None


class Collector:
    """Works on the open rounds of one run at a time."""

    def __init__(self, office: Office, records: Sequence[RoundRecord]) -> None:
        self._office = office
        self._open = {record.digest: record for record in records}
        self._outcomes: dict[str, Outcome] = {}
        self._sending: dict[tuple[str, SiteId], Sending] = {}
        self._answered: dict[tuple[str, SiteId], AnswerRecord] = {
            (record.digest, answer.site_id): answer
            for record in records
            for answer in office.store.answers(record.key)
        }
        self._schemas: dict[str, TensorSchema] = {}
        self._sites: Mapping[SiteId, SiteEntry] = {}
        self._read_at: datetime | None = None
        self._began = office.clock.now()

    def run(self) -> dict[str, Outcome]:
        """Return the outcome of each round by order digest, once all are decided.

        Raises:
            RunStopped: an operator stopped the run meanwhile.
        """
        while True:
            now = self._office.clock.now()
            self._refresh(now)
            for digest in [d for d in self._open if d not in self._outcomes]:
                self._decide(self._open[digest], now)
            if len(self._outcomes) == len(self._open):
                self._office.transport.forget(self._open)
                return dict(self._outcomes)
            replies = self._office.transport.pull()
            for reply in replies:
                self._take(reply)
            if not replies:
                self._office.sleep(POLL_S)

    def _refresh(self, now: datetime) -> None:
        if self._read_at is not None and now < self._read_at + timedelta(seconds=REGISTRY_S):
            return
        self._sites = {site.site_id: site for site in self._office.registry.all()}
        self._read_at = now
        for run_id in {record.key.run_id for record in self._open.values()}:
            if self._office.store.state_of(run_id) is RunState.STOPPED:
                raise RunStopped(run_id)

    def _decide(self, record: RoundRecord, now: datetime) -> None:
        plan = record.order.plan.fed
        grace = self._began + timedelta(seconds=min(RESUME_GRACE_S, plan.deadline_s))
        view = RoundView(
            attempt=record.key.attempt,
            deadline_at=max(record.deadline_at, grace),
            min_sites=plan.min_sites if record.key.kind is RoundKind.TRAIN else 0,
            sites=tuple(self._view(record, site_id) for site_id in record.sites),
        )
        decision = decide(view, now)
        if decision.outcome is not Outcome.WAIT:
            self._outcomes[record.digest] = decision.outcome
            return
        self._push(record, [s for s in view.sites if s.site_id in decision.push], now)

    def _view(self, record: RoundRecord, site_id: SiteId) -> SiteView:
        site, where = self._sites.get(site_id), (record.digest, site_id)
        node = None
        if site is not None and site.node_id is not None and site.state == "approved":
            node = Node(site.node_id, site.activated_at)
        answer = self._answered.get(where)
        return SiteView(
            site_id,
            _answered(answer),
            node,
            is_revoked=site is not None and site.state == "revoked",
            sending=self._sending.get(where, Sending()),
        )

    def _push(self, record: RoundRecord, sites: Sequence[SiteView], now: datetime) -> None:
        parcels = []
        for site in sites:
            if site.node is None:
                continue
            ttl = max(60.0, (record.deadline_at - now).total_seconds() + RESUME_GRACE_S)
            parcels.append(
                Parcel(
                    site.site_id,
                    site.node,
                    record.key.round,
                    record.key.kind,
                    record.envelope,
                    record.digest,
                    ttl,
                )
            )
        if not parcels:
            return
        self._office.transport.push(parcels)
        for parcel in parcels:
            where = (record.digest, parcel.site_id)
            before = self._sending.get(where, Sending())
            self._sending[where] = before.pushed(parcel.node, now)
            events.emit(
                "order.sent",
                run=record.key.run_id,
                round=record.key.round,
                site=parcel.site_id,
                attempt=record.key.attempt,
                digest=short(record.digest),
                kind=record.key.kind.value,
            )
        self._office.checkpoint("order.pushed")

    def _take(self, reply: Reply) -> None:
        record = self._open.get(reply.order_digest)
        if record is None or record.digest in self._outcomes or reply.site_id not in record.sites:
            return
        where = (record.digest, reply.site_id)
        now = self._office.clock.now()
        if reply.envelope is None:
            self._sending[where] = self._sending.get(where, Sending()).failed(now)
            return
        digest = sha256_hex(reply.envelope)
        decided = self._answered.get(where)
        if decided is not None and decided.digest == digest:
            return  # delivered twice
        events.emit(
            "update.received",
            run=record.key.run_id,
            round=record.key.round,
            site=reply.site_id,
            digest=short(digest),
            bytes=len(reply.envelope),
        )
        try:
            admitted = admit(
                reply.envelope, self._expectation(record, reply.site_id), self._office.blobs
            )
        except BlobMissing:
            self._sending[where] = self._sending.get(where, Sending()).failed(now)
            _say_refused(record, reply.site_id, digest, BlobMissing.code)
        except (Refused, DataFault) as exc:
            _say_refused(record, reply.site_id, digest, exc.code)
            if decided is None:
                self._record(record, reply.site_id, reply.envelope, exc.code, None, now)
        else:
            self._accept(record, reply.site_id, reply.envelope, admitted, now)

    def _accept(
        self,
        record: RoundRecord,
        site_id: SiteId,
        envelope: bytes,
        admitted: Admitted,
        now: datetime,
    ) -> None:
        statement = admitted.statement
        self._office.log.append(statement.kind, envelope)
        self._office.checkpoint("answer.logged")
        decision = statement.code if isinstance(statement, RefusalStatement) else ADMITTED
        self._record(record, site_id, envelope, decision, admitted, now)
        self._office.checkpoint("answer.stored")
        names = {"run": record.key.run_id, "site": site_id, "digest": short(admitted.digest)}
        if isinstance(statement, RefusalStatement):
            _say_refused(record, site_id, admitted.digest, statement.code)
        elif isinstance(statement, UpdateStatement):
            events.emit("update.admitted", round=record.key.round, **names)
        else:
            events.emit("evaluation.admitted", **names)

    def _record(
        self,
        record: RoundRecord,
        site_id: SiteId,
        envelope: bytes,
        decision: str,
        admitted: Admitted | None,
        now: datetime,
    ) -> None:
        answer = AnswerRecord(
            key=record.key,
            site_id=site_id,
            kind="unread" if admitted is None else admitted.statement.kind,
            envelope=envelope if len(envelope) <= MAX_JSON_BYTES else b"",
            digest=sha256_hex(envelope),
            decision=decision,
            statement=None if admitted is None else admitted.statement.model_dump_json(),
            received_at=now,
        )
        if self._office.store.record_answer(answer):
            self._answered[(record.digest, site_id)] = answer

    def _expectation(self, record: RoundRecord, site_id: SiteId) -> Expectation:
        site = self._sites.get(site_id)
        decided = self._answered.get((record.digest, site_id))
        base = record.order.base
        if base.schema_digest not in self._schemas:
            path = self._office.blobs.path(base.blob_sha256)
            self._schemas[base.schema_digest] = PackedReader(path).schema
        return Expectation(
            site_id=site_id,
            site_key=site.signing_key if site is not None and site.state == "approved" else None,
            order=record.order,
            order_digest=record.digest,
            base_schema=self._schemas[base.schema_digest],
            has_sent=lambda blob: self._office.registry.has_sent(blob, site_id),
            answered=None if decided is None else decided.digest,
        )


def _answered(answer: AnswerRecord | None) -> Answered:
    if answer is None:
        return Answered.NOTHING
    return Answered.ADMITTED if answer.is_admitted else Answered.REFUSED


def _say_refused(record: RoundRecord, site_id: SiteId, digest: str, code: str) -> None:
    is_update = record.key.kind is RoundKind.TRAIN
    events.emit(
        "update.refused" if is_update else "evaluation.refused",
        run=record.key.run_id,
        round=record.key.round,
        site=site_id,
        digest=short(digest),
        code=code,
    )
