"""Runs as values: a run, its rounds, the answers of sites and the models made.

A round is opened by an order. Training rounds aggregate; `test` and `external`
rounds collect evaluations and have no path into a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pleura.common.ids import RunId, SiteId
from pleura.common.orders import BlobRef, EvaluateOrder, Order, RunPlan, TrainOrder
from pleura.common.results import EvaluationStatement

ADMITTED = "admitted"


class RunState(StrEnum):
    """Where a run stands; the last three are final."""

    CREATED = "created"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        return self not in (RunState.CREATED, RunState.RUNNING)


class RoundKind(StrEnum):
    """What a round asks of sites."""

    TRAIN = "train"
    TEST = "test"
    EXTERNAL = "external"


class RoundState(StrEnum):
    """`closing`: the set of answers is fixed, the result is not committed yet."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RoundKey:
    """Names one attempt of one round."""

    run_id: RunId
    round: int
    kind: RoundKind
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """A run; `round` is the last completed training round, 0 before the first."""

    run_id: RunId
    plan: RunPlan
    plan_hash: str
    state: RunState
    round: int
    initial: BlobRef
    code: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One attempt of one round with the exact bytes of its order."""

    key: RoundKey
    order: Order
    envelope: bytes
    digest: str
    state: RoundState
    opened_at: datetime
    deadline_at: datetime
    closed_at: datetime | None
    code: str | None

    @property
    def sites(self) -> tuple[SiteId, ...]:
        """The sites this round asks, in byte order."""
        return sites_of(self.order)


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """What a site answered and what was decided: `admitted`, or a refusal's code.

    `statement` is the predicate's JSON of an admitted answer, else None.
    """

    key: RoundKey
    site_id: SiteId
    kind: str
    envelope: bytes
    digest: str
    decision: str
    statement: str | None
    received_at: datetime

    @property
    def is_admitted(self) -> bool:
        return self.decision == ADMITTED


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The global model after a round (0: the initial one) and the statement that made it."""

    round: int
    ref: BlobRef
    statement_digest: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An admitted evaluation: metrics of the model of `round` at one site."""

    round: int
    site_id: SiteId
    digest: str
    statement: EvaluationStatement


def sites_of(order: Order) -> tuple[SiteId, ...]:
    """Return the sites an order is for, in byte order."""
    plan = order.plan
    if isinstance(order, EvaluateOrder) and order.split == "external":
        return tuple(sorted(plan.external_sites))
    return tuple(sorted(plan.training_sites))


def kind_of(order: Order) -> RoundKind:
    """Return the kind of round an order opens."""
    return RoundKind.TRAIN if isinstance(order, TrainOrder) else RoundKind(order.split)


def is_evaluation_due(plan: RunPlan, round_: int) -> bool:
    """Say whether the model of `round_` is evaluated: the last, and every n-th if asked."""
    return plan.is_evaluation_due(round_)
