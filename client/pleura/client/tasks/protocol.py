"""Task protocol: what an imaging question must define to be trained and validated here.

A task is chosen by name from a closed registry and bound to the plan's network
and preprocessing. Its loss gives one value a sample, never a scalar: clipping by
patient and label masks rest on that (TASKS.md section 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pleura.client.data.cohort import Cohort
from pleura.client.data.dataset import PatientDataset
from pleura.client.data.preprocess import Picture


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What the question is: its positive class, its unit, and what a label must rest on."""

    name: str
    version: int
    modality: Literal["CXR", "CT"]
    unit: Literal["image", "stack"]
    positive: str  # text of the positive class
    reference_standard: str


class Task(Protocol):
    """One built-in task, bound to the specs of a plan."""

    name: ClassVar[str]
    version: ClassVar[int]
    spec: ClassVar[TaskSpec]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image as the network takes it, without the batch axis."""
        ...

    def build_dataset(self, cohort: Cohort, *, cache_folder: Path | None = None) -> PatientDataset:
        """Return the cohort of one split as a dataset indexed by patient."""
        ...

    def build_model(self, seed: int) -> nn.Module:
        """Return the network of the plan with initial weights from `seed`."""
        ...

    def augment(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """Return the picture changed at random in ways that keep its label true."""
        ...

    def loss(self, out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Return one finite value a sample, shape [B]; 0 where no label is known."""
        ...

    def predict(self, out: Tensor) -> Tensor:
        """Return the probability of the positive class, shape [B]."""
        ...


def masked_bce(out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return binary cross-entropy on logits a sample, averaged over its known labels.

    Args:
        out: logits, [B] or [B, labels].
        target: 0 or 1, same shape; ignored where the label is unknown.
        mask: 1 where the label is known, same shape.

    Returns:
        sum(mask * loss) / max(1, sum(mask)) of each sample, shape [B].
    """
    known = mask > 0
    each = functional.binary_cross_entropy_with_logits(
        out, torch.where(known, target, torch.zeros_like(target)), reduction="none"
    )
    each = torch.where(known, each, torch.zeros_like(each))
    if out.ndim == 1:
        return each
    counts = known.to(each.dtype).flatten(1).sum(dim=1).clamp(min=1.0)
    return each.flatten(1).sum(dim=1) / counts
