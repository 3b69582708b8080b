"""Plain loop: patients as units, seeds that follow the order, one schedule for the run."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pleura.client.errors import CohortTooSmall, TrainingDiverged
from pleura.client.tasks.protocol import masked_bce
from pleura.client.tasks.registry import task_of
from pleura.client.training.loop import (
    batch_loss,
    build_optimizer,
    patient_batches,
    round_seed,
    train_plain,
)
from pleura.client.training.schedule import learning_rate
from pleura.client.training.weights import arrays_of, deltas, load_arrays
from pleura.common.errors import TensorsRejected
from pleura.common.orders import TrainSpec
from tests.builders.training import nodule_cohort, run_plan, silent

torch.set_num_threads(1)


class ToyBatches:
    """Patients whose images are constants; patient `a` has many, `b` one."""

    def __init__(self, values: dict[str, list[float]]) -> None:
        self.values = values

    @property
    def patients(self) -> Sequence[str]:
        return tuple(self.values)

    def count(self, patient: str) -> int:
        return len(self.values[patient])

    def load(
        self, patient: str, indices: Sequence[int], augment_rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        images = torch.tensor([[self.values[patient][index]] for index in indices])
        return images, torch.ones(len(indices)), torch.ones(len(indices))


class Identity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.scale)[:, 0]


def spec(**changes: object) -> TrainSpec:
    values = {"lr": Decimal("0.1"), "local_steps": 3, "batch_patients": 2, "augment": False}
    return TrainSpec.model_validate({**values, **changes})


def test_patient_with_many_images_weighs_as_much_as_one_with_few() -> None:
    data = ToyBatches({"a": [3.0] * 16, "b": [-1.0]})
    rng = np.random.default_rng(0)
    value = batch_loss(Identity(), data, ("a", "b"), spec(images_per_patient=8), masked_bce, rng)
    each = masked_bce(torch.tensor([3.0, -1.0]), torch.ones(2), torch.ones(2))
    assert value.item() == pytest.approx(each.mean().item(), abs=1e-6)


def test_every_patient_comes_once_before_any_comes_twice() -> None:
    patients = tuple(f"p{number}" for number in range(7))
    batches = list(patient_batches(patients, 3, 7, np.random.default_rng(1)))
    drawn = [patient for batch in batches for patient in batch]
    for start in (0, 7, 14):
        assert sorted(drawn[start : start + 7]) == sorted(patients)
    assert all(len(set(batch)) == 3 for batch in batches)


def test_small_cohort_gives_batches_of_everyone() -> None:
    batches = list(patient_batches(("a", "b"), 32, 3, np.random.default_rng(1)))
    assert [sorted(batch) for batch in batches] == [["a", "b"]] * 3


def test_seed_of_a_round_is_pinned_and_separates_sites_and_rounds() -> None:
    assert round_seed(7, "north", 1) == 17_307_754_201_264_937_889
    seeds = {round_seed(*key) for key in [(7, "north", 1), (8, "north", 1), (7, "south", 1)]}
    assert len(seeds | {round_seed(7, "north", 2)}) == 4


def test_cosine_falls_over_the_whole_run_and_constant_stays() -> None:
    cosine = spec(schedule="cosine")
    rates = [learning_rate(cosine, step, 40) for step in range(41)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[20] == pytest.approx(0.05)
    assert rates[40] == pytest.approx(0.0, abs=1e-12)
    assert rates == sorted(rates, reverse=True)
    assert {learning_rate(spec(), step, 40) for step in (0, 20, 39)} == {0.1}


def test_rounds_continue_the_schedule_of_the_run(tmp_path: Path) -> None:
    task = task_of(run_plan())
    data = task.build_dataset(nodule_cohort(tmp_path))
    moved = []
    for done in (0, 9):
        model = task.build_model(1)
        before = arrays_of(model)
        train_plain(
            model,
            data,
            train=spec(schedule="cosine", lr="0.01"),
            loss=task.loss,
            seed=1,
            rounds_done=done,
            total_steps=30,
            progress=silent,
        )
        change = deltas(arrays_of(model), before)
        moved.append(float(sum(np.abs(value).sum() for value in change.values())))
    assert moved[1] < 0.2 * moved[0]


def test_optimisers_follow_the_spec() -> None:
    model = Identity()
    sgd = build_optimizer(model, spec(momentum="0.9", weight_decay="0.01"))
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.9, 0.01)
    adamw = build_optimizer(model, spec(optimizer="adamw"))
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["weight_decay"] == 0.0


def run(data: ToyBatches, **changes: object) -> int:
    return train_plain(
        Identity(),
        data,
        train=spec(**changes),
        loss=masked_bce,
        seed=1,
        rounds_done=0,
        total_steps=3,
        progress=silent,
    )


def test_progress_counts_the_steps_of_the_round() -> None:
    seen: list[tuple[int, int]] = []
    train_plain(
        Identity(),
        ToyBatches({"a": [1.0]}),
        train=spec(),
        loss=masked_bce,
        seed=1,
        rounds_done=0,
        total_steps=3,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_cohort_without_patients_is_refused() -> None:
    with pytest.raises(CohortTooSmall):
        run(ToyBatches({}))


def test_non_finite_loss_ends_the_round() -> None:
    with pytest.raises(TrainingDiverged, match="loss"):
        run(ToyBatches({"a": [float("nan")]}))


def test_weights_that_do_not_fit_change_nothing() -> None:
    model = Identity()
    bad = [
        {},
        {"scale": np.ones(2, dtype=np.float32)},
        {"scale": np.full(1, np.nan, dtype=np.float32)},
        {"scale": np.zeros(1, dtype=np.float32), "more": np.zeros(1, dtype=np.float32)},
    ]
    for arrays in bad:
        with pytest.raises(TensorsRejected):
            load_arrays(model, arrays)
        assert model.scale.item() == 1.0
    load_arrays(model, {"scale": np.full(1, 2, dtype=np.float32)})
    assert model.scale.item() == 2.0


def test_non_finite_difference_is_refused() -> None:
    base = {"scale": np.zeros(1, dtype=np.float32)}
    with pytest.raises(TrainingDiverged):
        deltas({"scale": np.full(1, np.inf, dtype=np.float32)}, base)
