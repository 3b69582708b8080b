"""Plans, orders and results: closed, bounded, hashed, and refused when parts disagree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pleura.common.orders import (
    FedSpec,
    ModelSpec,
    PreprocSpec,
    PrivacySpec,
    RunPlan,
    TaskRef,
    TrainOrder,
    TrainSpec,
)
from pleura.common.results import MetricValue, patients_bucket
from tests.builders.studies import blob_ref, plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def order_fields(**changes: Any) -> dict[str, Any]:
    the_plan = plan()
    fields: dict[str, Any] = {
        "federation_id": the_plan.federation_id,
        "run_id": the_plan.run_id,
        "round": 1,
        "plan": the_plan,
        "plan_hash": the_plan.digest,
        "base": blob_ref(),
        "nonce": "0" * 32,
        "issued_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
    }
    return {**fields, **changes}


def test_a_plan_survives_its_canonical_bytes() -> None:
    assert RunPlan.model_validate_json(plan().canonical()).digest == plan().digest


@pytest.mark.parametrize(
    "changes",
    [
        {"training_sites": ("site-a", "site-a", "site-b")},
        {"external_sites": ("site-a",)},
        {"fed": FedSpec(rounds=1, min_sites=4)},
        {"train": TrainSpec(lr=Decimal("0.1"), local_steps=1, batch_patients=65)},
        {"fed": FedSpec(rounds=1, min_sites=1, weighting="plan")},
        {"fed": FedSpec(rounds=1, min_sites=1, weights={"site-a": Decimal("0.5")})},
        {"preproc": PreprocSpec(modality="CT", size_px=48)},
        {
            "train": TrainSpec(
                lr=Decimal("0.1"), local_steps=1, batch_patients=8, weight_decay=Decimal("0.1")
            )
        },
        {"seed": -1},
        {"run_id": "../x"},
    ],
)
def test_a_plan_whose_parts_disagree_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        plan(**changes)


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (TaskRef, {"name": "os.system"}),
        (ModelSpec, {"arch": "torchvision.models.resnet18"}),
        (ModelSpec, {"arch": "tiny_cnn_gn", "norm": "batch"}),
        (PreprocSpec, {"modality": "CT", "size_px": 48, "hu_low": 100, "hu_high": 100}),
        (PrivacySpec, {"epsilon": "NaN"}),
        (PrivacySpec, {"epsilon": "21"}),
        (PrivacySpec, {"delta": "0.001"}),
        (PrivacySpec, {"unit": "image"}),
        (TrainSpec, {"lr": "Infinity", "local_steps": 1, "batch_patients": 1}),
    ],
)
def test_a_value_outside_the_list_or_bounds_is_refused(
    model: Any, fields: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        model(**fields)


def test_an_order_must_carry_the_plan_it_hashes() -> None:
    TrainOrder(**order_fields())
    for changes in (
        {"plan_hash": "0" * 64},
        {"plan": plan(seed=8)},
        {"run_id": "run-2"},
        {"federation_id": "other"},
        {"expires_at": NOW},
        {"note": "free text"},
    ):
        with pytest.raises(ValidationError):
            TrainOrder(**order_fields(**changes))


def test_weights_come_from_the_plan_or_are_equal() -> None:
    assert plan().weight_of("site-a") == 1
    weights = {"site-a": "0.5", "site-b": "0.3", "site-c": "0.2"}
    weighted = plan(fed=FedSpec(rounds=1, min_sites=1, weighting="plan", weights=weights))
    assert weighted.weight_of("site-b") == Decimal("0.3")
    assert plan().total_steps == 12


@given(st.integers(0, 10**7))
def test_a_bucket_holds_its_number_and_nothing_finer(count: int) -> None:
    bucket = patients_bucket(count)
    if bucket.startswith("<"):
        assert count < int(bucket[1:])
    elif bucket.endswith("+"):
        assert count >= int(bucket[:-1])
    else:
        low, high = map(int, bucket.split("-"))
        assert low <= count <= high
        assert high - low + 1 >= 10


def test_a_metric_has_a_value_or_a_reason() -> None:
    MetricValue(name="auroc", value=0.5)
    for fields in ({}, {"value": 0.5, "reason": "one_class"}, {"value": float("nan")}):
        with pytest.raises(ValidationError):
            MetricValue(name="auroc", **fields)
