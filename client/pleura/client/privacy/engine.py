"""DP-SGD engine: trains one round so that no patient's presence shows beyond the budget.

The unit is one patient with all images. A step samples patients at the public
rate B / N_ref, clips each one's gradient of the mean loss, adds noise, and
divides by the public B. Number of steps, learning rate, normaliser and memory
use follow from the plan alone; optimiser state sees only the noisy sum. A
patient whose images cannot be read or whose gradient is not finite adds zero,
and the step goes on. What the steps cost is `budget`; whether they may run, too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pleura.client.data.dataset import PatientBatches
from pleura.client.errors import ModelRefused, PolicyRefused, TrainingDiverged
from pleura.client.nets.rules import check_modules
from pleura.client.privacy.noise import StepStreams, add_noise, step_streams
from pleura.client.privacy.sampler import sample_images, sample_patients
from pleura.client.training.schedule import learning_rate
from pleura.common.orders import PrivacySpec, TrainSpec

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
CLIP_SLACK: Final = 1.0 - 2.0**-20  # a clipped gradient stays below C after rounding to fp32


@dataclass(frozen=True, slots=True)
class DpOutcome:
    """What a round did. The counts of patients are private: they never leave the trainer."""

    steps: int
    nonfinite_patients: int
    sampled_patients: int


@dataclass(frozen=True, slots=True)
class PatientImages:
    """Images [k, ...], labels [k] and mask [k] of one patient in one step."""

    images: Tensor
    labels: Tensor
    mask: Tensor


class ClippedSum(Protocol):
    """One way to compute the sum of clipped patient gradients; `clipped_sum` is the default."""

    def __call__(
        self,
        model: nn.Module,
        patients: Iterable[PatientImages | None],
        loss: Loss,
        clip: float,
        into: Sequence[Tensor],
    ) -> int:
        """Add each patient's clipped gradient to `into` and return how many added zero.

        Args:
            model: the network; its parameters are not changed.
            patients: one entry a sampled patient, None where loading failed.
            loss: one value a sample.
            clip: bound C on the norm of each patient's contribution.
            into: fp64, one tensor a trainable parameter, of its shape.
        """
        ...


def train_dp(
    model: nn.Module,
    data: PatientBatches,
    *,
    privacy: PrivacySpec,
    train: TrainSpec,
    first_step: int,
    total_steps: int,
    loss: Loss,
    progress: Callable[[int, int], None],
    entropy: Callable[[int], bytes] = os.urandom,
    clipped: ClippedSum | None = None,
) -> DpOutcome:
    """Train `model` in place for `train.local_steps` private steps.

    The budget must already hold these steps: they count as spent from the first.

    Args:
        model: network with the round's base weights.
        data: training patients of this site.
        privacy: clip norm C, noise multiplier and N_ref of the plan.
        train: optimiser, schedule, B and K of the plan.
        first_step: steps of this run done in earlier rounds, for the schedule.
        total_steps: rounds x local_steps of the plan.
        loss: one value a sample; a patient's loss is the mean over the drawn images.
        progress: called with (steps done, steps of this round).
        entropy: source of secret bytes.
        clipped: engine for the clipped sum; the loop if absent.

    Raises:
        PolicyRefused: the plan is not a private one.
        ModelRefused: the network has state beside its parameters, or is not float32.
        TrainingDiverged: a weight became non-finite; the budget stays spent.
        EntropyMissing: the random source failed.
    """
    if privacy.mode != "dp" or train.weight_decay > 0:
        raise PolicyRefused("the plan does not ask for private training")
    check_modules(model)
    parameters = trainable(model)
    optimizer = _optimizer(parameters, train)
    buffer = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    buffer = buffer.to(parameters[0].device)
    into = _views(buffer, parameters)
    clip, std = float(privacy.clip), float(privacy.sigma) * float(privacy.clip)
    engine = clipped or clipped_sum
    model.train()
    nonfinite = sampled = 0
    for step in range(train.local_steps):
        streams = step_streams(entropy)
        chosen = sample_patients(data.patients, train.batch_patients, privacy.n_ref, streams.sample)
        buffer.zero_()
        drawn = _drawn(data, chosen, train, streams, buffer.device)
        nonfinite += engine(model, drawn, loss, clip, into)
        sampled += len(chosen)
        gradient = _noisy(buffer, std, streams) / train.batch_patients
        for parameter, part in zip(parameters, _views(gradient, parameters), strict=True):
            parameter.grad = part
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(train, first_step + step, total_steps)
        optimizer.step()
        if not all(bool(torch.isfinite(p).all()) for p in parameters):
            raise TrainingDiverged("non-finite weights")
        progress(step + 1, train.local_steps)
    optimizer.zero_grad(set_to_none=True)
    return DpOutcome(train.local_steps, nonfinite, sampled)


def clipped_sum(
    model: nn.Module,
    patients: Iterable[PatientImages | None],
    loss: Loss,
    clip: float,
    into: Sequence[Tensor],
) -> int:
    """Add clipped gradients patient by patient; works for every layer. See `ClippedSum`."""
    failed = 0
    for patient in patients:
        gradients = None if patient is None else patient_gradient(model, patient, loss)
        if gradients is None or not add_clipped(gradients, clip, into):
            failed += 1
    return failed


def patient_gradient(
    model: nn.Module, patient: PatientImages, loss: Loss
) -> tuple[Tensor, ...] | None:
    """Return the gradient of the patient's mean loss, or None if it cannot be computed."""
    parameters = trainable(model)
    try:
        value = loss(model(patient.images), patient.labels, patient.mask).mean()
        found = torch.autograd.grad(value, parameters, allow_unused=True)
    except Exception:  # noqa: BLE001 - one patient's data must not decide whether a step ends
        return None
    return tuple(
        torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)
    )


