"""Federated round at one site: base model in, packed deltas out.

The round is bound to its order: the base must be the blob the order names, the
step count is the plan's, and what leaves is the difference of the trainable
tensors and nothing else. Without privacy the result is reproducible; with it
every step runs in the private engine and the randomness is fresh.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pleura.client.data.cohort import Cohort
from pleura.client.data.dataset import PatientBatches
from pleura.client.errors import CohortTooSmall, ModelRefused, TaskUnknown
from pleura.client.nets.registry import network
from pleura.client.nets.rules import check_model
from pleura.client.privacy.engine import train_dp
from pleura.client.tasks.registry import task_of
from pleura.client.training.loop import Loss, Progress, round_seed, train_plain
from pleura.client.training.weights import arrays_of, deltas, load_arrays, read_arrays
from pleura.common import events
from pleura.common.orders import ModelSpec, PreprocSpec, RunPlan, TaskRef, TrainOrder
from pleura.common.tensors import PackedInfo, write_packed

Entropy = Callable[[int], bytes]
_checked: set[tuple[TaskRef, ModelSpec, PreprocSpec]] = set()  # what passed in this process


@dataclass(frozen=True, slots=True)
class TrainedRound:
    """What a round gave; patient counts are private and stay in the trainer."""

    packed: PackedInfo
    steps: int
    patients: int
    nonfinite_patients: int


def train_round(
    order: TrainOrder,
    base_model: Path,
    cohort: Cohort,
    *,
    site_id: str,
    update_path: Path,
    progress: Progress,
    cache_folder: Path | None = None,
    entropy: Entropy = os.urandom,
) -> TrainedRound:
    """Train one round and write the update to `update_path`.

    Args:
        order: the coordinator's order, already verified.
        base_model: packed model the order names.
        cohort: training split of this site.
        site_id: this site; part of the seed of a round without privacy.
        update_path: where the packed deltas (new - base, float32) go.
        progress: called with (steps done, steps of this round).
        cache_folder: where prepared pictures are kept on the site's volume.
        entropy: source of fresh bytes for the private engine.

    Raises:
        TaskUnknown: task or network is not built in, or the cohort is not for training.
        ModelRefused: the network breaks a model rule or cannot be trained privately.
        DigestMismatch: `base_model` is not the order's.
        TensorsRejected: the base does not fit the network.
        CohortTooSmall: there is no patient.
        TrainingDiverged: loss or weights became non-finite; nothing was written.
        EntropyMissing: the random source failed during a private round.
        PleuraError: without privacy, an image that cannot be read ends the round.
    """
    if cohort.split != "train":
        raise TaskUnknown("only the training split may train")
    if not cohort.samples:
        raise CohortTooSmall("no patient to train on")
    plan = order.plan
    task = task_of(plan)
    model = task.build_model(plan.seed)
    _check_once(plan, model, task.input_shape)
    base = read_arrays(base_model, order.base)
    load_arrays(model, base)
    dataset = task.build_dataset(cohort, cache_folder=cache_folder)
    started = time.monotonic()
    if plan.privacy.mode == "dp":
        steps, nonfinite = _private(order, model, dataset, task.loss, progress, entropy)
    else:
        steps, nonfinite = _plain(order, model, dataset, task.loss, site_id, progress), 0
    events.emit(
        "model.trained", run=order.run_id, round=order.round, site=site_id,
        steps=steps, seconds=time.monotonic() - started,
    )  # fmt: skip
    packed = write_packed(update_path, deltas(arrays_of(model), base))
    return TrainedRound(packed, steps, len(dataset.patients), nonfinite)


def _check_once(plan: RunPlan, model: nn.Module, input_shape: Sequence[int]) -> None:
    """Check the model rules; they depend on the specs and not on the weights.

    Raises:
        ModelRefused: a rule is broken, each time anew.
    """
    specs = (plan.task, plan.model, plan.preproc)
    if specs not in _checked:
        check_model(model, input_shape)
        _checked.add(specs)


def _plain(
    order: TrainOrder,
    model: nn.Module,
    dataset: PatientBatches,
    loss: Loss,
    site_id: str,
    progress: Progress,
) -> int:
    plan = order.plan
    return train_plain(
        model,
        dataset,
        train=plan.train,
        loss=loss,
        seed=round_seed(plan.seed, site_id, order.round),
        rounds_done=order.round - 1,
        total_steps=plan.total_steps,
        progress=progress,
    )


def _private(
    order: TrainOrder,
    model: nn.Module,
    dataset: PatientBatches,
    loss: Loss,
    progress: Progress,
    entropy: Entropy,
) -> tuple[int, int]:
    plan = order.plan
    if not network(plan.model.arch).supports_dp:
        raise ModelRefused("this network cannot be trained with differential privacy")
    outcome = train_dp(
        model,
        dataset,
        privacy=plan.privacy,
        train=plan.train,
        first_step=(order.round - 1) * plan.train.local_steps,
        total_steps=plan.total_steps,
        loss=loss,
        progress=progress,
        entropy=entropy,
    )
    return outcome.steps, outcome.nonfinite_patients
