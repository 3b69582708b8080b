"""The private engine does what PRIVACY.md section 2 says, step by step."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor, nn

from pleura.client.errors import EntropyMissing, ModelRefused, PolicyRefused, TrainingDiverged
from pleura.client.privacy.engine import (
    ClippedSum,
    DpOutcome,
    PatientImages,
    clipped_sum,
    train_dp,
    trainable,
)
from pleura.client.privacy.noise import Stream, derive, step_streams
from pleura.client.privacy.opacus_engine import clipped_sum_opacus
from pleura.client.tasks.protocol import masked_bce
from pleura.common.orders import PrivacySpec, TrainSpec
from tests.builders.patients import (
    MemoryPatients,
    counting_entropy,
    private,
    random_patients,
    small_net,
    steps,
)

torch.set_num_threads(1)
QUIET = Decimal("1e-9")


def run(
    model: nn.Module,
    data: MemoryPatients,
    privacy: PrivacySpec,
    train: TrainSpec,
    *,
    seed: int = 0,
    clipped: ClippedSum | None = None,
    **extra: Any,
) -> DpOutcome:
    arguments: dict[str, Any] = {
        "first_step": 0,
        "total_steps": train.local_steps,
        "loss": masked_bce,
        "progress": lambda done, total: None,
        "entropy": counting_entropy(seed),
    }
    return train_dp(
        model, data, privacy=privacy, train=train, clipped=clipped, **(arguments | extra)
    )


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])


def clipped_reference(model: nn.Module, images: Tensor, labels: Tensor, clip: float) -> Tensor:
    """One patient's clipped gradient by plain autograd in fp64."""
    parameters = list(model.parameters())
    value = masked_bce(model(images), labels, torch.ones(len(labels))).mean()
    flat = torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, parameters)]).double()
    return flat * min(1.0, clip / float(flat.norm()))


# --- the mechanism ---------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_steps_are_those_of_a_plain_reimplementation(optimizer: str) -> None:
    data = random_patients(9, images=3)
    privacy = private(clip=Decimal("0.05"), sigma=Decimal("0.5"), n_ref=10)
    train = steps(
        local_steps=4,
        schedule="cosine",
        optimizer="adamw" if optimizer == "adamw" else "sgd",
        momentum=Decimal("0.9") if optimizer == "momentum" else Decimal(0),
        images_per_patient=4,
        augment=False,
    )
    model, twin = small_net(), small_net()
    run(model, data, privacy, train, first_step=4, total_steps=20)

    theta, entropy = weights(twin).double(), counting_entropy()
    first, second = torch.zeros_like(theta), torch.zeros_like(theta)
    for step in range(4):
        secret = entropy(32)
        words = Stream(derive(secret, "sample")).words(9)
        total = torch.zeros_like(theta)
        for patient, word in zip(data.patients, words, strict=True):
            if int(word) < 5 * 2**64 // 10:
                images, labels, _ = data.load(patient, (0, 1, 2), None)
                total += clipped_reference(twin, images, labels, 0.05)
        noise = Stream(derive(secret, "noise")).normals(len(theta))
        gradient = (total + 0.5 * 0.05 * torch.from_numpy(noise)) / 5
        lr = 0.1 * 0.5 * (1 + math.cos(math.pi * (4 + step) / 20))
        if optimizer == "adamw":
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            scale = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            theta = theta - lr * first / (1 - 0.9 ** (step + 1)) / scale
        else:
            first = (0.9 if optimizer == "momentum" else 0.0) * first + gradient
            theta = theta - lr * first
        nn.utils.vector_to_parameters(theta.float(), twin.parameters())
    tolerance = 2e-4 if optimizer == "adamw" else 1e-6
    assert torch.allclose(weights(model), theta.float(), atol=tolerance, rtol=1e-4)


def test_step_without_gradient_is_pure_noise_of_the_right_strength() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1600, bias=False))  # 102 400 coordinates
    before = weights(model)
    privacy = private(sigma=Decimal("1.5"), clip=Decimal("2"), n_ref=5)
    train = steps(local_steps=1, lr=Decimal(1))
    run(model, random_patients(5), privacy, train, loss=lambda out, y, m: (0 * out).sum(dim=1))
    found = (weights(model) - before).double() * 5 / (1.5 * 2)
    count = len(found)
    assert abs(float(found.std()) - 1) < 0.01
    statistic = float((found**2).sum())
    assert chi2.ppf(0.5e-6, count) < statistic < chi2.ppf(1 - 0.5e-6, count)


