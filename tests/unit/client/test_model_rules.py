"""Model rules: each broken rule is refused and the layer is named."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pleura.client.errors import ModelRefused
from pleura.client.nets.rules import check_model

torch.set_num_threads(1)


class Net(nn.Module):
    """A small accepted network with one exchangeable layer."""

    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.layer = layer or nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.layer(self.first(images))
        logits: Tensor = self.head(features.flatten(2).mean(dim=2))
        return logits[:, 0]


class AddsInPlace(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        out = features * 2
        out += features
        return out


class FloatBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        return features - self.mean


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        return features


class Spatial(Net):
    def forward(self, images: Tensor) -> Tensor:
        return self.first(images)


def test_group_norm_network_is_accepted_and_left_unchanged() -> None:
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_model(model, (1, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.BatchNorm2d(4), "batch normalisation in layer layer"),
        (nn.SyncBatchNorm(4), "batch normalisation in layer layer"),
        (nn.InstanceNorm2d(4, track_running_stats=True), "running statistics in layer layer"),
        (nn.ReLU(inplace=True), "in-place module in layer layer"),
        (FloatBuffer(), "floating buffer layer.mean"),
        (AddsInPlace(), "in-place operation in layer layer"),
        (Unused(), "no gradient reaches parameter layer.idle"),
    ],
)
def test_broken_rule_is_refused_by_layer(layer: nn.Module, reason: str) -> None:
    with pytest.raises(ModelRefused, match=reason):
        check_model(Net(layer), (1, 8, 8))


def test_frozen_parameter_needs_no_gradient() -> None:
    layer = Unused()
    layer.idle.requires_grad_(False)
    check_model(Net(layer), (1, 8, 8))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8)])
def test_images_the_network_does_not_take_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelRefused, match="does not accept"):
        check_model(Net(), shape)


def test_network_without_one_logit_an_image_is_refused() -> None:
    with pytest.raises(ModelRefused, match="one logit"):
        check_model(Spatial(), (1, 8, 8))
