"""Binary task: one logit an image, known or unknown label; base of the built-in tasks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pleura.client.data.cohort import Cohort
from pleura.client.data.dataset import PatientDataset
from pleura.client.data.preprocess import Picture
from pleura.client.errors import ModelRefused, TaskUnknown
from pleura.client.nets.registry import build_network, input_shape
from pleura.client.tasks.protocol import TaskSpec, masked_bce
from pleura.common.orders import ModelSpec, PreprocSpec


class BinaryTask:
    """A question with one yes-or-no label an image."""

    name: ClassVar[str]
    version: ClassVar[int]
    spec: ClassVar[TaskSpec]

    def __init__(self, model: ModelSpec, preproc: PreprocSpec) -> None:
        """Bind the task to a plan.

        Raises:
            ModelRefused: network, preprocessing and task contradict each other.
        """
        if preproc.modality != self.spec.modality:
            raise ModelRefused("the modality of the plan is not that of the task")
        if self.spec.unit == "image" and preproc.slices != 1:
            raise ModelRefused("a radiograph has one plane")
        self.model = model
        self.preproc = preproc
        self._input_shape = input_shape(model, preproc)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image as the network takes it, without the batch axis."""
        return self._input_shape

    def build_dataset(self, cohort: Cohort, *, cache_folder: Path | None = None) -> PatientDataset:
        """Return the cohort as a dataset indexed by patient.

        Raises:
            TaskUnknown: the cohort was made for another task.
        """
        if cohort.task != self.name:
            raise TaskUnknown("the cohort belongs to another task")
        return PatientDataset(
            cohort,
            self.preproc,
            self.input_shape,
            augment=self.augment,
            cache_folder=cache_folder,
        )

    def build_model(self, seed: int) -> nn.Module:
        """Return the network of the plan with initial weights from `seed`."""
        return build_network(self.model, seed)

    def augment(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """Return the picture as it is; tasks override this."""
        del rng
        return picture

    def loss(self, out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Return the masked binary cross-entropy of each sample, shape [B]."""
        return masked_bce(out, target, mask)

    def predict(self, out: Tensor) -> Tensor:
        """Return the probability of the positive class, shape [B]."""
        return torch.sigmoid(out)
