"""Plain training loop: seeded, reproducible, with the patient as the unit of a batch.

Same network, data, spec and seed give the same bytes. A batch is a set of
patients; each contributes the mean loss over at most `images_per_patient` of its
images, so a patient with many images weighs no more than one with few. This
loop protects nothing; the private one is `pleura.client.privacy.engine`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from pleura.client.data.dataset import PatientBatches
from pleura.client.errors import CohortTooSmall, TrainingDiverged
from pleura.client.training.schedule import learning_rate
from pleura.common.orders import TrainSpec

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
Progress = Callable[[int, int], None]
_SEED_LABEL: Final = "pleura-train-v1"


def round_seed(plan_seed: int, site_id: str, round_number: int) -> int:
    """Return the 64-bit seed of one round at one site: first 8 bytes of a SHA-256."""
    text = f"{_SEED_LABEL}\n{plan_seed}\n{site_id}\n{round_number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@contextmanager
def deterministic() -> Iterator[None]:
    """Make torch refuse operations without a reproducible implementation, then restore."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def build_optimizer(model: nn.Module, train: TrainSpec) -> torch.optim.Optimizer:
    """Return the optimiser of the spec over all trainable tensors."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    lr, decay = float(train.lr), float(train.weight_decay)
    if train.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=lr, momentum=float(train.momentum), weight_decay=decay)


def patient_batches(
    patients: tuple[str, ...], size: int, steps: int, rng: np.random.Generator
) -> Iterator[tuple[str, ...]]:
    """Yield `steps` batches of at most `size` patients; everyone once before anyone twice."""
    size = min(size, len(patients))
    queue: list[int] = []
    for _ in range(steps):
        if len(queue) < size:
            left = set(queue)  # they come last in the new order, so never twice in one batch
            order = sorted(rng.permutation(len(patients)).tolist(), key=left.__contains__)
            queue += order
        chosen, queue = queue[:size], queue[size:]
        yield tuple(patients[index] for index in chosen)


def train_plain(
    model: nn.Module,
    dataset: PatientBatches,
    *,
    train: TrainSpec,
    loss: Loss,
    seed: int,
    rounds_done: int,
    total_steps: int,
    progress: Progress,
) -> int:
    """Train `model` in place for one round and return the number of steps.

    Args:
        model: the network, already holding the round's base weights.
        dataset: training patients of this site.
        train: the plan's training spec.
        loss: the task's loss a sample.
        seed: from `round_seed`.
        rounds_done: earlier rounds of this run, for the schedule.
        total_steps: rounds x local_steps of the plan.
        progress: called with (steps done, steps of this round).

    Raises:
        CohortTooSmall: there is no patient.
        TrainingDiverged: a loss or a weight became non-finite.
        PleuraError: an image cannot be read; see `PatientDataset.load`.
    """
    if not dataset.patients:
        raise CohortTooSmall("no patient to train on")
    rng = np.random.default_rng(seed)
    optimizer = build_optimizer(model, train)
    first = rounds_done * train.local_steps
    batches = patient_batches(tuple(dataset.patients), train.batch_patients, train.local_steps, rng)
    model.train()
    with deterministic():
        for step, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(train, first + step, total_steps)
            optimizer.zero_grad(set_to_none=True)
            value = batch_loss(model, dataset, batch, train, loss, rng)
            if not bool(torch.isfinite(value)):
                raise TrainingDiverged("non-finite loss")
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress(step + 1, train.local_steps)
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise TrainingDiverged("non-finite weights")
    return train.local_steps


def batch_loss(
    model: nn.Module,
    dataset: PatientBatches,
    batch: tuple[str, ...],
    train: TrainSpec,
    loss: Loss,
    rng: np.random.Generator,
) -> Tensor:
    """Return the mean over patients of the mean loss over each one's drawn images."""
    images, labels, masks, weights = [], [], [], []
    for patient in batch:
        available = dataset.count(patient)
        count = min(available, train.images_per_patient)
        chosen = sorted(int(i) for i in rng.choice(available, size=count, replace=False))
        loaded = dataset.load(patient, chosen, rng if train.augment else None)
        images.append(loaded[0])
        labels.append(loaded[1])
        masks.append(loaded[2])
        weights.append(torch.full((count,), 1.0 / (count * len(batch))))
    each = loss(model(torch.cat(images)), torch.cat(labels), torch.cat(masks))
    return (each * torch.cat(weights)).sum()
