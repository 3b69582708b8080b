"""Scores: one probability a labelled sample, for the site's own eyes only.

They never enter a message; the evaluation statement carries metrics alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from pleura.client.data.dataset import PatientDataset
from pleura.client.errors import ImageChanged, ImageUnreadable, ImageUnsupported, StackRefused
from pleura.client.tasks.protocol import Task

Progress = Callable[[int, int], None]
CHUNK = 32


@dataclass(frozen=True, slots=True)
class Scores:
    """Parallel tuples over labelled samples, by patient and key."""

    patients: tuple[str, ...]
    keys: tuple[str, ...]
    labels: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores and how many samples could not be read."""

    scores: Scores
    failed: int


def score(model: nn.Module, task: Task, dataset: PatientDataset, progress: Progress) -> Scored:
    """Return the probability of every sample whose label is known.

    A sample that cannot be decoded is counted, never scored and never guessed.

    Args:
        model: the network holding the weights to evaluate.
        task: gives the probability of a logit.
        dataset: samples to score.
        progress: called with (samples done, samples).
    """
    rows = [
        (patient, index, sample)
        for patient in dataset.patients
        for index, sample in enumerate(dataset.samples(patient))
        if sample.label in (0, 1)
    ]
    kept: list[tuple[str, str, int]] = []
    probabilities: list[float] = []
    pending: list[torch.Tensor] = []
    failed = 0
    model.eval()
    for done, (patient, index, sample) in enumerate(rows, start=1):
        try:
            pending.append(dataset.load(patient, (index,), None)[0])
            kept.append((patient, sample.key, sample.label))
        except (ImageChanged, ImageUnreadable, ImageUnsupported, StackRefused):
            failed += 1
        if pending and (len(pending) == CHUNK or done == len(rows)):
            with torch.inference_mode():
                probabilities += task.predict(model(torch.cat(pending)).double()).tolist()
            pending = []
            progress(done, len(rows))
    scores = Scores(
        patients=tuple(patient for patient, _, _ in kept),
        keys=tuple(key for _, key, _ in kept),
        labels=tuple(label for _, _, label in kept),
        probabilities=tuple(probabilities),
    )
    return Scored(scores, failed)
