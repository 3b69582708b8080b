"""Metrics that leave a site: no exact number of patients can be read from them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pleura.client.validation.evaluate import metrics_of
from pleura.client.validation.scores import Scores
from pleura.common.orders import EvalSpec

POSITIVE, NEGATIVE = 137, 163


def scores() -> Scores:
    rng = np.random.default_rng(5)
    labels = [1] * POSITIVE + [0] * NEGATIVE
    keys = tuple(f"k{n:03}" for n in range(len(labels)))
    values = np.clip(0.4 * np.array(labels) + rng.uniform(0, 0.7, len(labels)), 0, 1)
    return Scores(
        keys=keys,
        patients=keys,
        labels=tuple(labels),
        probabilities=tuple(float(v) for v in values),
    )


def test_metrics_leave_with_three_decimals_and_their_intervals_still_hold_them() -> None:
    found = metrics_of(scores(), EvalSpec(bootstrap=200), seed=1)
    for metric in found:
        assert metric.value is not None and metric.low is not None and metric.high is not None
        for value in (metric.value, metric.low, metric.high):
            assert value == round(value, 3)
        assert metric.low <= metric.value <= metric.high


def test_the_number_of_positive_patients_cannot_be_read_from_the_sensitivity() -> None:
    found = metrics_of(scores(), EvalSpec(bootstrap=200), seed=1)
    (value,) = (m.value for m in found if m.name == "sensitivity")
    assert value is not None
    assert Fraction(value).limit_denominator(500).denominator != POSITIVE
    fitting = [n for n in range(100, 200) if abs(round(value * n) / n - value) <= 0.0005]
    assert len(fitting) > 5  # of the bucket 100-199