def add_clipped(gradients: Sequence[Tensor], clip: float, into: Sequence[Tensor]) -> bool:
    """Add one patient's gradient, at most `clip` long, to `into`; False if it is not finite."""
    squares = [torch.linalg.vector_norm(g, dtype=torch.float64).square() for g in gradients]
    norm = math.sqrt(float(torch.stack(squares).sum()))
    if not math.isfinite(norm):
        return False
    factor = clip_factor(norm, clip)
    for gradient, total in zip(gradients, into, strict=True):
        total.add_(gradient, alpha=factor)
    return True


def clip_factor(norm: float, clip: float) -> float:
    """Return min(1, clip / norm), a little less when it clips."""
    return 1.0 if norm <= clip else clip / norm * CLIP_SLACK


def trainable(model: nn.Module) -> tuple[nn.Parameter, ...]:
    """Return the trainable parameters in the network's order.

    Raises:
        ModelRefused: there is none, or one is not float32.
    """
    parameters = tuple(p for p in model.parameters() if p.requires_grad)
    if not parameters or any(p.dtype != torch.float32 for p in parameters):
        raise ModelRefused("private training needs float32 parameters")
    return parameters


def _drawn(
    data: PatientBatches,
    chosen: Sequence[str],
    train: TrainSpec,
    streams: StepStreams,
    device: torch.device,
) -> Iterator[PatientImages | None]:
    """Yield the images of each chosen patient, one patient in memory at a time."""
    seed = [int(word) for word in streams.augment.words(4)]
    augment = np.random.default_rng(seed) if train.augment else None
    for patient in chosen:
        try:
            images = sample_images(data.count(patient), train.images_per_patient, streams.subset)
            loaded = data.load(patient, images, augment)
            drawn = PatientImages(*(part.to(device) for part in loaded))
        except Exception:  # noqa: BLE001 - an unreadable patient adds zero, the step goes on
            yield None
        else:
            yield drawn


def _noisy(buffer: Tensor, std: float, streams: StepStreams) -> Tensor:
    """Return the sum plus noise, added in fp64 and rounded once to fp32."""
    total = buffer.cpu()
    add_noise(total.numpy(), std, streams.noise)
    return total.to(torch.float32).to(buffer.device)


def _views(flat: Tensor, parameters: Sequence[nn.Parameter]) -> tuple[Tensor, ...]:
    parts = torch.split(flat, [p.numel() for p in parameters])
    return tuple(part.view(p.shape) for part, p in zip(parts, parameters, strict=True))


def _optimizer(parameters: Sequence[nn.Parameter], train: TrainSpec) -> torch.optim.Optimizer:
    if train.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=float(train.lr), weight_decay=0.0)
    return torch.optim.SGD(parameters, lr=float(train.lr), momentum=float(train.momentum))
