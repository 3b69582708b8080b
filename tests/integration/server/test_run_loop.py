"""Whole runs over real files: faults of sites, and crashes at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleura.common.canonical import sha256_hex
from pleura.common.ids import SiteId
from pleura.common.orders import RunPlan, TrainOrder
from pleura.common.results import UpdateStatement
from pleura.common.statements import open_statement
from pleura.common.tensors import PackedReader
from pleura.server.creating import stop_run
from pleura.server.errors import RunNotStoppable
from pleura.server.rounds import MAX_ATTEMPTS
from pleura.server.runner import RunLoop
from pleura.server.runs import RoundKind, RoundState, RunState
from pleura.server.statements import AggregateStatement, DropoutStatement
from pleura.server.transport import Parcel, Reply
from tests.builders.federation import (
    COORDINATOR,
    EXTERNAL,
    SITES,
    START,
    Federation,
    delta_tensors,
    make_plan,
    model_tensors,
    open_order,
    sign,
)


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def federate(tmp_path: Path) -> Iterator[Callable[..., Federation]]:
    made: list[Federation] = []

    def make(plan: RunPlan | None = None, name: str = "one") -> Federation:
        folder = tmp_path / name
        folder.mkdir()
        made.append(Federation(folder, plan or make_plan()))
        made[-1].create()
        return made[-1]

    yield make
    for federation in made:
        federation.close()


def work(federation: Federation, checkpoint: Callable[[str], None] = lambda _: None) -> RunState:
    return RunLoop(federation.office(checkpoint)).work(federation.run_id)


def log_of(federation: Federation, kind: str) -> list[bytes]:
    return [e.envelope for e in federation.log.entries(0, 10_000) if e.kind == kind]


def dropouts(federation: Federation) -> list[tuple[int, int, str, str]]:
    keys = {COORDINATOR.public.key_id: COORDINATOR.public}
    found = [open_statement(e, keys, DropoutStatement) for e in log_of(federation, "dropout")]
    return [(d.round, d.attempt, d.site_id, d.code) for d in (o.predicate for o in found)]


def final_model(federation: Federation) -> str:
    return federation.store.models(federation.run_id)[-1].ref.blob_sha256


def expected_model(sites_by_round: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    model = model_tensors()
    for round_, sites in enumerate(sites_by_round, start=1):
        for name in model:
            total = np.zeros(model[name].shape, np.float64)
            for site in sorted(sites):
                total = total + delta_tensors(site, round_)[name].astype(np.float64)
            scaled = model[name].astype(np.float64) + (1.0 / len(sites)) * total
            model[name] = scaled.astype(np.float32)
    return model


def assert_model(federation: Federation, expected: dict[str, np.ndarray]) -> None:
    reader = PackedReader(federation.blobs.path(final_model(federation)))
    for name, array in expected.items():
        assert np.array_equal(reader.tensor(name), array)


def silent(_: Parcel) -> Sequence[Reply]:
    return []


def failing(parcel: Parcel) -> Sequence[Reply]:
    return [Reply(parcel.site_id, parcel.order_digest, None)]


# --- the normal course ---------------------------------------------------------


def test_a_run_ends_with_numpys_mean_of_all_updates(federate: Callable[..., Federation]) -> None:
    federation = federate()
    assert work(federation) is RunState.FINISHED
    assert_model(federation, expected_model([SITES, SITES]))
    assert federation.log.verify().size == len(federation.log.entries(0, 1000))


def test_the_log_holds_orders_updates_and_aggregates_in_order(
    federate: Callable[..., Federation],
) -> None:
    federation = federate()
    work(federation)
    kinds = [e.kind for e in federation.log.entries(0, 100)]
    one_round = ["order", "update", "update", "update", "aggregate"]
    assert kinds == [*one_round, *one_round, "order", *["evaluation"] * 3, "closing"]


def test_an_aggregate_names_every_input_and_its_output(
    federate: Callable[..., Federation],
) -> None:
    federation = federate()
    work(federation)
    keys = {COORDINATOR.public.key_id: COORDINATOR.public}
    last = open_statement(log_of(federation, "aggregate")[-1], keys, AggregateStatement).predicate
    assert [i.site_id for i in last.inputs] == sorted(SITES)
    updates = {sha256_hex(e) for e in log_of(federation, "update")}
    assert {i.statement_digest for i in last.inputs} <= updates
    assert last.output == federation.store.models(federation.run_id)[-1].ref


def test_evaluations_are_collected_at_training_and_external_sites(
    federate: Callable[..., Federation],
) -> None:
    plan = make_plan(external_sites=[EXTERNAL], evaluation={"every_rounds": 1})
    federation = federate(plan)
    work(federation)
    found = {
        (e.round, e.site_id, e.statement.split) for e in federation.store.evaluations(plan.run_id)
    }
    tests = {(r, s, "test") for r in (1, 2) for s in SITES}
    assert found == tests | {(r, EXTERNAL, "external") for r in (1, 2)}


def test_a_finished_run_is_not_worked_on_again(federate: Callable[..., Federation]) -> None:
    federation = federate()
    work(federation)
    size, sent = federation.log.head().size, len(federation.messenger.sent)
    assert work(federation) is RunState.FINISHED
    assert (federation.log.head().size, len(federation.messenger.sent)) == (size, sent)


# --- sites that fail -----------------------------------------------------------


def test_a_silent_site_delays_each_round_by_the_deadline_at_most(
    federate: Callable[..., Federation],
) -> None:
    federation = federate(make_plan(fed={"min_sites": 2}))
    federation.messenger.handlers["west"] = silent
    assert work(federation) is RunState.FINISHED
    waited = (federation.clock.now() - START).total_seconds()
    assert 3 * 60 <= waited < 3 * 60 + 3  # two training rounds and the evaluation
    assert_model(federation, expected_model([("north", "south")] * 2))
    assert ("west", "ABSENT") in {d[2:] for d in dropouts(federation)}


def test_a_site_that_never_connected_does_not_end_the_run(
    federate: Callable[..., Federation],
) -> None:
    federation = federate(make_plan(fed={"min_sites": 2}))
    federation.registry.change("west", node_id=None, activated_at=None)
    assert work(federation) is RunState.FINISHED
    assert "west" not in {parcel.site_id for parcel in federation.messenger.sent}


def test_a_revoked_site_is_neither_sent_to_nor_waited_for(
    federate: Callable[..., Federation],
) -> None:
    federation = federate(make_plan(fed={"min_sites": 2}))
    federation.registry.change("west", state="revoked")
    assert work(federation) is RunState.FINISHED
    assert (federation.clock.now() - START).total_seconds() < 5
    assert "west" not in {parcel.site_id for parcel in federation.messenger.sent}


def test_too_few_sites_end_the_run_after_the_last_attempt_and_keep_the_model(
    federate: Callable[..., Federation],
) -> None:
    federation = federate()
    prompt = federation.messenger.handlers["west"]

    def first_round_only(parcel: Parcel) -> Sequence[Reply]:
        return prompt(parcel) if parcel.round == 1 else []

    federation.messenger.handlers["west"] = first_round_only
    assert work(federation) is RunState.FAILED
    run = federation.store.get(federation.run_id)
    assert (run.code, run.round) == ("REJ-QUORUM", 1)
    assert_model(federation, expected_model([SITES]))
    attempts = [r for r in federation.store.rounds(run.run_id) if r.key.round == 2]
    assert [r.key.attempt for r in attempts] == list(range(1, MAX_ATTEMPTS + 1))
    assert {r.state for r in attempts} == {RoundState.FAILED}
    assert len({r.order.nonce for r in attempts}) == MAX_ATTEMPTS


def test_a_site_that_comes_back_completes_a_repeated_round(
    federate: Callable[..., Federation],
) -> None:
    federation = federate()
    prompt = federation.messenger.handlers["west"]

    def second_attempt_only(parcel: Parcel) -> Sequence[Reply]:
        order = open_order(parcel.envelope)
        return prompt(parcel) if order.attempt == 2 or order.round > 1 else []

    federation.messenger.handlers["west"] = second_attempt_only
    assert work(federation) is RunState.FINISHED
    assert_model(federation, expected_model([SITES, SITES]))
    assert (1, 1, "west", "ABSENT") in dropouts(federation)
    # the two sites that were admitted in attempt 1 trained once for round 1
    trained = [p for p in federation.messenger.sent if p.round == 1 and p.kind is RoundKind.TRAIN]
    orders = {(p.site_id, open_order(p.envelope).attempt) for p in trained}
    assert orders == {(s, 1) for s in SITES} | {("west", 2)}


def test_an_error_reply_is_tried_again_with_the_same_bytes(
    federate: Callable[..., Federation],
) -> None:
    federation = federate()
    prompt, calls = federation.messenger.handlers["west"], []

    def third_time(parcel: Parcel) -> Sequence[Reply]:
        calls.append(parcel.envelope)
        return prompt(parcel) if len(calls) >= 3 else failing(parcel)

    federation.messenger.handlers["west"] = third_time
    assert work(federation) is RunState.FINISHED
    assert calls[0] == calls[1] == calls[2]
    assert (federation.clock.now() - START).total_seconds() < 5


def test_a_re_activated_site_gets_the_order_at_once(federate: Callable[..., Federation]) -> None:
    federation = federate()
    prompt, seen = federation.messenger.handlers["west"], []

    def restarted(parcel: Parcel) -> Sequence[Reply]:
        seen.append(parcel.node)
        if len(seen) == 1:
            federation.registry.change("west", activated_at=START.replace(hour=9))
            return []
        return prompt(parcel)

    federation.messenger.handlers["west"] = restarted
    assert work(federation) is RunState.FINISHED
    assert (federation.clock.now() - START).total_seconds() < 3


def test_a_sites_refusal_is_logged_and_the_round_goes_on(
    federate: Callable[..., Federation],
) -> None:
    federation = federate(make_plan(fed={"min_sites": 2}))

    def refuse(parcel: Parcel) -> Sequence[Reply]:
        order, site = open_order(parcel.envelope), federation.sites[SiteId("west")]
        refusal = site.refusal(order, parcel.order_digest, "BUDGET-SPENT")
        return [Reply(parcel.site_id, parcel.order_digest, sign(refusal, "west"))]

    federation.messenger.handlers["west"] = refuse
    assert work(federation) is RunState.FINISHED
    assert (1, 1, "west", "BUDGET-SPENT") in dropouts(federation)
    assert len(log_of(federation, "refusal")) == 3
    assert (federation.clock.now() - START).total_seconds() < 5


def _tampered(federation: Federation, parcel: Parcel) -> bytes:
    envelope = bytearray(federation.sites[SiteId("west")].answer(parcel.envelope))
    envelope[-40] ^= 1
    return bytes(envelope)


def _other_rounds(federation: Federation, parcel: Parcel) -> bytes:
    """Replay: the answer to the first order this site ever got."""
    site = federation.sites[SiteId("west")]
    return next(iter(site.outbox.values()), None) or site.answer(parcel.envelope)


def _too_long(federation: Federation, parcel: Parcel) -> bytes:
    site, order = federation.sites[SiteId("west")], open_order(parcel.envelope)
    if not isinstance(order, TrainOrder):
        return site.answer(parcel.envelope)
    statement = site.statement(order, parcel.order_digest)
    assert isinstance(statement, UpdateStatement)
    return sign(statement.model_copy(update={"base_model_digest": "0" * 64}), "west")


@pytest.mark.parametrize(
    ("forge", "round_", "codes"),
    [
        (_tampered, 1, {"REJ-SIGNATURE", "REJ-ENVELOPE"}),
        (_other_rounds, 2, {"REJ-ROUND"}),
        (_too_long, 1, {"REJ-BASE"}),
    ],
    ids=["tampered", "replayed", "other-base"],
)
def test_a_forged_answer_is_refused_by_code_and_the_round_completes_without_it(
    federate: Callable[..., Federation], forge: Any, round_: int, codes: set[str]
) -> None:
    federation = federate(make_plan(fed={"min_sites": 2}))
    federation.messenger.handlers["west"] = lambda parcel: [
        Reply(parcel.site_id, parcel.order_digest, forge(federation, parcel))
    ]
    assert work(federation) is RunState.FINISHED
    assert {d[3] for d in dropouts(federation) if d[0] == round_ and d[2] == "west"} & codes
    sites = [("north", "south") if n >= round_ else SITES for n in (1, 2)]
    assert_model(federation, expected_model(sites))


def test_an_answer_of_another_run_is_refused(federate: Callable[..., Federation]) -> None:
    other = federate(make_plan(run_id="run-else"), name="else")
    work(other)
    stolen = next(iter(other.sites[SiteId("west")].outbox.values()))
    federation = federate(make_plan(fed={"min_sites": 2}))
    federation.messenger.handlers["west"] = lambda parcel: [
        Reply(parcel.site_id, parcel.order_digest, stolen)
    ]
    assert work(federation) is RunState.FINISHED
    assert {d[3] for d in dropouts(federation)} == {"REJ-RUN"}


def test_an_answer_delivered_twice_counts_once(federate: Callable[..., Federation]) -> None:
    federation = federate()
    for name in SITES:
        prompt = federation.messenger.handlers[name]
        federation.messenger.handlers[name] = lambda parcel, p=prompt: [*p(parcel), *p(parcel)]
    assert work(federation) is RunState.FINISHED
    assert len(log_of(federation, "update")) == 6
    assert_model(federation, expected_model([SITES, SITES]))


def test_failing_evaluations_never_fail_the_run(federate: Callable[..., Federation]) -> None:
    federation = federate(make_plan(external_sites=[EXTERNAL]))
    for name in (*SITES, EXTERNAL):
        prompt = federation.messenger.handlers[name]
        federation.messenger.handlers[name] = lambda parcel, p=prompt: (
            p(parcel) if parcel.kind is RoundKind.TRAIN else failing(parcel)
        )
    assert work(federation) is RunState.FINISHED
    assert federation.store.evaluations(federation.run_id) == ()


def test_a_stopped_run_ends_within_a_second_and_keeps_its_model(
    federate: Callable[..., Federation],
) -> None:
    federation = federate()
    office = federation.office()

    def stop(parcel: Parcel) -> Sequence[Reply]:
        if parcel.round == 2:
            stop_run(
                federation.run_id,
                store=federation.store,
                log=federation.log,
                key=COORDINATOR,
                now=federation.clock.now(),
            )
        return federation.prompt("west")(parcel) if parcel.round == 1 else []

    federation.messenger.handlers["west"] = stop
    assert RunLoop(office).work(federation.run_id) is RunState.STOPPED
    assert (federation.clock.now() - START).total_seconds() < 2
    assert_model(federation, expected_model([SITES]))
    assert len(log_of(federation, "closing")) == 1


def test_a_stop_that_was_killed_before_its_statement_is_finished_by_the_next(
    federate: Callable[..., Federation],
) -> None:
    federation = federate()
    federation.store.set_state(federation.run_id, RunState.STOPPED, START)  # and then kill -9
    parts = {"store": federation.store, "log": federation.log, "key": COORDINATOR, "now": START}
    stop_run(federation.run_id, **parts)
    assert len(log_of(federation, "closing")) == 1
    with pytest.raises(RunNotStoppable):
        stop_run(federation.run_id, **parts)
    assert len(log_of(federation, "closing")) == 1


# --- crashes -------------------------------------------------------------------


def checkpoints_of(federation: Federation) -> list[str]:
    passed: list[str] = []
    work(federation, passed.append)
    return passed


def test_a_crash_at_any_checkpoint_costs_one_step_and_changes_no_byte(
    federate: Callable[..., Federation],
) -> None:
    plan = make_plan(external_sites=[EXTERNAL], fed={"rounds": 1})
    whole = federate(plan, name="whole")
    points = list(dict.fromkeys(checkpoints_of(whole)))
    assert len(points) > 10
    for point in points:
        federation = federate(plan, name=point)

        def crash(reached: str, point: str = point) -> None:
            if reached == point:
                raise Crash

        with pytest.raises(Crash):
            work(federation, crash)
        federation.reopen()
        assert work(federation) is RunState.FINISHED, point
        assert final_model(federation) == final_model(whole), point
        kinds = [e.kind for e in federation.log.entries(0, 1000)]
        counts = {kind: kinds.count(kind) for kind in set(kinds)}
        expected = {"order": 3, "update": 3, "aggregate": 1, "evaluation": 4, "closing": 1}
        assert counts == expected, point
        assert all(site.computed <= 2 for site in federation.sites.values()), point


def test_a_process_that_dies_at_every_step_still_ends_with_the_same_model(
    federate: Callable[..., Federation],
) -> None:
    whole, federation = federate(name="whole"), federate(name="dying")
    work(whole)
    state = None
    lives = 0
    while state is None and lives < 50:
        lives += 1
        left = 6  # checkpoints a life: enough to finish a step, never a round

        def crash(_: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash

        try:
            state = work(federation, crash)
        except Crash:
            federation.reopen()
    assert state is RunState.FINISHED
    assert lives > 3
    assert final_model(federation) == final_model(whole)


def test_answers_still_count_when_the_deadline_passed_while_the_coordinator_was_down(
    federate: Callable[..., Federation],
) -> None:
    federation = federate()

    def crash(point: str) -> None:
        if point == "order.pushed":
            raise Crash

    with pytest.raises(Crash):
        work(federation, crash)
    federation.clock.advance(3600)
    federation.reopen()
    assert work(federation) is RunState.FINISHED
    rounds = federation.store.rounds(federation.run_id)
    assert {r.key.attempt for r in rounds} == {1}
