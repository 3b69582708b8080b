"""No patient, whatever the images, contributes more than the clip norm."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pleura.client.privacy.engine import PatientImages, add_clipped, clip_factor, clipped_sum
from pleura.client.tasks.protocol import masked_bce
from tests.builders.patients import small_net

torch.set_num_threads(1)
MODEL = small_net()


@settings(deadline=None, max_examples=60)
@given(
    scale=st.floats(0, 1e30),
    count=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    clip=st.floats(1e-6, 100),
)
def test_contribution_of_a_patient_is_bounded(
    scale: float, count: int, seed: int, clip: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = scale * torch.randn(count, 1, 8, 8, generator=generator)
    patient = PatientImages(images, torch.ones(count), torch.ones(count))
    into = [torch.zeros(p.shape, dtype=torch.float64) for p in MODEL.parameters()]
    failed = clipped_sum(MODEL, [patient], masked_bce, clip, into)
    total = torch.cat([t.reshape(-1) for t in into])
    assert float(total.norm()) <= clip
    assert float(total.to(torch.float32).double().norm()) <= clip * (1 + 2**-20)
    assert not failed or float(total.abs().max()) == 0


@settings(deadline=None, max_examples=200)
@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=20),
    clip=st.floats(1e-6, 1e3),
)
def test_any_gradient_is_clipped_or_dropped(values: list[float], clip: float) -> None:
    into = [torch.zeros(len(values), dtype=torch.float64)]
    added = add_clipped([torch.tensor(values, dtype=torch.float32)], clip, into)
    assert added == all(math.isfinite(value) for value in values)
    assert float(into[0].norm()) <= clip * (1 + 1e-12)


@given(norm=st.floats(0, 1e300), clip=st.floats(1e-6, 1e6))
def test_clip_factor_is_one_within_the_bound_and_below_it_outside(norm: float, clip: float) -> None:
    factor = clip_factor(norm, clip)
    assert factor == 1.0 if norm <= clip else 0 <= factor * norm < clip
