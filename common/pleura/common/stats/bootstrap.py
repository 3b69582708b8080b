"""Patient-clustered bootstrap: intervals that resample patients, never images.

Images of one patient are not independent; resampling them one by one would make
every interval too narrow (TASKS.md section 9). Replicates in which a metric is
not defined (one class drawn) are drawn again, up to a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pleura.common.stats.auc import Labels, Scores

Metric = Callable[[Labels, Scores], float]
LEVEL = 0.95
_MAX_REDRAWS = 20


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval at the 95 % level."""

    low: float
    high: float


def cluster_bootstrap(
    metrics: Mapping[str, Metric],
    labels: Labels,
    scores: Scores,
    patients: Sequence[str],
    *,
    replicates: int,
    seed: int,
) -> dict[str, Interval]:
    """Return the interval of every metric from the same resampled patients.

    Args:
        metrics: functions of (labels, scores); each may raise ValueError on one class.
        labels: outcome of each sample.
        scores: probability of each sample.
        patients: patient of each sample; the resampled unit.
        replicates: number of resamples.
        seed: of the generator; the same seed and data give the same interval.

    Raises:
        ValueError: too few resamples hold both classes.
    """
    rng = np.random.default_rng(seed)
    rows = _rows_by_patient(patients)
    values: dict[str, list[float]] = {name: [] for name in metrics}
    done, tries = 0, 0
    while done < replicates:
        tries += 1
        if tries > _MAX_REDRAWS * replicates:
            raise ValueError("resamples hold one class only")
        drawn = rng.integers(0, len(rows), size=len(rows))
        chosen = np.concatenate([rows[index] for index in drawn])
        picked = labels[chosen]
        if picked.all() or not picked.any():
            continue
        for name, metric in metrics.items():
            values[name].append(metric(picked, scores[chosen]))
        done += 1
    tail = 100.0 * (1.0 - LEVEL) / 2.0
    return {
        name: Interval(float(np.percentile(v, tail)), float(np.percentile(v, 100.0 - tail)))
        for name, v in values.items()
    }


def _rows_by_patient(patients: Sequence[str]) -> list[NDArray[np.int64]]:
    groups: dict[str, list[int]] = {}
    for row, patient in enumerate(patients):
        groups.setdefault(patient, []).append(row)
    return [np.array(groups[patient], dtype=np.int64) for patient in sorted(groups)]
