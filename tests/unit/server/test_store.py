"""The run store: one transaction a step, and nothing lost or doubled between them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pleura.common.canonical import sha256_hex
from pleura.common.ids import RunId, SiteId
from pleura.common.orders import BlobRef, TrainOrder
from pleura.server.errors import RunExists, RunStopped, RunUnknown
from pleura.server.runs import (
    ADMITTED,
    AnswerRecord,
    ModelRecord,
    RoundKey,
    RoundKind,
    RoundState,
    RunState,
)
from pleura.server.store import RunStore
from tests.builders.federation import START, make_plan

REF = BlobRef(blob_sha256="1" * 64, size_bytes=9, tensor_digest="2" * 64, schema_digest="3" * 64)
PLAN = make_plan()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = RunStore(tmp_path / "runs.db")
    opened.create(PLAN, REF, "4" * 64, START)
    yield opened
    opened.close()


def order(round_: int = 1, attempt: int = 1) -> TrainOrder:
    return TrainOrder(
        federation_id=PLAN.federation_id,
        run_id=PLAN.run_id,
        round=round_,
        attempt=attempt,
        plan=PLAN,
        plan_hash=PLAN.digest,
        base=REF,
        nonce=f"{round_:016x}{attempt:016x}",
        issued_at=START,
        expires_at=START + timedelta(minutes=1),
    )


def answer(key: RoundKey, site: str, decision: str = ADMITTED) -> AnswerRecord:
    envelope = f"{site} {key}".encode()
    return AnswerRecord(
        key, SiteId(site), "update", envelope, sha256_hex(envelope), decision, "{}", START
    )


def test_a_created_run_reads_back_whole(store: RunStore) -> None:
    run = store.get(PLAN.run_id)
    assert (run.plan, run.plan_hash, run.initial) == (PLAN, PLAN.digest, REF)
    assert (run.state, run.round, run.code) == (RunState.CREATED, 0, None)
    assert store.models(PLAN.run_id) == (ModelRecord(0, REF, "4" * 64),)


def test_a_run_id_is_used_once(store: RunStore) -> None:
    with pytest.raises(RunExists):
        store.create(PLAN, REF, "4" * 64, START)


def test_an_unknown_run_is_named(store: RunStore) -> None:
    with pytest.raises(RunUnknown, match="run-none"):
        store.get(RunId("run-none"))
    with pytest.raises(RunUnknown, match="run-none"):
        store.state_of(RunId("run-none"))


def test_an_ended_run_never_moves_again(store: RunStore) -> None:
    assert store.set_state(PLAN.run_id, RunState.STOPPED, START)
    assert not store.set_state(PLAN.run_id, RunState.FINISHED, START)
    assert store.state_of(PLAN.run_id) is RunState.STOPPED
    assert store.unfinished() == ()


def test_a_round_keeps_the_orders_exact_bytes(store: RunStore) -> None:
    record = store.open_round(order(), b"\x00order\xff", START)
    found = store.latest_round(PLAN.run_id, 1, RoundKind.TRAIN)
    assert found == record
    assert found is not None
    assert (found.envelope, found.digest) == (b"\x00order\xff", sha256_hex(b"\x00order\xff"))
    assert found.order == order()
    assert found.deadline_at == START + timedelta(minutes=1)


def test_the_first_answer_of_a_site_counts(store: RunStore) -> None:
    key = store.open_round(order(), b"order", START).key
    first = answer(key, "north")
    assert store.record_answer(first)
    assert not store.record_answer(replace(first, digest="9" * 64))
    assert store.answers(key) == (first,)


def test_a_frozen_round_takes_no_more_answers(store: RunStore) -> None:
    key = store.open_round(order(), b"order", START).key
    store.freeze_answers(key)
    assert not store.record_answer(answer(key, "north"))
    found = store.latest_round(PLAN.run_id, 1, RoundKind.TRAIN)
    assert found is not None
    assert found.state is RoundState.CLOSING


def test_admitted_answers_count_in_the_next_attempt_and_refused_do_not(store: RunStore) -> None:
    key = store.open_round(order(), b"one", START).key
    store.record_answer(answer(key, "north"))
    store.record_answer(answer(key, "south", "REJ-NORM"))
    store.end_round(key, START, "REJ-QUORUM")
    second = store.open_round(order(attempt=2), b"two", START)
    carried = store.answers(second.key)
    assert [a.site_id for a in carried] == ["north"]
    assert carried[0].digest == answer(key, "north").digest


def test_model_round_and_progress_are_committed_together(store: RunStore) -> None:
    key = store.open_round(order(), b"order", START).key
    store.commit_model(key, ModelRecord(1, REF, "5" * 64), START)
    assert store.get(PLAN.run_id).round == 1
    assert store.model(PLAN.run_id, 1) == ModelRecord(1, REF, "5" * 64)
    found = store.latest_round(PLAN.run_id, 1, RoundKind.TRAIN)
    assert found is not None
    assert (found.state, found.closed_at) == (RoundState.CLOSED, START)


def test_a_second_model_of_a_round_changes_nothing(store: RunStore) -> None:
    key = store.open_round(order(), b"order", START).key
    store.commit_model(key, ModelRecord(1, REF, "5" * 64), START)
    with pytest.raises(sqlite3.IntegrityError):
        store.commit_model(key, ModelRecord(1, REF, "6" * 64), START + timedelta(1))
    assert store.model(PLAN.run_id, 1) == ModelRecord(1, REF, "5" * 64)
    assert store.get(PLAN.run_id).updated_at == START


def test_a_blob_is_a_model_only_if_a_run_made_or_began_with_it(store: RunStore) -> None:
    assert store.is_model(REF.blob_sha256)
    assert not store.is_model(REF.tensor_digest)


def test_a_run_that_was_stopped_meanwhile_gets_no_further_model(store: RunStore) -> None:
    record = store.open_round(order(), b"order", START)
    store.freeze_answers(record.key)
    store.set_state(PLAN.run_id, RunState.STOPPED, START)
    with pytest.raises(RunStopped):
        store.commit_model(record.key, ModelRecord(1, REF, "5" * 64), START)
    assert store.get(PLAN.run_id).round == 0
    assert store.model(PLAN.run_id, 1) is None
