"""Evaluation of one sealed model on one split: metrics out, scores stay.

Metrics, operating point, bootstrap and seed are the plan's, fixed before any
score exists. Small cells are suppressed here, at the site (TASKS.md section 9).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np

from pleura.client.data.cohort import Cohort
from pleura.client.errors import TaskUnknown, TrainingDiverged
from pleura.client.nets.rules import check_modules
from pleura.client.tasks.registry import task_of
from pleura.client.training.weights import load_arrays, read_arrays
from pleura.client.validation.scores import Scores, score
from pleura.common.orders import EvalSpec, EvaluateOrder
from pleura.common.results import MetricValue
from pleura.common.stats.auc import (
    auprc,
    auroc,
    brier,
    sensitivity_at,
    specificity_at,
    specificity_at_sensitivity,
)
from pleura.common.stats.bootstrap import Metric, cluster_bootstrap
from pleura.common.stats.suppression import reason_to_suppress

Progress = Callable[[int, int], None]
MetricName = Literal[
    "auroc", "auprc", "brier", "sensitivity", "specificity", "specificity_at_sensitivity"
]
METRICS: Final[tuple[MetricName, ...]] = (
    "auroc",
    "auprc",
    "brier",
    "sensitivity",
    "specificity",
    "specificity_at_sensitivity",
)
FIXED_THRESHOLD: Final = 0.5
DECIMALS: Final = 3  # of what leaves


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics for the statement; exact counts and scores for the site alone."""

    metrics: tuple[MetricValue, ...]
    patients: int
    images: int
    failed: int
    scores: Scores


def evaluate_model(
    order: EvaluateOrder,
    model_path: Path,
    cohort: Cohort,
    *,
    progress: Progress,
    cache_folder: Path | None = None,
) -> Evaluation:
    """Score the order's split with the order's model and return the metrics.

    Args:
        order: the coordinator's order, already verified.
        model_path: packed model the order names.
        cohort: the split the order names; at an external site, everything.
        progress: called with (samples done, samples).
        cache_folder: where prepared pictures are kept on the site's volume.

    Raises:
        TaskUnknown: task or network is not built in, or the cohort is another split.
        ModelRefused: the specs contradict each other or break a model rule.
        DigestMismatch: `model_path` is not the order's model.
        TensorsRejected: the weights do not fit the network.
        TrainingDiverged: the model gives a non-finite probability.
    """
    if cohort.split != order.split:
        raise TaskUnknown("the cohort is not the split the order names")
    task = task_of(order.plan)
    model = task.build_model(order.plan.seed)
    check_modules(model)
    load_arrays(model, read_arrays(model_path, order.base))
    dataset = task.build_dataset(cohort, cache_folder=cache_folder)
    scored = score(model, task, dataset, progress)
    if not np.isfinite(scored.scores.probabilities).all():
        raise TrainingDiverged("non-finite probability")
    metrics = metrics_of(scored.scores, order.plan.evaluation, bootstrap_seed(order))
    return Evaluation(
        metrics=metrics,
        patients=len(set(scored.scores.patients)),
        images=len(scored.scores.labels),
        failed=scored.failed,
        scores=scored.scores,
    )


def bootstrap_seed(order: EvaluateOrder) -> int:
    """Return the seed of the intervals: from plan and round, the same for any repeat."""
    text = f"pleura-bootstrap-v1\n{order.plan.seed}\n{order.round}\n{order.split}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def metrics_of(scores: Scores, spec: EvalSpec, seed: int) -> tuple[MetricValue, ...]:
    """Return every metric with its 95 % interval, or the reason why it is withheld.

    Values have three decimals: a proportion written out in full is a fraction from
    which the exact numbers of patients of both classes can be read.
    """
    labels = np.array(scores.labels, dtype=bool)
    values = np.array(scores.probabilities, dtype=np.float64)
    reason = reason_to_suppress(labels, scores.patients, spec.min_cell)
    if reason:
        return tuple(MetricValue(name=name, reason=reason) for name in METRICS)
    functions = _functions(spec)
    intervals = cluster_bootstrap(
        functions, labels, values, scores.patients, replicates=spec.bootstrap, seed=seed
    )
    return tuple(
        MetricValue(
            name=name,
            value=round(functions[name](labels, values), DECIMALS),
            low=round(intervals[name].low, DECIMALS),
            high=round(intervals[name].high, DECIMALS),
            method="cluster_bootstrap",
        )
        for name in METRICS
    )


def _functions(spec: EvalSpec) -> dict[str, Metric]:
    at = float(spec.operating_sensitivity)
    return {
        "auroc": auroc,
        "auprc": auprc,
        "brier": brier,
        "sensitivity": partial(sensitivity_at, threshold=FIXED_THRESHOLD),
        "specificity": partial(specificity_at, threshold=FIXED_THRESHOLD),
        "specificity_at_sensitivity": partial(specificity_at_sensitivity, sensitivity=at),
    }