def test_seeded_noise_deficit_would_be_found_by_the_same_test() -> None:
    noise = 0.97 * Stream(bytes(32)).normals(102_400)
    assert not chi2.ppf(0.5e-6, 102_400) < float((noise**2).sum())


def test_batch_is_divided_by_the_public_number_not_by_who_came() -> None:
    small, large = random_patients(1), random_patients(1)
    images, labels, _ = small.load("p0000", (0,), None)
    large = large.having("twin", images, labels)
    privacy = private(sigma=QUIET, clip=Decimal("0.01"), n_ref=5)
    moves = []
    for data in (small, large):
        model = small_net()
        before = weights(model)
        run(model, data, privacy, steps(local_steps=1, lr=Decimal(1), augment=False))
        moves.append(float((weights(model) - before).norm()))
    assert moves[0] == pytest.approx(0.01 / 5, rel=1e-3)
    assert moves[1] == pytest.approx(0.02 / 5, rel=1e-3)


def test_empty_sample_is_a_noise_step_that_counts() -> None:
    data, model = random_patients(3), small_net()
    before = weights(model)
    seen: list[tuple[int, int]] = []
    outcome = run(
        model,
        data,
        private(n_ref=10_000_000),
        steps(batch_patients=1, local_steps=3),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert outcome == DpOutcome(3, 0, 0)
    assert data.loads == []
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert float((weights(model) - before).std()) == pytest.approx(0.1 * 3**0.5, rel=0.2)


@pytest.mark.parametrize("count", [0, 1, 40])
def test_number_of_steps_does_not_depend_on_the_data(count: int) -> None:
    draws: list[int] = []
    fresh = counting_entropy()

    def entropy(size: int) -> bytes:
        draws.append(size)
        return fresh(size)

    outcome = run(
        small_net(), random_patients(count), private(), steps(local_steps=4), entropy=entropy
    )
    assert outcome.steps == 4
    assert draws == [32] * 4


def test_same_entropy_gives_the_same_weights_and_other_entropy_others() -> None:
    found = []
    for seed in (1, 1, 2):
        model = small_net()
        run(model, random_patients(6), private(), steps(), seed=seed)
        found.append(weights(model))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_patient_gives_at_most_k_images_and_other_ones_each_step() -> None:
    data = random_patients(1, images=9)
    run(small_net(), data, private(n_ref=5), steps(local_steps=8, images_per_patient=2))
    assert all(len(set(images)) == 2 for _, images in data.loads)
    assert len({images for _, images in data.loads}) > 3


# --- sensitivity ------------------------------------------------------------------

STRANGERS = {
    "loud": torch.full((1, 1, 8, 8), 1e6),
    "infinite": torch.full((1, 1, 8, 8), math.inf),
    "nan pixel": torch.where(torch.arange(64).reshape(1, 1, 8, 8) == 9, math.nan, 0.5),
    "many images": torch.rand((40, 1, 8, 8), generator=torch.Generator().manual_seed(5)),
    "wrong shape": torch.rand(1, 1, 5, 3),
    "unreadable": None,
}


@pytest.mark.parametrize("clipped", [None, clipped_sum_opacus], ids=["loop", "opacus"])
@pytest.mark.parametrize("kind", list(STRANGERS))
def test_one_patient_more_moves_the_weights_by_at_most_the_clip_norm(
    kind: str, clipped: ClippedSum | None
) -> None:
    stranger = STRANGERS[kind]
    labels = torch.zeros(1 if stranger is None else len(stranger))
    base = random_patients(4)
    privacy = private(sigma=Decimal("0.1"), clip=Decimal("0.5"), n_ref=5)
    train = steps(local_steps=1, lr=Decimal(1), images_per_patient=1 if clipped else 4)
    moved = []
    for data in (base, base.having("zz", stranger, labels)):
        model = small_net()
        run(model, data, privacy, train, clipped=clipped)
        moved.append(weights(model).double())
    assert float((moved[1] - moved[0]).norm()) <= 0.5 / 5 + 1e-6
    assert torch.isfinite(moved[1]).all()


@pytest.mark.parametrize("clipped", [None, clipped_sum_opacus], ids=["loop", "opacus"])
@pytest.mark.parametrize("kind", ["infinite", "nan pixel", "wrong shape", "unreadable"])
def test_patient_without_a_finite_gradient_counts_as_zero(
    kind: str, clipped: ClippedSum | None
) -> None:
    stranger = STRANGERS[kind]
    base = random_patients(4)
    train = steps(local_steps=1, images_per_patient=1)
    found, outcomes = [], []
    for data in (base, base.having("zz", stranger, torch.zeros(1))):
        model = small_net()
        outcomes.append(run(model, data, private(n_ref=5), train, clipped=clipped))
        found.append(weights(model))
    assert torch.allclose(found[0], found[1], atol=1e-7)
    assert [o.nonfinite_patients for o in outcomes] == [0, 1]
    assert [o.steps for o in outcomes] == [1, 1]


def test_hundred_duplicates_of_a_patient_count_a_hundred_times_the_clip_norm_at_most() -> None:
    images, labels, _ = random_patients(1).load("p0000", (0,), None)
    data = MemoryPatients({str(n): (images * 1e6, labels) for n in range(100)})
    model = small_net()
    before = weights(model)
    run(model, data, private(sigma=QUIET, n_ref=5), steps(local_steps=1, lr=Decimal(1)))
    assert 19.9 < float((weights(model) - before).norm()) <= 20.0 + 1e-4


def test_loss_that_raises_for_one_patient_does_not_stop_the_step() -> None:
    def loss(out: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if float(target.sum()) > 1.5:
            raise RuntimeError("boom")
        return masked_bce(out, target, mask)

    data = random_patients(3).having("zz", torch.rand(2, 1, 8, 8), torch.ones(2))
    outcome = run(small_net(), data, private(n_ref=5), steps(local_steps=1), loss=loss)
    assert outcome.nonfinite_patients >= 1
    assert outcome.steps == 1


# --- engines agree ----------------------------------------------------------------


def test_loop_opacus_and_brute_force_give_the_same_clipped_sum() -> None:
    model, data = small_net(), random_patients(20)
    norm = float(clipped_reference(model, *data.load("p0000", (0,), None)[:2], 1e9).norm())
    reference = torch.zeros(len(weights(model)), dtype=torch.float64)
    for patient in data.patients:
        images, labels, _ = data.load(patient, (0,), None)
        reference += clipped_reference(model, images, labels, norm)  # clips some, not all
    for engine in (clipped_sum, clipped_sum_opacus):
        into = [torch.zeros(p.shape, dtype=torch.float64) for p in trainable(model)]
        loaded = [patient_of(data, name) for name in data.patients]
        assert engine(model, loaded, masked_bce, norm, into) == 0
        found = torch.cat([t.reshape(-1) for t in into])
        assert float((found - reference).norm() / reference.norm()) <= 2e-3


def patient_of(data: MemoryPatients, name: str) -> PatientImages:
    return PatientImages(*data.load(name, (0,), None))


def test_opacus_engine_leaves_the_network_as_it_was() -> None:
    model = small_net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    into = [torch.zeros(p.shape, dtype=torch.float64) for p in trainable(model)]
    data = random_patients(3)
    clipped_sum_opacus(model, [patient_of(data, n) for n in data.patients], masked_bce, 1.0, into)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None
        assert not hasattr(parameter, "grad_sample")
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


def test_opacus_engine_refuses_more_than_one_image() -> None:
    with pytest.raises(ModelRefused):
        run(
            small_net(),
            random_patients(3, images=2),
            private(n_ref=5),
            steps(),
            clipped=clipped_sum_opacus,
        )


# --- refusals ---------------------------------------------------------------------


def test_plan_without_privacy_is_refused() -> None:
    with pytest.raises(PolicyRefused):
        run(small_net(), random_patients(1), private(mode="none"), steps())


def test_weight_decay_is_refused() -> None:
    with pytest.raises(PolicyRefused):
        run(small_net(), random_patients(1), private(), steps(weight_decay=Decimal("0.1")))


def test_batch_normalisation_is_refused() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
    with pytest.raises(ModelRefused):
        run(model, random_patients(1), private(), steps())


def test_network_in_another_precision_is_refused() -> None:
    with pytest.raises(ModelRefused):
        run(small_net().double(), random_patients(1), private(), steps())


def test_nonfinite_weights_end_the_round() -> None:
    model = small_net()
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(TrainingDiverged):
        run(model, random_patients(1), private(), steps())


def test_failing_random_source_ends_the_round_before_any_step() -> None:
    model = small_net()
    before = weights(model)
    with pytest.raises(EntropyMissing):
        run(model, random_patients(1), private(), steps(), entropy=lambda count: b"")
    assert torch.equal(weights(model), before)


def test_noise_key_is_not_the_secret_itself() -> None:
    secret = bytes(range(32))
    found = step_streams(lambda count: secret[:count]).noise.words(4)
    assert not np.array_equal(found, Stream(secret).words(4))
