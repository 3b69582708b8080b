"""The run loop: rounds in order, evaluations when due, then the end; resumable at any step.

Nothing is remembered outside the store, the log and the blob folder. Each step is
either finished there or repeated: orders are stored before they are sent and are
sent again with the same bytes; aggregates are a function of the frozen answers; a
statement signed twice is the same statement. So a process killed anywhere costs at
most the step it was in, and the final model has the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pleura.common import events
from pleura.common.canonical import sha256_hex
from pleura.common.errors import DataFault, PleuraError, Refused
from pleura.common.ids import RunId, new_nonce, short
from pleura.common.orders import EvaluateOrder, Order, TrainOrder
from pleura.common.results import UpdateStatement
from pleura.common.statements import Subject, sign_statement
from pleura.server.aggregation.mean import WeightedUpdate, aggregate
from pleura.server.collecting import Collector, Office
from pleura.server.errors import RunStopped, RunUnknown, TooFewSites
from pleura.server.rounds import MAX_ATTEMPTS
from pleura.server.runs import (
    AnswerRecord,
    ModelRecord,
    RoundKind,
    RoundRecord,
    RoundState,
    Run,
    RunState,
    is_evaluation_due,
)
from pleura.server.statements import (
    AggregateInput,
    AggregateStatement,
    DropoutStatement,
    sign_closing,
)

ABSENT: Final = "ABSENT"


class RunLoop:
    """Works on one run until it has ended; the caller holds the run's lease."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def work(self, run_id: RunId) -> RunState:
        """Carry a run on from wherever it stands and return its final state.

        A named refusal or data fault ends the run as failed with its code and keeps
        the last model; a fault of this host is raised and the run stays resumable.

        Raises:
            RunUnknown: there is no such run.
            HostFault: disk or database; the run can be continued later.
        """
        run = self._office.store.get(run_id)
        if run.state.is_final:
            return run.state
        self._announce(run)
        try:
            self._rounds(run)
        except RunStopped:
            events.emit("run.stopped", run=run_id, round=self._round_of(run_id))
            return RunState.STOPPED
        except (Refused, DataFault) as exc:
            return self._end(run, RunState.FAILED, exc)
        return self._end(run, RunState.FINISHED, None)

    def _announce(self, run: Run) -> None:
        store = self._office.store
        if run.state is RunState.CREATED:
            store.set_state(run.run_id, RunState.RUNNING, self._now())
            events.emit("run.started", run=run.run_id, round=1)
        else:
            events.emit("run.resumed", run=run.run_id, round=run.round + 1)
        self._office.checkpoint("run.started")
        model = self._model(run, run.round)
        self._office.blobs.open_verified(model.ref.blob_sha256).close()

    def _rounds(self, run: Run) -> None:
        for round_ in range(max(run.round, 1), run.plan.fed.rounds + 1):
            if self._office.store.model(run.run_id, round_) is None:
                self._train(run, round_)
            if is_evaluation_due(run.plan, round_):
                self._evaluate(run, round_)

    # training

    def _train(self, run: Run, round_: int) -> None:
        while True:
            record = self._opened(run, round_, RoundKind.TRAIN)
            if record.state is RoundState.OPEN:
                Collector(self._office, [record]).run()
                self._office.checkpoint("round.decided")
                self._office.store.freeze_answers(record.key)
            self._office.checkpoint("round.frozen")
            admitted = [a for a in self._office.store.answers(record.key) if a.is_admitted]
            if len(admitted) >= run.plan.fed.min_sites:
                self._aggregate(run, record, admitted)
                return
            self._give_up(record)

    def _give_up(self, record: RoundRecord) -> None:
        self._log_dropouts(record)
        self._office.store.end_round(record.key, self._now(), TooFewSites.code)
        events.emit(
            "round.failed",
            run=record.key.run_id,
            round=record.key.round,
            code=TooFewSites.code,
            count=record.key.attempt,
        )

    def _aggregate(self, run: Run, record: RoundRecord, admitted: Sequence[AnswerRecord]) -> None:
        office, order = self._office, record.order
        inputs, updates = [], []
        for answer in admitted:
            statement = UpdateStatement.model_validate_json(answer.statement or "")
            weight = run.plan.weight_of(answer.site_id)
            path = office.blobs.path(statement.update.blob_sha256)
            updates.append(WeightedUpdate(answer.site_id, path, weight))
            inputs.append(
                AggregateInput(
                    site_id=answer.site_id,
                    statement_digest=answer.digest,
                    update_digest=statement.update.tensor_digest,
                    weight=weight,
                )
            )
        base = office.blobs.path(order.base.blob_sha256)
        out = office.scratch / f"{run.run_id}-{order.round}.model"
        ref = aggregate(base, updates, run.plan.fed.server_lr, out)
        office.checkpoint("aggregate.written")
        office.blobs.adopt(out, ref.blob_sha256)
        office.checkpoint("aggregate.adopted")
        envelope = sign_statement(
            AggregateStatement(
                federation_id=order.federation_id,
                run_id=run.run_id,
                round=order.round,
                attempt=order.attempt,
                plan_hash=run.plan_hash,
                order_digest=record.digest,
                server_lr=run.plan.fed.server_lr,
                base=order.base,
                inputs=tuple(inputs),
                output=ref,
            ),
            [Subject("model", ref.tensor_digest), Subject("blob", ref.blob_sha256)],
            office.key,
        )
        self._log_dropouts(record)
        office.log.append("aggregate", envelope)
        office.checkpoint("aggregate.logged")
        now = self._now()
        model = ModelRecord(order.round, ref, sha256_hex(envelope))
        office.store.commit_model(record.key, model, now)
        office.checkpoint("model.committed")
        self._say_closed(record, ref.blob_sha256, len(admitted), now)

    # evaluation

    def _evaluate(self, run: Run, round_: int) -> None:
        kinds = [RoundKind.TEST] + ([RoundKind.EXTERNAL] if run.plan.external_sites else [])
        records = [self._opened(run, round_, kind) for kind in kinds]
        records = [record for record in records if record.state is RoundState.OPEN]
        if not records:
            return
        Collector(self._office, records).run()
        for record in records:
            self._office.store.freeze_answers(record.key)
            self._log_dropouts(record)
            now = self._now()
            self._office.store.end_round(record.key, now)
            self._office.checkpoint("evaluation.closed")
            count = sum(a.is_admitted for a in self._office.store.answers(record.key))
            self._say_closed(record, record.order.base.blob_sha256, count, now)

    # orders

    def _opened(self, run: Run, round_: int, kind: RoundKind) -> RoundRecord:
        """Return the round as it stands, or open it (again) with a new signed order."""
        last = self._office.store.latest_round(run.run_id, round_, kind)
        if last is not None and last.state is not RoundState.FAILED:
            self._office.log.append("order", last.envelope)
            return self._closing_evaluation_reopened(last)
        attempt = 1 if last is None else last.key.attempt + 1
        if attempt > MAX_ATTEMPTS:
            raise TooFewSites(f"round {round_}, {MAX_ATTEMPTS} attempts")
        order = self._order(run, round_, kind, attempt)
        envelope = sign_statement(
            order, [Subject("base", order.base.tensor_digest)], self._office.key
        )
        record = self._office.store.open_round(order, envelope, order.issued_at)
        self._office.checkpoint("order.stored")
        self._office.log.append("order", envelope)
        self._office.checkpoint("order.logged")
        events.emit(
            "round.opened",
            run=run.run_id,
            round=round_,
            digest=short(record.digest),
            count=len(record.sites),
        )
        return record

    def _closing_evaluation_reopened(self, record: RoundRecord) -> RoundRecord:
        """Finish an evaluation whose answers were frozen before a crash."""
        if record.key.kind is RoundKind.TRAIN or record.state is not RoundState.CLOSING:
            return record
        self._log_dropouts(record)
        self._office.store.end_round(record.key, self._now())
        return record

    def _order(self, run: Run, round_: int, kind: RoundKind, attempt: int) -> Order:
        issued = self._now()
        is_training = kind is RoundKind.TRAIN
        common: dict[str, object] = {
            "federation_id": run.plan.federation_id,
            "run_id": run.run_id,
            "round": round_,
            "attempt": attempt,
            "plan": run.plan,
            "plan_hash": run.plan_hash,
            "base": self._model(run, round_ - 1 if is_training else round_).ref,
            "nonce": new_nonce(),
            "issued_at": issued,
            "expires_at": issued + timedelta(seconds=run.plan.fed.deadline_s),
        }
        if is_training:
            return TrainOrder.model_validate(common)
        return EvaluateOrder.model_validate({**common, "split": kind.value})

    # the log

    def _log_dropouts(self, record: RoundRecord) -> None:
        """Log, for each site that does not count in a round, why; the same bytes each time."""
        answers = {a.site_id: a for a in self._office.store.answers(record.key)}
        for site_id in record.sites:
            answer = answers.get(site_id)
            if answer is not None and answer.is_admitted:
                continue
            code = ABSENT if answer is None else answer.decision
            dropout = DropoutStatement(
                federation_id=record.order.federation_id,
                run_id=record.key.run_id,
                round=record.key.round,
                attempt=record.key.attempt,
                stage=record.key.kind.value,
                order_digest=record.digest,
                site_id=site_id,
                code=code,
                answer_digest=None if answer is None else answer.digest,
            )
            self._office.log.append("dropout", sign_statement(dropout, [], self._office.key))
            events.emit(
                "site.absent",
                run=record.key.run_id,
                round=record.key.round,
                site=site_id,
                code=code,
            )

    def _end(self, run: Run, state: RunState, cause: PleuraError | None) -> RunState:
        round_ = self._round_of(run.run_id)
        code = None if cause is None else cause.code
        model = self._model(run, round_)
        closing = sign_closing(run, state, code, model, self._office.key)
        self._office.log.append("closing", closing)
        self._office.checkpoint("run.logged")
        if not self._office.store.set_state(run.run_id, state, self._now(), code):
            return self._office.store.state_of(run.run_id)
        if cause is None:
            digest = short(model.ref.blob_sha256)
            events.emit(
                "run.finished", run=run.run_id, round=round_, digest=digest, state=state.value
            )
        else:
            events.emit("run.failed", run=run.run_id, round=round_, code=cause.code)
        return state

    def _say_closed(self, record: RoundRecord, blob: str, count: int, now: datetime) -> None:
        events.emit(
            "round.closed",
            run=record.key.run_id,
            round=record.key.round,
            digest=short(blob),
            count=count,
            seconds=(now - record.opened_at).total_seconds(),
        )

    # small things

    def _model(self, run: Run, round_: int) -> ModelRecord:
        model = self._office.store.model(run.run_id, round_)
        if model is None:
            raise RunUnknown(f"{run.run_id} has no model of round {round_}")
        return model

    def _round_of(self, run_id: RunId) -> int:
        return self._office.store.get(run_id).round

    def _now(self) -> datetime:
        now = self._office.clock.now().astimezone(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)
