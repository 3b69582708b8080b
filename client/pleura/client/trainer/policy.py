"""Policy: decides whether a signed order may run at this site. Pure.

An order runs only if every rule below holds; the first that does not is raised
as its own named error. Nothing here reads a clock, a file or a pixel: the time,
the site's rules and what it took before come in as arguments. The cohort and
the privacy budget have their own gates afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from pleura.client.errors import (
    AttemptsExhausted,
    BaseChanged,
    CohortTooSmall,
    EvaluationNotDue,
    NonPrivateRefused,
    OrderConflict,
    OrderExpired,
    OrderFromFuture,
    PlanChanged,
    PrivacyCapExceeded,
    RoleRefused,
    RoundBeyondPlan,
    RoundRolledBack,
    TaskNotAllowed,
    WrongFederation,
)
from pleura.client.settings import PolicySection
from pleura.common.errors import StatementMalformed
from pleura.common.ids import FederationId, KeyId, SiteId
from pleura.common.keys import VerifyKey
from pleura.common.orders import EvaluateOrder, Order, TrainOrder
from pleura.common.statements import open_statement, predicate_type, statement_kind

CLOCK_TOLERANCE: Final = timedelta(seconds=240)


@dataclass(frozen=True, slots=True)
class SiteRules:
    """Who this site is and what its steward allows."""

    site_id: SiteId
    federation_id: FederationId
    policy: PolicySection


@dataclass(frozen=True, slots=True)
class OpenedOrder:
    """An order whose signature was verified; `digest` is the SHA-256 of its envelope."""

    order: Order
    digest: str


@dataclass(frozen=True, slots=True)
class TakenOrder:
    """An order of the same run this site accepted before."""

    order_digest: str
    plan_hash: str
    kind: Literal["train", "evaluate"]
    split: Literal["train", "test", "external"]
    round: int
    attempt: int
    base_digest: str
    is_answered: bool


@dataclass(frozen=True, slots=True)
class RunHistory:
    """What this site took of one run, oldest first."""

    taken: tuple[TakenOrder, ...] = ()

    @property
    def last_answered_round(self) -> int:
        """The highest training round this site has answered; 0 before the first."""
        return max((t.round for t in self.taken if t.kind == "train" and t.is_answered), default=0)


def split_of_order(order: Order) -> Literal["train", "test", "external"]:
    """Return which split of the site's data the order uses."""
    return "train" if isinstance(order, TrainOrder) else order.split


def open_order(envelope: bytes, keys: Mapping[KeyId, VerifyKey]) -> OpenedOrder:
    """Verify an envelope under the pinned coordinator key and return its order.

    Raises:
        EnvelopeMalformed, KeyUnknown, SignatureRejected: see `open_envelope`.
        StatementMalformed: not an order, an unknown field, a bad value, a time without zone,
            or subjects other than its base model.
    """
    kind = statement_kind(envelope, keys)
    expect: type[TrainOrder] | type[EvaluateOrder] = (
        EvaluateOrder if kind == predicate_type(EvaluateOrder) else TrainOrder
    )
    opened = open_statement(envelope, keys, expect)
    order: Order = opened.predicate
    if order.issued_at.tzinfo is None or order.expires_at.tzinfo is None:
        raise StatementMalformed("a time has no zone")
    if any(
        subject.sha256 not in (order.base.blob_sha256, order.base.tensor_digest, order.plan_hash)
        for subject in opened.subjects
    ):
        raise StatementMalformed("a subject is neither the base model nor the plan")
    return OpenedOrder(order, opened.digest)


