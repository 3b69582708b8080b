"""Policy of the trainer: each refusal by name, and beside it the order that is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

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
from pleura.client.trainer.policy import (
    OpenedOrder,
    RunHistory,
    SiteRules,
    TakenOrder,
    check_cohort,
    check_order,
    open_order,
)
from pleura.common.errors import (
    EnvelopeMalformed,
    KeyUnknown,
    PleuraError,
    SignatureRejected,
    StatementMalformed,
)
from pleura.common.ids import FederationId, SiteId
from pleura.common.keys import SigningKey
from pleura.common.orders import BlobRef, EvaluateOrder, Order, TrainOrder
from pleura.common.results import RefusalStatement
from pleura.common.statements import Subject, sign_statement
from tests.builders.training import NOW, evaluate_order, run_plan, train_order

BASE = BlobRef(blob_sha256="a" * 64, size_bytes=10, tensor_digest="b" * 64, schema_digest="c" * 64)
DP = {"mode": "dp", "epsilon": Decimal("4"), "delta": Decimal("1e-5"), "sigma": Decimal("2")}
KEY = SigningKey.from_seed(b"\1" * 32)
KEYS = {KEY.public.key_id: KEY.public}


def rules(site: str = "north", federation: str = "lungs", **policy: Any) -> SiteRules:
    allowed = {"tasks": ("ct_nodule_malignancy",), "allow_non_dp": True} | policy
    return SiteRules(SiteId(site), FederationId(federation), PolicySection(**allowed))


def order(*, number: int = 1, **plan: Any) -> TrainOrder:
    return train_order(run_plan(**plan), BASE, number=number)


def check(
    given: Order,
    *,
    by: SiteRules | None = None,
    history: RunHistory = RunHistory(),
    now: datetime = NOW,
    digest: str = "d" * 64,
) -> None:
    check_order(OpenedOrder(given, digest), rules=by or rules(), history=history, now=now)


def taken(given: Order, *, answered: bool = True, digest: str = "e" * 64) -> TakenOrder:
    is_train = isinstance(given, TrainOrder)
    return TakenOrder(
        order_digest=digest,
        plan_hash=given.plan_hash,
        kind=given.kind,
        split="train" if is_train else given.split,
        round=given.round,
        attempt=given.attempt,
        base_digest=given.base.tensor_digest,
        is_answered=answered,
    )


def test_an_order_that_keeps_every_rule_is_allowed() -> None:
    check(order())
    check(order(privacy=DP))
    check(evaluate_order(run_plan(), BASE))
    plan = run_plan(external_sites=("coast",))
    check(evaluate_order(plan, BASE, split="external"), by=rules("coast"))


def not_due(round_: int, every: int = 2) -> Order:
    plan = run_plan(evaluation={"every_rounds": every})
    return evaluate_order(plan, BASE).model_copy(update={"round": round_})


def test_an_evaluation_is_done_in_the_rounds_of_the_plan() -> None:
    for round_ in (2, 4, 5):
        check(not_due(round_))


REFUSALS: list[tuple[str, type[PleuraError], Callable[[], None]]] = [
    ("another federation", WrongFederation, lambda: check(order(), by=rules(federation="hearts"))),
    ("a site not in the plan", WrongFederation, lambda: check(order(), by=rules("south"))),
    ("task not allowed", TaskNotAllowed, lambda: check(order(), by=rules(tasks=()))),
    (
        "no privacy although the site asks for it",
        NonPrivateRefused,
        lambda: check(order(), by=rules(allow_non_dp=False)),
    ),
    (
        "epsilon above the cap",
        PrivacyCapExceeded,
        lambda: check(order(privacy=DP), by=rules(epsilon_cap=Decimal("3.9"))),
    ),
    (
        "delta above the cap",
        PrivacyCapExceeded,
        lambda: check(order(privacy=DP), by=rules(delta=Decimal("1e-6"))),
    ),
    (
        "training at an external site",
        RoleRefused,
        lambda: check(order(external_sites=("coast",)), by=rules("coast")),
    ),
    (
        "external validation at a training site",
        RoleRefused,
        lambda: check(evaluate_order(run_plan(), BASE, split="external")),
    ),
    (
        "held-out validation at an external site",
        RoleRefused,
        lambda: check(evaluate_order(run_plan(external_sites=("coast",)), BASE), by=rules("coast")),
    ),
    (
        "an evaluation the plan does not have",
        EvaluationNotDue,
        lambda: check(not_due(1)),
    ),
    ("an evaluation of the initial model", EvaluationNotDue, lambda: check(not_due(0))),
    ("a round the plan has not", RoundBeyondPlan, lambda: check(order(number=6))),
    (
        "a changed plan",
        PlanChanged,
        lambda: check(order(number=2, seed=8), history=RunHistory((taken(order()),))),
    ),
    (
        "an earlier round",
        RoundRolledBack,
        lambda: check(order(), history=RunHistory((taken(order(number=2)),))),
    ),
    (
        "another base for the same round",
        BaseChanged,
        lambda: check(
            order().model_copy(
                update={"attempt": 2, "base": BASE.model_copy(update={"tensor_digest": "f" * 64})}
            ),
            history=RunHistory((taken(order()),)),
        ),
    ),
    (
        "another order for the same attempt",
        OrderConflict,
        lambda: check(order(), history=RunHistory((taken(order()),))),
    ),
    (
        "a third attempt at a private round",
        AttemptsExhausted,
        lambda: check(
            order(privacy=DP).model_copy(update={"attempt": 3}),
            history=RunHistory(
                (
                    taken(order(privacy=DP), digest="1" * 64),
                    taken(order(privacy=DP).model_copy(update={"attempt": 2}), digest="2" * 64),
                )
            ),
        ),
    ),
]


@pytest.mark.parametrize(("cause", "error", "attempt"), REFUSALS, ids=[r[0] for r in REFUSALS])
def test_an_order_is_refused_by_name(
    cause: str, error: type[PleuraError], attempt: Callable[[], None]
) -> None:
    with pytest.raises(error) as caught:
        attempt()
    assert type(caught.value) is error, cause


def test_every_refusal_has_its_own_code() -> None:
    classes = {error for _, error, _ in REFUSALS} | {OrderExpired, OrderFromFuture, CohortTooSmall}
    assert len({error.code for error in classes}) == len(classes)


@pytest.mark.parametrize(("late_s", "error"), [(240, None), (241, OrderExpired)])
def test_expiry_allows_240_seconds_of_clock_error(
    late_s: int, error: type[PleuraError] | None
) -> None:
    given = order()
    now = given.expires_at + timedelta(seconds=late_s)
    if error is None:
        check(given, now=now)
        return
    with pytest.raises(error):
        check(given, now=now)


@pytest.mark.parametrize(("early_s", "error"), [(240, None), (241, OrderFromFuture)])
def test_an_order_from_the_future_is_refused_beyond_240_seconds(
    early_s: int, error: type[PleuraError] | None
) -> None:
    given = order()
    now = given.issued_at - timedelta(seconds=early_s)
    if error is None:
        check(given, now=now)
        return
    with pytest.raises(error):
        check(given, now=now)


def test_the_same_round_may_be_tried_again_and_the_next_may_follow() -> None:
    history = RunHistory((taken(order()),))
    check(order().model_copy(update={"attempt": 2}), history=history)
    check(order(number=2), history=history)


def test_an_unanswered_later_round_does_not_block_an_earlier_one() -> None:
    check(order(), history=RunHistory((taken(order(number=2), answered=False),)))


def test_the_very_same_order_is_not_a_conflict_with_itself() -> None:
    history = RunHistory((taken(order(), answered=False, digest="d" * 64),))
    check(order(), history=history, digest="d" * 64)


def test_an_evaluation_needs_no_permission_to_train_without_privacy() -> None:
    check(evaluate_order(run_plan(), BASE), by=rules(allow_non_dp=False))


def test_a_second_attempt_at_a_private_round_is_allowed() -> None:
    first = order(privacy=DP)
    check(first.model_copy(update={"attempt": 2}), history=RunHistory((taken(first),)))


@pytest.mark.parametrize("patients", [0, 19])
def test_a_cohort_below_the_minimum_is_refused(patients: int) -> None:
    with pytest.raises(CohortTooSmall):
        check_cohort(patients, PolicySection())


def test_a_cohort_of_the_minimum_is_allowed() -> None:
    check_cohort(20, PolicySection())


# --- opening -----------------------------------------------------------------------


def envelope(given: Order, key: SigningKey = KEY, subjects: tuple[Subject, ...] = ()) -> bytes:
    return sign_statement(given, subjects or (Subject("base", BASE.tensor_digest),), key)


def test_a_signed_order_opens_as_what_it_is() -> None:
    assert isinstance(open_order(envelope(order()), KEYS).order, TrainOrder)
    evaluation = evaluate_order(run_plan(), BASE)
    assert isinstance(open_order(envelope(evaluation), KEYS).order, EvaluateOrder)


def test_an_order_of_another_key_is_refused() -> None:
    with pytest.raises(KeyUnknown):
        open_order(envelope(order(), SigningKey.generate()), KEYS)


def test_an_order_claiming_the_pinned_key_but_signed_by_another_is_refused() -> None:
    forger = SigningKey.generate()
    forged = envelope(order(), forger).replace(
        forger.public.key_id.encode(), KEY.public.key_id.encode()
    )
    with pytest.raises(SignatureRejected):
        open_order(forged, KEYS)


def test_one_changed_byte_anywhere_is_refused() -> None:
    good = envelope(order())
    for position in range(0, len(good), 37):
        bad = bytearray(good)
        bad[position] ^= 1
        with pytest.raises((EnvelopeMalformed, KeyUnknown, SignatureRejected)):
            open_order(bytes(bad), KEYS)


def test_a_signed_statement_that_is_no_order_is_refused() -> None:
    given = order()
    refusal = RefusalStatement(
        federation_id=given.federation_id, run_id=given.run_id, round=1, attempt=1,
        site_id=SiteId("north"), key_id=KEY.public.key_id, plan_hash=given.plan_hash,
        base_model_digest="b" * 64, order_digest="d" * 64, order_nonce="0" * 32,
        created=NOW, code="REJ-X",
    )  # fmt: skip
    with pytest.raises(StatementMalformed):
        open_order(sign_statement(refusal, [], KEY), KEYS)


def test_an_order_without_time_zone_is_refused() -> None:
    naive = order().model_copy(
        update={
            "issued_at": NOW.replace(tzinfo=None),
            "expires_at": NOW.replace(tzinfo=None) + timedelta(hours=1),
        }
    )
    with pytest.raises(StatementMalformed):
        open_order(envelope(naive), KEYS)


def test_an_order_whose_subject_is_another_model_is_refused() -> None:
    with pytest.raises(StatementMalformed):
        open_order(envelope(order(), subjects=(Subject("base", "9" * 64),)), KEYS)


def test_history_is_a_value() -> None:
    first = RunHistory((taken(order()),))
    assert replace(first).last_answered_round == 1
