"""Statistics: scikit-learn as the oracle, patients as the unit, small cells withheld."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from pleura.common.stats.auc import (
    auprc,
    auroc,
    brier,
    operating_threshold,
    sensitivity_at,
    specificity_at,
    specificity_at_sensitivity,
)
from pleura.common.stats.bootstrap import cluster_bootstrap
from pleura.common.stats.suppression import reason_to_suppress


def draw(seed: int, levels: int, size: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of both classes and scores with ties where `levels` is small."""
    rng = np.random.default_rng(seed)
    labels = rng.random(size) < 0.4
    labels[:2] = (True, False)
    scores = np.round((rng.random(size) + 0.5 * labels) / 1.5 * levels) / levels
    return labels, scores


@pytest.mark.parametrize("levels", [1, 4, 20, 10**6])
@pytest.mark.parametrize("seed", range(10))
def test_metrics_equal_the_oracle(seed: int, levels: int) -> None:
    labels, scores = draw(seed, levels)
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert auprc(labels, scores) == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )
    assert brier(labels, scores) == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)


@pytest.mark.parametrize("levels", [1, 4, 10**6])
@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.9, 1.0])
def test_specificity_at_sensitivity_is_the_best_point_of_the_curve(
    levels: int, wanted: float
) -> None:
    labels, scores = draw(3, levels)
    false_rate, true_rate, _ = roc_curve(labels, scores, drop_intermediate=False)
    best = max(1 - f for f, t in zip(false_rate, true_rate, strict=True) if t >= wanted - 1e-9)
    assert specificity_at_sensitivity(labels, scores, wanted) == pytest.approx(best, abs=1e-12)
    threshold = operating_threshold(labels, scores, wanted)
    assert sensitivity_at(labels, scores, threshold) >= wanted - 1e-9
    assert specificity_at(labels, scores, threshold) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("metric", [auroc, auprc])
@pytest.mark.parametrize("label", [True, False])
def test_one_class_is_an_error_not_a_number(metric: object, label: bool) -> None:
    labels = np.full(5, label)
    with pytest.raises(ValueError, match="one class"):
        metric(labels, np.linspace(0, 1, 5))  # type: ignore[operator]


def test_perfect_and_useless_scores() -> None:
    labels = np.array([False, False, True, True])
    assert auroc(labels, np.array([0.1, 0.2, 0.8, 0.9])) == 1.0
    assert auroc(labels, np.full(4, 0.3)) == 0.5


def patients_of(labels: np.ndarray, images: int) -> list[str]:
    return [f"p{index // images}" for index in range(len(labels))]


def test_interval_follows_the_seed_and_holds_the_estimate() -> None:
    labels, scores = draw(1, 10**6, size=200)
    patients = patients_of(labels, 1)
    intervals = [
        cluster_bootstrap({"a": auroc}, labels, scores, patients, replicates=300, seed=seed)["a"]
        for seed in (1, 1, 2)
    ]
    assert intervals[0] == intervals[1] != intervals[2]
    assert intervals[0].low < auroc(labels, scores) < intervals[0].high


def test_copies_of_a_patient_do_not_narrow_the_interval() -> None:
    labels, scores = draw(1, 10**6, size=80)
    once = cluster_bootstrap(
        {"a": auroc}, labels, scores, patients_of(labels, 1), replicates=400, seed=1
    )["a"]
    many = np.repeat(labels, 9), np.repeat(scores, 9)
    clustered = cluster_bootstrap(
        {"a": auroc}, *many, patients_of(many[0], 9), replicates=400, seed=1
    )["a"]
    naive = cluster_bootstrap({"a": auroc}, *many, patients_of(many[0], 1), replicates=400, seed=1)[
        "a"
    ]
    width = once.high - once.low
    assert clustered.high - clustered.low == pytest.approx(width, rel=0.1)
    assert naive.high - naive.low < 0.5 * width


def test_bootstrap_of_one_class_ends_with_an_error() -> None:
    labels = np.ones(20, dtype=bool)
    with pytest.raises(ValueError, match="one class"):
        cluster_bootstrap(
            {"a": auroc},
            labels,
            np.linspace(0, 1, 20),
            patients_of(labels, 1),
            replicates=5,
            seed=0,
        )


def test_bootstrap_covers_the_true_value() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(60):
        labels = np.repeat(rng.random(60) < 0.5, 2)
        labels[:4] = (True, True, False, False)
        scores = labels * 1.0 + np.repeat(rng.normal(size=60), 2) + 0.3 * rng.normal(size=120)
        interval = cluster_bootstrap(
            {"a": auroc}, labels, scores, patients_of(labels, 2), replicates=200, seed=seed
        )["a"]
        truth = 0.7509  # P(N(1, 1.09) > N(0, 1.09)) = Phi(1 / sqrt(2.18))
        hits += interval.low <= truth <= interval.high
    assert hits >= 50


def cells(positive: int, negative: int, images: int = 1) -> tuple[np.ndarray, list[str]]:
    labels = np.repeat(np.array([True] * positive + [False] * negative), images)
    return labels, patients_of(labels, images)


@pytest.mark.parametrize(
    ("positive", "negative", "reason"),
    [
        (10, 10, ""),
        (9, 50, "too_few_patients"),
        (50, 9, "too_few_patients"),
        (0, 9, "too_few_patients"),
        (0, 50, "one_class"),
        (50, 0, "one_class"),
        (0, 0, "too_few_patients"),
    ],
)
def test_small_cells_are_withheld(positive: int, negative: int, reason: str) -> None:
    labels, patients = cells(positive, negative)
    assert reason_to_suppress(labels, patients, 10) == reason


def test_images_do_not_count_as_patients() -> None:
    labels, patients = cells(5, 5, images=4)
    assert reason_to_suppress(labels, patients, 10) == "too_few_patients"


def test_floor_of_ten_cannot_be_lowered() -> None:
    labels, patients = cells(9, 30)
    assert reason_to_suppress(labels, patients, 1) == "too_few_patients"
    assert reason_to_suppress(*cells(15, 30), 20) == "too_few_patients"
