"""One round at a site, from DICOM files to a packed update, and its evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pleura.client.errors import (
    CohortTooSmall,
    ImageChanged,
    ModelRefused,
    TaskUnknown,
    TrainingDiverged,
)
from pleura.client.training.federated import train_round
from pleura.client.training.init_model import write_initial_model
from pleura.client.validation.evaluate import evaluate_model
from pleura.common.errors import DigestMismatch
from pleura.common.tensors import PackedReader, write_packed
from tests.builders.training import evaluate_order, nodule_cohort, run_plan, silent, train_order

torch.set_num_threads(1)


def test_same_order_and_data_give_the_same_bytes(tmp_path: Path) -> None:
    plan = run_plan()
    base = write_initial_model(plan, tmp_path / "base")
    cohort = nodule_cohort(tmp_path)
    order = train_order(plan, base)
    results = [
        train_round(
            order,
            tmp_path / "base",
            cohort,
            site_id="north",
            update_path=tmp_path / f"update{index}",
            progress=silent,
        )
        for index in range(2)
    ]
    assert results[0] == results[1]
    assert (tmp_path / "update0").read_bytes() == (tmp_path / "update1").read_bytes()
    assert results[0].packed.schema_digest == base.schema_digest
    assert (results[0].steps, results[0].patients) == (4, 6)


def test_another_round_or_site_draws_other_batches(tmp_path: Path) -> None:
    plan = run_plan(train={"schedule": "constant"})
    base = write_initial_model(plan, tmp_path / "base")
    cohort = nodule_cohort(tmp_path)
    digests = set()
    for number, site in ((1, "north"), (2, "north"), (1, "south")):
        trained = train_round(
            train_order(plan, base, number=number),
            tmp_path / "base",
            cohort,
            site_id=site,
            update_path=tmp_path / "update",
            progress=silent,
        )
        digests.add(trained.packed.tensor_digest)
    assert len(digests) == 3


def test_initial_model_depends_on_the_plan_alone(tmp_path: Path) -> None:
    first = write_initial_model(run_plan(), tmp_path / "a")
    torch.manual_seed(99)
    assert write_initial_model(run_plan(), tmp_path / "b") == first
    assert write_initial_model(run_plan(seed=8), tmp_path / "c") != first


def test_rounds_learn_and_evaluation_says_so(tmp_path: Path) -> None:
    plan = run_plan(train={"local_steps": 20, "lr": "0.01"})
    model = tmp_path / "model"
    ref = write_initial_model(plan, model)
    cohort = nodule_cohort(tmp_path, patients=12)
    for number in (1, 2):
        train_round(
            train_order(plan, ref, number=number),
            model,
            cohort,
            site_id="north",
            update_path=tmp_path / "update",
            progress=silent,
        )
        base, update = PackedReader(model), PackedReader(tmp_path / "update")
        summed = {s.name: np.asarray(t + update.tensor(s.name)) for s, t in base.tensors()}
        ref = write_packed(model, summed)
    test = nodule_cohort(tmp_path, patients=24, split="test", seed=1)
    result = evaluate_model(evaluate_order(plan, ref), model, test, progress=silent)
    metrics = {metric.name: metric for metric in result.metrics}
    assert (result.patients, result.images, result.failed) == (24, 48, 0)
    auroc = metrics["auroc"]
    assert auroc.value is not None and auroc.value > 0.95
    assert auroc.low is not None and auroc.low <= auroc.value
    assert metrics["brier"].method == "cluster_bootstrap"
    assert set(result.scores.keys) == {sample.key for sample in test.samples}


def test_metrics_of_a_small_cohort_are_withheld(tmp_path: Path) -> None:
    plan = run_plan()
    ref = write_initial_model(plan, tmp_path / "model")
    test = nodule_cohort(tmp_path, patients=18, split="test")
    order = evaluate_order(plan, ref)
    result = evaluate_model(order, tmp_path / "model", test, progress=silent)
    assert {metric.reason for metric in result.metrics} == {"too_few_patients"}
    assert len(result.scores.probabilities) == 36  # for the site's own eyes


def test_one_class_is_not_estimable(tmp_path: Path) -> None:
    plan = run_plan()
    ref = write_initial_model(plan, tmp_path / "model")
    everyone = nodule_cohort(tmp_path, patients=24, split="test")
    test = replace(everyone, samples=tuple(s for s in everyone.samples if s.label))
    result = evaluate_model(evaluate_order(plan, ref), tmp_path / "model", test, progress=silent)
    assert {metric.reason for metric in result.metrics} == {"one_class"}


def test_unreadable_image_is_counted_in_evaluation_and_ends_a_plain_round(tmp_path: Path) -> None:
    plan = run_plan(train={"batch_patients": 6})
    ref = write_initial_model(plan, tmp_path / "model")
    for split in ("test", "train"):
        cohort = nodule_cohort(tmp_path, split=split)  # type: ignore[arg-type]
        cohort.samples[0].files[0][0].write_bytes(b"changed")
    test, train = nodule_cohort(tmp_path / "x", split="test"), cohort
    test.samples[0].files[0][0].write_bytes(b"changed")
    result = evaluate_model(evaluate_order(plan, ref), tmp_path / "model", test, progress=silent)
    assert result.failed == 1
    assert test.samples[0].key not in result.scores.keys
    with pytest.raises(ImageChanged):
        train_round(
            train_order(plan, ref),
            tmp_path / "model",
            train,
            site_id="north",
            update_path=tmp_path / "update",
            progress=silent,
        )
    assert not (tmp_path / "update").exists()


def test_base_model_of_another_order_is_refused(tmp_path: Path) -> None:
    plan = run_plan()
    write_initial_model(plan, tmp_path / "model")
    other = write_initial_model(run_plan(seed=8), tmp_path / "other")
    with pytest.raises(DigestMismatch):
        train_round(
            train_order(plan, other),
            tmp_path / "model",
            nodule_cohort(tmp_path),
            site_id="north",
            update_path=tmp_path / "update",
            progress=silent,
        )
    with pytest.raises(DigestMismatch):
        evaluate_model(
            evaluate_order(plan, other),
            tmp_path / "model",
            nodule_cohort(tmp_path, split="test"),
            progress=silent,
        )


def test_diverging_round_leaves_no_update(tmp_path: Path) -> None:
    plan = run_plan(train={"optimizer": "sgd", "lr": "1", "momentum": "0.99"})
    base = write_initial_model(plan, tmp_path / "base")
    huge = {
        spec.name: np.asarray(value) * np.float32(1e19)
        for spec, value in PackedReader(tmp_path / "base").tensors()
    }
    ref = write_packed(tmp_path / "huge", huge)
    assert ref.schema_digest == base.schema_digest
    with pytest.raises(TrainingDiverged):
        train_round(
            train_order(plan, ref),
            tmp_path / "huge",
            nodule_cohort(tmp_path),
            site_id="north",
            update_path=tmp_path / "update",
            progress=silent,
        )
    assert not (tmp_path / "update").exists()


def test_only_the_training_split_trains_and_only_the_ordered_split_is_scored(
    tmp_path: Path,
) -> None:
    plan = run_plan()
    ref = write_initial_model(plan, tmp_path / "model")
    test = nodule_cohort(tmp_path, split="test")
    with pytest.raises(TaskUnknown):
        train_round(
            train_order(plan, ref),
            tmp_path / "model",
            test,
            site_id="north",
            update_path=tmp_path / "update",
            progress=silent,
        )
    order = evaluate_order(plan, ref, split="external")
    with pytest.raises(TaskUnknown):
        evaluate_model(order, tmp_path / "model", test, progress=silent)


def test_empty_cohort_is_refused(tmp_path: Path) -> None:
    plan = run_plan()
    ref = write_initial_model(plan, tmp_path / "model")
    empty = replace(nodule_cohort(tmp_path), samples=())
    with pytest.raises(CohortTooSmall):
        train_round(
            train_order(plan, ref),
            tmp_path / "model",
            empty,
            site_id="north",
            update_path=tmp_path / "update",
            progress=silent,
        )


def test_plan_whose_channels_and_slices_differ_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused):
        write_initial_model(run_plan(model={"in_channels": 3}), tmp_path / "model")


def test_private_round_moves_every_tensor_and_never_repeats(tmp_path: Path) -> None:
    plan = run_plan(privacy={"mode": "dp", "n_ref": 8, "sigma": "1"}, train={"lr": "0.1"})
    ref = write_initial_model(plan, tmp_path / "model")
    cohort = nodule_cohort(tmp_path)
    cohort.samples[0].files[0][0].write_bytes(b"changed")  # costs that patient, not the round
    digests = set()
    for index in range(2):
        trained = train_round(
            train_order(plan, ref),
            tmp_path / "model",
            cohort,
            site_id="north",
            update_path=tmp_path / f"update{index}",
            progress=silent,
        )
        assert trained.steps == 4
        digests.add(trained.packed.tensor_digest)
        for _, change in PackedReader(tmp_path / f"update{index}").tensors():
            assert np.isfinite(change).all() and np.any(change)
    assert len(digests) == 2
