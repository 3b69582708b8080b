"""Layers shared by the built-in networks, in 2D and 3D.

GroupNorm only, nothing in place, no buffers (TASKS.md section 3, rules 1 and 2).
Convolutions before a norm carry no bias: its gradient would not vanish, but the
norm's own shift already plays its part.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Dims = Literal[2, 3]


def conv(
    dims: Dims, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0
) -> nn.Module:
    """Return a convolution without bias for `dims` spatial dimensions."""
    layer = nn.Conv2d if dims == 2 else nn.Conv3d
    return layer(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)


def max_pool(dims: Dims, kernel: int, stride: int, padding: int = 0) -> nn.Module:
    """Return max pooling that keeps a partial last window, so thin stacks survive."""
    layer = nn.MaxPool2d if dims == 2 else nn.MaxPool3d
    return layer(kernel, stride=stride, padding=padding, ceil_mode=True)


class HalvingMean(nn.Module):
    """Average pooling by two along every axis that is longer than one."""

    def forward(self, features: Tensor) -> Tensor:
        """Return [B, C, ceil(size / 2), ...]."""
        kernel = [min(2, size) for size in features.shape[2:]]
        pool = functional.avg_pool2d if len(kernel) == 2 else functional.avg_pool3d
        return pool(features, kernel, stride=kernel, ceil_mode=True, count_include_pad=False)


def norm_relu(groups: int, channels: int) -> nn.Sequential:
    """Return GroupNorm followed by ReLU, neither in place."""
    return nn.Sequential(nn.GroupNorm(groups, channels), nn.ReLU(inplace=False))


def global_mean(features: Tensor) -> Tensor:
    """Return the mean over all spatial positions: [B, C, ...] -> [B, C]."""
    return features.flatten(2).mean(dim=2)


def global_mean_and_max(features: Tensor) -> Tensor:
    """Return mean and maximum over all spatial positions: [B, C, ...] -> [B, 2 C]."""
    flat = features.flatten(2)
    return torch.cat([flat.mean(dim=2), flat.amax(dim=2)], dim=1)


def initialise(model: nn.Module, seed: int) -> None:
    """Fill every parameter from `seed` alone, in the order of the modules.

    Convolutions: He normal by fan-in. Norms: one and zero. Linear: normal with
    standard deviation 0.01 and zero bias, so the first logits are near zero.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0.0, (2.0 / fan_in) ** 0.5, generator=generator)
            elif isinstance(module, nn.GroupNorm):
                module.weight.fill_(1.0)
                module.bias.fill_(0.0)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0.0, 0.01, generator=generator)
                module.bias.fill_(0.0)
