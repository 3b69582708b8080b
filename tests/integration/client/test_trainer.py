"""Trainer over its real socket: what it takes, what it answers, what it refuses."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from pleura.anonymizer.erasure import ErasureIndex, Use
from pleura.client.agent.trainer_link import Answer, NeedsBase, TrainerLink, Unsigned
from pleura.client.data.splits import SPLIT_SEED
from pleura.client.errors import (
    ArchiveDamaged,
    BlobNotWanted,
    NotEnrolled,
    RoundOvercharged,
    SocketUnusable,
)
from pleura.client.ingest.catalog import Catalog
from pleura.client.trainer.archive import KEEP_UPDATES, Archive
from pleura.client.trainer.serving import build
from pleura.client.trainer.spending import SiteBudget
from pleura.client.trainer.work import BASES_KEPT
from pleura.client.training.federated import train_round
from pleura.common.errors import DigestMismatch, EnvelopeMalformed, TensorsRejected
from pleura.common.keys import SigningKey
from pleura.common.proto import trainer_pb2 as pb
from pleura.common.proto import trainer_pb2_grpc as pb_grpc
from pleura.common.results import EvaluationStatement, RefusalStatement, UpdateStatement
from pleura.common.statements import open_statement
from pleura.common.tensors import PackedReader, write_packed
from tests.builders.trainer_server import answered, running_trainer, short_folder
from tests.builders.trainer_site import TrainerSite, trainer_site
from tests.builders.training import silent

torch.set_num_threads(1)
DP = {"mode": "dp", "epsilon": Decimal("8"), "sigma": Decimal("4"), "n_ref": 100}
DP_TRAIN = {"optimizer": "sgd", "lr": Decimal("0.1"), "local_steps": 2}


@pytest.fixture
def root() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture
def site(root: Path) -> TrainerSite:
    return trainer_site(root)


@pytest.fixture
def link(site: TrainerSite) -> Iterator[TrainerLink]:
    with running_trainer(site.settings) as link:
        yield link


def opened(site: TrainerSite, answer: Answer, kind: Any) -> Any:
    key = site.site_key.public
    return open_statement(answer.envelope, {key.key_id: key}, kind).predicate


def refusal_code(site: TrainerSite, link: TrainerLink, envelope: bytes) -> str:
    outcome = link.submit(envelope)
    assert isinstance(outcome, Answer)
    assert outcome.blob_sha256 == ""
    return str(opened(site, outcome, RefusalStatement).code)


def test_a_training_order_becomes_a_signed_update_over_its_blob(
    site: TrainerSite, link: TrainerLink, root: Path
) -> None:
    order = site.train_order()
    envelope = site.signed(order)
    answer = answered(link, envelope, site.base_file)

    update = opened(site, answer, UpdateStatement)
    assert (update.run_id, update.round, update.site_id) == ("run-1", 1, "north")
    assert update.order_digest == hashlib.sha256(envelope).hexdigest()
    assert update.order_nonce == order.nonce
    assert update.base_model_digest == site.base.tensor_digest
    assert update.patients == "<10"
    assert update.dp.mode == "none"

    blob = root / "update.bin"
    blob.write_bytes(b"".join(link.get_blob(answer.blob_sha256)))
    assert PackedReader(blob).verify() == update.update
    rest = b"".join(link.get_blob(answer.blob_sha256, 1000))
    assert rest == blob.read_bytes()[1000:]


def test_the_update_is_what_the_training_function_gives(
    site: TrainerSite, link: TrainerLink, root: Path
) -> None:
    order = site.train_order()
    answer = answered(link, site.signed(order), site.base_file)
    with Catalog(site.settings.catalog_file, read_only=True) as catalog:
        cohort = catalog.cohort(
            "ct_nodule_malignancy", "train", seed=order.plan.seed, store=site.settings.store_dir
        )
    direct = train_round(
        order, site.base_file, cohort, site_id="north", update_path=root / "direct.bin",
        progress=silent,
    )  # fmt: skip
    assert direct.packed.blob_sha256 == answer.blob_sha256


def test_the_same_order_is_answered_with_the_same_bytes_even_after_a_restart(
    site: TrainerSite,
) -> None:
    envelope = site.signed(site.train_order())
    with running_trainer(site.settings) as link:
        first = answered(link, envelope, site.base_file)
        assert link.submit(envelope) == first
    with running_trainer(site.settings) as link:
        assert link.submit(envelope) == first


def test_an_order_submitted_twice_at_once_is_done_once(
    site: TrainerSite, link: TrainerLink
) -> None:
    envelope = site.signed(site.train_order())
    needed = link.submit(envelope)
    assert isinstance(needed, NeedsBase)
    assert link.put_blob(needed.sha256, needed.size, 0, [site.base_file.read_bytes()])
    outcomes: list[object] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(link.submit(envelope))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert isinstance(outcomes[0], Answer)


def test_an_evaluation_order_becomes_signed_metrics_and_no_blob(
    site: TrainerSite, link: TrainerLink
) -> None:
    answer = answered(link, site.signed(site.evaluate_order()), site.base_file)
    found = opened(site, answer, EvaluationStatement)
    assert answer.blob_sha256 == ""
    assert (found.split, found.patients, found.failed_images) == ("test", "<10", "<10")
    assert {metric.name for metric in found.metrics} >= {"auroc", "brier"}


def test_a_tampered_order_is_refused_by_name_and_gets_no_signature(
    site: TrainerSite, link: TrainerLink
) -> None:
    forger = SigningKey.generate()
    forged = site.signed(site.train_order(), forger)
    assert link.submit(forged) == Unsigned("REJ-KEY")
    claimed = forged.replace(forger.public.key_id.encode(), site.coordinator.public.key_id.encode())
    assert link.submit(claimed) == Unsigned("REJ-SIGNATURE")
    assert link.submit(b"{}") == Unsigned("REJ-ENVELOPE")
    assert list((site.settings.trainer_dir / "runs").iterdir()) == []


def test_refusals_are_signed_with_their_code(site: TrainerSite, link: TrainerLink) -> None:
    now = datetime.now(UTC)
    late = site.train_order(now=now - timedelta(hours=2))
    early = site.train_order(now=now + timedelta(minutes=10), attempt=2)
    assert refusal_code(site, link, site.signed(late)) == "REJ-EXPIRED"
    assert refusal_code(site, link, site.signed(early)) == "REJ-FUTURE"

    plan = site.plan.model_copy(update={"federation_id": "hearts"})
    other = site.train_order(federation_id="hearts", plan=plan, plan_hash=plan.digest)
    assert refusal_code(site, link, site.signed(other)) == "REJ-ORDER-FEDERATION"


def test_a_refusal_is_repeated_byte_for_byte(site: TrainerSite, link: TrainerLink) -> None:
    envelope = site.signed(site.train_order(now=datetime.now(UTC) - timedelta(hours=2)))
    assert link.submit(envelope) == link.submit(envelope)


def test_a_refused_order_does_not_fix_the_plan_of_its_run(
    site: TrainerSite, link: TrainerLink
) -> None:
    plan = site.plan.model_copy(update={"seed": 99})
    late = site.train_order(
        now=datetime.now(UTC) - timedelta(hours=2), plan=plan, plan_hash=plan.digest
    )
    assert refusal_code(site, link, site.signed(late)) == "REJ-EXPIRED"
    answered(link, site.signed(site.train_order()), site.base_file)
    again = site.train_order(round=2, plan=plan, plan_hash=plan.digest)
    assert refusal_code(site, link, site.signed(again)) == "REJ-PLAN"


def test_a_small_cohort_is_refused_before_any_base_is_asked_for(root: Path) -> None:
    site = trainer_site(root, policy={"min_patients": 20})
    with running_trainer(site.settings) as link:
        assert refusal_code(site, link, site.signed(site.train_order())) == "REJ-COHORT"


def test_only_wanted_blobs_are_taken_and_only_answers_are_given(
    site: TrainerSite, link: TrainerLink
) -> None:
    data = site.base_file.read_bytes()
    with pytest.raises(BlobNotWanted):
        link.put_blob(site.base.blob_sha256, len(data), 0, [data])
    answered(link, site.signed(site.train_order()), site.base_file)
    for sha256 in (site.base.blob_sha256, "0" * 64, ""):
        with pytest.raises(BlobNotWanted):
            list(link.get_blob(sha256))


def test_a_cut_transfer_continues_where_it_stopped(site: TrainerSite, link: TrainerLink) -> None:
    envelope, data = site.signed(site.train_order()), site.base_file.read_bytes()
    needed = link.submit(envelope)
    assert isinstance(needed, NeedsBase)
    assert not link.put_blob(needed.sha256, needed.size, 0, [data[:5000]])
    resumed = link.submit(envelope)
    assert isinstance(resumed, NeedsBase)
    assert resumed.have == 5000
    with pytest.raises(DigestMismatch):
        link.put_blob(needed.sha256, needed.size, 4000, [data[4000:]])
    assert link.put_blob(needed.sha256, needed.size, 5000, [data[5000:]])
    assert isinstance(link.submit(envelope), Answer)


def test_changed_bytes_of_a_base_are_dropped_and_the_right_ones_taken(
    site: TrainerSite, link: TrainerLink
) -> None:
    envelope, data = site.signed(site.train_order()), bytearray(site.base_file.read_bytes())
    needed = link.submit(envelope)
    assert isinstance(needed, NeedsBase)
    data[-1] ^= 1
    with pytest.raises(DigestMismatch):
        link.put_blob(needed.sha256, needed.size, 0, [bytes(data)])
    answered(link, envelope, site.base_file)


def test_a_message_above_the_limit_is_refused(site: TrainerSite, link: TrainerLink) -> None:
    assert link.submit(b"x" * (5 * 2**20)) == Unsigned(EnvelopeMalformed.code)
    with grpc.insecure_channel(
        f"unix:{site.settings.trainer_socket}",
        options=[("grpc.max_send_message_length", -1), ("grpc.default_authority", "trainer")],
    ) as channel:
        stub = pb_grpc.TrainerStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Submit(pb.OrderEnvelope(envelope=b"x" * (5 * 2**20)), timeout=10))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert link.status().version


def test_the_socket_is_private(site: TrainerSite, link: TrainerLink) -> None:
    socket = site.settings.trainer_socket
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert not link.status().sandboxed


def test_a_socket_path_that_is_too_long_is_refused_by_name(site: TrainerSite) -> None:
    deep = site.settings.model_copy(update={"state_dir": site.settings.state_dir / ("d" * 100)})
    deep.trainer_dir.mkdir(parents=True, mode=0o700)
    (deep.trainer_dir / "site.key").write_bytes(site.settings.site_key_file.read_bytes())
    deep.site_key_file.chmod(0o600)
    deep.coordinator_key_file.write_text(site.coordinator.public.to_b64())
    with pytest.raises(SocketUnusable), running_trainer(deep):
        pass


@pytest.mark.parametrize("missing", ["site.key", "coordinator.pub"])
def test_a_trainer_without_its_keys_does_not_start(site: TrainerSite, missing: str) -> None:
    (site.settings.trainer_dir / missing).unlink()
    with pytest.raises(NotEnrolled):
        build(site.settings, sandboxed=False)


def test_who_was_trained_on_is_remembered_by_round_and_nobody_else(root: Path) -> None:
    for number, mode in enumerate(({}, {"privacy": DP, "train": DP_TRAIN})):
        (root / str(number)).mkdir(mode=0o700)
        site = trainer_site(root / str(number), **mode)
        with running_trainer(site.settings) as link:
            answered(link, site.signed(site.train_order()), site.base_file)
            answered(link, site.signed(site.evaluate_order()), site.base_file)
        task = site.plan.task.name
        with (
            Catalog(site.settings.catalog_file, read_only=True) as catalog,
            ErasureIndex(site.settings.rounds_file) as rounds,
        ):
            store = site.settings.store_dir
            for split in ("train", "test"):
                cohort = catalog.cohort(task, split, seed=SPLIT_SEED, store=store)
                expected = (Use(f"{task}/train", "run-1", 1),) if split == "train" else ()
                assert cohort.patients
                assert {rounds.uses_of(name) for name in cohort.by_patient} == {expected}


# --- private rounds -----------------------------------------------------------------


def test_a_private_round_is_charged_and_says_what_it_cost(root: Path) -> None:
    site = trainer_site(root, privacy=DP, train=DP_TRAIN)
    with running_trainer(site.settings) as link:
        answer = answered(link, site.signed(site.train_order()), site.base_file)
    dp = opened(site, answer, UpdateStatement).dp
    assert (dp.mode, dp.sigma, dp.q, dp.steps) == ("dp", Decimal("4"), Decimal("0.04"), 2)
    assert 0 < dp.epsilon_run <= dp.epsilon_total_after <= 8


def test_a_second_attempt_at_a_paid_round_sends_the_same_update_and_is_free(root: Path) -> None:
    site = trainer_site(root, privacy=DP, train=DP_TRAIN)
    with running_trainer(site.settings) as link:
        first = answered(link, site.signed(site.train_order()), site.base_file)
        second = answered(link, site.signed(site.train_order(attempt=2)), site.base_file)
        assert b"".join(link.get_blob(second.blob_sha256)) != b""
    one, two = (opened(site, answer, UpdateStatement) for answer in (first, second))
    assert two.update == one.update
    assert (one.attempt, two.attempt) == (1, 2)
    assert two.dp.epsilon_run == one.dp.epsilon_run


def test_a_second_run_that_does_not_fit_the_budget_is_refused_before_training(root: Path) -> None:
    site = trainer_site(root, privacy={**DP, "sigma": Decimal("1.5"), "n_ref": 6}, train=DP_TRAIN)
    earlier = site.plan.model_copy(update={"run_id": "run-0"})
    budget = SiteBudget(site.settings.trainer_dir, site.settings.policy)
    cost = budget.reserve(
        site.train_order(run_id="run-0", plan=earlier, plan_hash=earlier.digest)
    ).epsilon_run
    budget.close()
    assert 2 < cost <= 8
    with running_trainer(site.settings) as link:
        outcome = answered(link, site.signed(site.train_order()), site.base_file)
    assert opened(site, outcome, RefusalStatement).code == "REJ-BUDGET"


def test_a_plan_whose_noise_costs_more_than_it_states_is_refused_before_training(
    root: Path,
) -> None:
    costly = {**DP, "sigma": Decimal("0.4"), "n_ref": 6}
    site = trainer_site(root, privacy=costly, train={**DP_TRAIN, "local_steps": 500})
    with running_trainer(site.settings) as link:
        outcome = answered(link, site.signed(site.train_order()), site.base_file)
    assert opened(site, outcome, RefusalStatement).code == "REJ-EPSILON"


def test_a_private_round_that_was_killed_too_often_is_refused(root: Path) -> None:
    site = trainer_site(root, privacy=DP, train=DP_TRAIN)
    order = site.train_order()
    budget = SiteBudget(site.settings.trainer_dir, site.settings.policy)
    for _ in range(site.settings.policy.max_attempts):
        budget.reserve(order)  # charged, and then the process died
    budget.close()
    with running_trainer(site.settings) as link:
        outcome = answered(link, site.signed(order), site.base_file)
    assert opened(site, outcome, RefusalStatement).code == RoundOvercharged.code


def test_a_paid_update_whose_answer_was_lost_is_answered_with_the_same_bytes(root: Path) -> None:
    site = trainer_site(root, privacy=DP, train=DP_TRAIN)
    envelope = site.signed(site.train_order())
    with running_trainer(site.settings) as link:
        first = opened(site, answered(link, envelope, site.base_file), UpdateStatement)
    answer_file = next((site.settings.trainer_dir / "runs" / "run-1").glob("*/answer.json"))
    answer_file.unlink()  # killed between `spent` and the answer
    with running_trainer(site.settings) as link:
        second = opened(site, answered(link, envelope, site.base_file), UpdateStatement)
    assert second.update == first.update
    assert second.dp.epsilon_total_after == first.dp.epsilon_total_after


def test_a_paid_update_whose_file_is_gone_is_refused_and_never_trained_again(root: Path) -> None:
    site = trainer_site(root, privacy=DP, train=DP_TRAIN)
    envelope = site.signed(site.train_order())
    with running_trainer(site.settings) as link:
        answered(link, envelope, site.base_file)
    for path in (site.settings.trainer_dir / "runs" / "run-1").glob("*/*"):
        if path.name != "order.json":
            path.unlink()
    with running_trainer(site.settings) as link:
        outcome = answered(link, envelope, site.base_file)
    assert opened(site, outcome, RefusalStatement).code == ArchiveDamaged.code


def test_update_files_are_dropped_after_a_month_and_the_answer_stays(
    site: TrainerSite, link: TrainerLink
) -> None:
    envelope = site.signed(site.train_order())
    answer = answered(link, envelope, site.base_file)
    archive, now = Archive(site.settings.trainer_dir / "runs"), datetime.now(UTC)
    assert archive.drop_old_updates(now + KEEP_UPDATES - timedelta(minutes=5)) == 0
    assert archive.drop_old_updates(now + KEEP_UPDATES + timedelta(minutes=5)) == 1
    with pytest.raises(BlobNotWanted):
        list(link.get_blob(answer.blob_sha256))
    assert link.submit(envelope) == answer


def test_only_the_newest_base_models_are_kept(site: TrainerSite, link: TrainerLink) -> None:
    for number in range(1, 4):
        answered(link, site.signed(site.train_order(round=number)), site.base_file)
    folder = site.settings.trainer_dir / "blobs" / "sha256" / "00"
    folder.mkdir(exist_ok=True)
    for number in range(BASES_KEPT):
        (folder / f"{number:064x}").write_bytes(b"older")
        os.utime(folder / f"{number:064x}", (number, number))
    answered(link, site.signed(site.train_order(round=4)), site.base_file)
    kept = {path.name for path in folder.parent.glob("*/*")}
    assert site.base.blob_sha256 in kept
    assert len(kept) == BASES_KEPT


def test_a_base_that_does_not_fit_the_network_costs_no_budget(root: Path) -> None:
    site = trainer_site(root, privacy=DP, train=DP_TRAIN)
    wrong = root / "wrong.bin"
    ref = write_packed(wrong, {"weight": np.zeros(3, np.float32)})
    with running_trainer(site.settings) as link:
        outcome = answered(link, site.signed(site.train_order(base=ref)), wrong)
    assert opened(site, outcome, RefusalStatement).code == TensorsRejected.code
    budget = SiteBudget(site.settings.trainer_dir, site.settings.policy)
    assert budget.so_far(site.train_order()).epsilon_total_after == 0
    budget.close()


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_paid_update_that_is_not_what_was_paid_for_is_refused(root: Path, is_gone: bool) -> None:
    site = trainer_site(root, privacy=DP, train=DP_TRAIN)
    with running_trainer(site.settings) as link:
        answered(link, site.signed(site.train_order()), site.base_file)
        update = next((site.settings.trainer_dir / "runs" / "run-1").glob("*/update.bin"))
        update.unlink() if is_gone else update.write_bytes(b"other bytes")
        second = answered(link, site.signed(site.train_order(attempt=2)), site.base_file)
    assert opened(site, second, RefusalStatement).code == ArchiveDamaged.code


def test_the_copy_of_a_paid_update_is_private(root: Path) -> None:
    site = trainer_site(root, privacy=DP, train=DP_TRAIN)
    with running_trainer(site.settings) as link:
        answered(link, site.signed(site.train_order()), site.base_file)
        before = os.umask(0o022)
        answered(link, site.signed(site.train_order(attempt=2)), site.base_file)
        os.umask(before)
    updates = list((site.settings.trainer_dir / "runs" / "run-1").glob("*/update.bin"))
    assert [update.stat().st_mode & 0o777 for update in updates] == [0o600, 0o600]
