"""Splits: which part of a task's data a patient belongs to, for good.

A patient's split follows from the seed and the pseudonym alone, so it does not
depend on order, on other patients or on when the study arrived. No patient is
ever in two splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, Literal

TrainingSplit = Literal["train", "val", "test"]
TRAIN_PERCENT: Final = 70
VAL_PERCENT: Final = 10
# The same for every run: a seed of the plan would let a later run redraw the split and
# evaluate an earlier run's model on the patients it was trained on.
SPLIT_SEED: Final = 1


def split_of(patient: str, seed: int) -> TrainingSplit:
    """Return the split of one patient: 70 % train, 10 % val, 20 % test."""
    digest = hashlib.sha256(f"pleura-split-v1\n{seed}\n{patient}".encode()).digest()
    bucket = int.from_bytes(digest[:8], "big") % 100
    if bucket < TRAIN_PERCENT:
        return "train"
    return "val" if bucket < TRAIN_PERCENT + VAL_PERCENT else "test"


def split_patients(patients: Iterable[str], seed: int) -> dict[str, TrainingSplit]:
    """Return the split of every patient."""
    return {patient: split_of(patient, seed) for patient in patients}
