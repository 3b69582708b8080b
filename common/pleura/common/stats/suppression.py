"""Suppression: when a site must not state a metric, and what it says instead.

A cell is a number of patients, not images. A metric over two classes needs
`min_cell` patients in each; a missing class is "one class", never 0.5 or NaN
(TASKS.md section 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from pleura.common.stats.auc import Labels

MIN_CELL_FLOOR: Final = 10
Reason = Literal["", "one_class", "too_few_patients"]


def reason_to_suppress(labels: Labels, patients: Sequence[str], min_cell: int) -> Reason:
    """Return why a two-class metric must not be stated, or an empty text.

    Too few patients comes first, so that a tiny cohort does not tell its class.

    Args:
        labels: outcome of each sample.
        patients: patient of each sample.
        min_cell: fewest patients of a class; never below 10.
    """
    smallest = max(min_cell, MIN_CELL_FLOOR)
    positive = {patient for patient, label in zip(patients, labels, strict=True) if label}
    negative = {patient for patient, label in zip(patients, labels, strict=True) if not label}
    if len(positive | negative) < smallest:
        return "too_few_patients"
    if not positive or not negative:
        return "one_class"
    if min(len(positive), len(negative)) < smallest:
        return "too_few_patients"
    return ""
