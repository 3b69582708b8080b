"""The gate lets only networks train privately on whose gradients two engines agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pleura.client.errors import ModelRefused
from pleura.client.nets.registry import build_network
from pleura.client.privacy.gate import check_gate, disagreement
from pleura.client.tasks.protocol import masked_bce
from pleura.common.orders import ModelSpec

torch.set_num_threads(1)
SPEC = ModelSpec(arch="tiny_cnn_gn")
SHAPE = (1, 16, 16)


class Bypassing(nn.Module):
    """Uses the weight of a layer without calling the layer, so its hook never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(256, 8)
        self.last = nn.Linear(8, 1)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.linear(images.flatten(1), self.first.weight, self.first.bias)
        logits: Tensor = self.last(hidden)
        return logits[:, 0]


class Constant(nn.Module):
    """Has parameters and no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(256, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1) * 0)
        return logits[:, 0] * 0


def gate(model: nn.Module, marks: Path, *, code: str = "a" * 64) -> None:
    check_gate(SPEC, model, SHAPE, masked_bce, code_digest=code, marks=marks)


def test_built_in_network_passes_and_is_marked_once(tmp_path: Path) -> None:
    model = build_network(SPEC, 0)
    before = [p.detach().clone() for p in model.parameters()]
    gate(model, tmp_path / "marks")
    marks = list((tmp_path / "marks").iterdir())
    assert len(marks) == 1
    gate(Bypassing(), tmp_path / "marks")  # same spec and code: not computed again
    assert list((tmp_path / "marks").iterdir()) == marks
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_other_code_is_checked_again(tmp_path: Path) -> None:
    gate(build_network(SPEC, 0), tmp_path / "marks")
    with pytest.raises(ModelRefused):
        gate(Bypassing(), tmp_path / "marks", code="b" * 64)


def test_network_the_second_engine_does_not_see_whole_is_refused(tmp_path: Path) -> None:
    assert disagreement(Bypassing(), SHAPE, masked_bce) > 0.1
    with pytest.raises(ModelRefused):
        gate(Bypassing(), tmp_path / "marks")
    assert not list((tmp_path / "marks").iterdir())


def test_network_without_a_gradient_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused):
        gate(Constant(), tmp_path / "marks")


def test_network_that_breaks_a_model_rule_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(256, 1), nn.Flatten(0))
    with pytest.raises(ModelRefused):
        gate(model, tmp_path / "marks")


@pytest.mark.parametrize("dims", [2, 3])
def test_engines_agree_on_the_built_in_network(dims: int) -> None:
    shape = SHAPE if dims == 2 else (1, 8, 16, 16)
    model = build_network(ModelSpec(arch="tiny_cnn_gn", spatial_dims=dims), 0)  # type: ignore[arg-type]
    assert disagreement(model, shape, masked_bce) <= 1e-5
