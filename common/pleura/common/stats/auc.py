"""Ranking and probability metrics of a binary score. numpy only.

Ties count half. Every function wants both classes; what to say when one is
missing is decided by `suppression`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.bool_]
Scores = NDArray[np.float64]


def midranks(values: Scores) -> Scores:
    """Return ranks from 1, ties sharing the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Scores = (last - (counts - 1) / 2.0)[inverse]
    return ranks


def auroc(labels: Labels, scores: Scores) -> float:
    """Return the area under the ROC curve: P(positive above negative), ties half.

    Raises:
        ValueError: only one class is present.
    """
    positives, negatives = _both_classes(labels)
    rank_sum = float(midranks(scores)[labels].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)


def auprc(labels: Labels, scores: Scores) -> float:
    """Return average precision: sum of precision times the step in recall.

    Equal scores are one threshold.

    Raises:
        ValueError: only one class is present.
    """
    positives, _ = _both_classes(labels)
    true, predicted = _cumulative(labels, scores)
    precision = true / predicted
    recall = true / positives
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def brier(labels: Labels, scores: Scores) -> float:
    """Return the mean squared difference between probability and outcome."""
    return float(np.mean((scores - labels) ** 2))


def operating_threshold(labels: Labels, scores: Scores, sensitivity: float) -> float:
    """Return the highest threshold whose sensitivity (score >= threshold) is enough.

    Raises:
        ValueError: only one class is present.
    """
    positives, _ = _both_classes(labels)
    ranked = np.sort(scores[labels])[::-1]
    needed = int(np.ceil(sensitivity * positives - 1e-9))
    return float(ranked[max(needed, 1) - 1])


def specificity_at_sensitivity(labels: Labels, scores: Scores, sensitivity: float) -> float:
    """Return the specificity at the highest threshold that reaches `sensitivity`.

    Raises:
        ValueError: only one class is present.
    """
    threshold = operating_threshold(labels, scores, sensitivity)
    return float(np.mean(scores[~labels] < threshold))


def sensitivity_at(labels: Labels, scores: Scores, threshold: float) -> float:
    """Return the share of positives with score >= threshold.

    Raises:
        ValueError: only one class is present.
    """
    _both_classes(labels)
    return float(np.mean(scores[labels] >= threshold))


def specificity_at(labels: Labels, scores: Scores, threshold: float) -> float:
    """Return the share of negatives with score < threshold.

    Raises:
        ValueError: only one class is present.
    """
    _both_classes(labels)
    return float(np.mean(scores[~labels] < threshold))


def _both_classes(labels: Labels) -> tuple[int, int]:
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        raise ValueError("one class only")
    return positives, negatives


def _cumulative(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    """Return true positives and predictions at each distinct threshold, falling."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    true = np.cumsum(labels[order])[ends].astype(np.float64)
    return true, (ends + 1).astype(np.float64)