def check_order(
    opened: OpenedOrder, *, rules: SiteRules, history: RunHistory, now: datetime
) -> None:
    """Return if the order may run here now.

    Raises:
        WrongFederation: another federation, or this site is not in the plan.
        OrderExpired, OrderFromFuture: outside its time, 240 s of clock error allowed.
        PlanChanged: the run began here with another plan.
        TaskNotAllowed, NonPrivateRefused, PrivacyCapExceeded, AttemptsExhausted: site policy.
        RoleRefused: training and external validation are separate roles of a plan.
        RoundBeyondPlan, EvaluationNotDue, RoundRolledBack, BaseChanged, OrderConflict: out
            of sequence.
    """
    order = opened.order
    _check_membership(order, rules)
    _check_time(order, now)
    _check_role(order, rules.site_id)
    _check_policy(order, rules.policy)
    _check_sequence(opened, history)
    if isinstance(order, TrainOrder) and order.plan.privacy.mode == "dp":
        _check_attempts(opened, history, rules.policy.max_attempts)


def check_cohort(patients: int, policy: PolicySection) -> None:
    """Return if a cohort of this size may be used.

    Raises:
        CohortTooSmall: fewer patients than the site's minimum.
    """
    if patients < policy.min_patients:
        raise CohortTooSmall(f"the policy asks for {policy.min_patients}")


def _check_membership(order: Order, rules: SiteRules) -> None:
    if order.federation_id != rules.federation_id:
        raise WrongFederation("federation")
    if rules.site_id not in order.plan.training_sites + order.plan.external_sites:
        raise WrongFederation("this site is not in the plan")


def _check_time(order: Order, now: datetime) -> None:
    if order.issued_at > now + CLOCK_TOLERANCE:
        raise OrderFromFuture(f"round {order.round}")
    if order.expires_at + CLOCK_TOLERANCE < now:
        raise OrderExpired(f"round {order.round}")


def _check_role(order: Order, site: SiteId) -> None:
    externally = split_of_order(order) == "external"
    allowed = order.plan.external_sites if externally else order.plan.training_sites
    if site not in allowed:
        raise RoleRefused("an external site never trains" if not externally else "a training site")


def _check_policy(order: Order, policy: PolicySection) -> None:
    plan = order.plan
    if plan.task.name not in policy.tasks:
        raise TaskNotAllowed(plan.task.name)
    if not isinstance(order, TrainOrder):
        return  # an evaluation computes no gradient and releases no update
    if plan.privacy.mode == "none":
        if not policy.allow_non_dp:
            raise NonPrivateRefused("mode none")
        return
    if plan.privacy.epsilon > policy.epsilon_cap:
        raise PrivacyCapExceeded(f"epsilon above {policy.epsilon_cap}")
    if plan.privacy.delta > policy.delta:
        raise PrivacyCapExceeded(f"delta above {policy.delta}")


def _check_sequence(opened: OpenedOrder, history: RunHistory) -> None:
    order = opened.order
    if any(taken.plan_hash != order.plan_hash for taken in history.taken):
        raise PlanChanged(f"round {order.round}")
    if order.round > order.plan.fed.rounds:
        raise RoundBeyondPlan(f"round {order.round} of {order.plan.fed.rounds}")
    if isinstance(order, EvaluateOrder) and not order.plan.is_evaluation_due(order.round):
        raise EvaluationNotDue(f"round {order.round}")  # each answer tells of the patients
    if isinstance(order, TrainOrder) and order.round < history.last_answered_round:
        raise RoundRolledBack(f"round {order.round} after {history.last_answered_round}")
    for taken in _same_round(opened, history):
        if taken.base_digest != order.base.tensor_digest:
            raise BaseChanged(f"round {order.round}")
        if taken.attempt == order.attempt and taken.order_digest != opened.digest:
            raise OrderConflict(f"round {order.round}, attempt {order.attempt}")


def _check_attempts(opened: OpenedOrder, history: RunHistory, allowed: int) -> None:
    before = {t.order_digest for t in _same_round(opened, history)} - {opened.digest}
    if len(before) >= allowed:
        raise AttemptsExhausted(f"round {opened.order.round}")


def _same_round(opened: OpenedOrder, history: RunHistory) -> tuple[TakenOrder, ...]:
    order, split = opened.order, split_of_order(opened.order)
    return tuple(
        t
        for t in history.taken
        if t.kind == order.kind and t.split == split and t.round == order.round
    )
