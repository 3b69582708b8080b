"""densenet121_gn: DenseNet-121 with GroupNorm, 2D and 3D, nothing in place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pleura.client.nets.layers import Dims, HalvingMean, conv, global_mean, max_pool, norm_relu

BLOCKS = (6, 12, 24, 16)
GROWTH = 32
BOTTLENECK = 4 * GROWTH
STEM = 64


class DenseLayer(nn.Module):
    """Bottleneck layer whose `GROWTH` new channels are joined to its input."""

    def __init__(self, dims: Dims, inputs: int, groups: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(norm_relu(groups, inputs), conv(dims, inputs, BOTTLENECK, 1))
        self.grow = nn.Sequential(
            norm_relu(groups, BOTTLENECK), conv(dims, BOTTLENECK, GROWTH, 3, padding=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return [B, C + GROWTH, ...]."""
        return torch.cat([features, self.grow(self.squeeze(features))], dim=1)


class DenseNet121(nn.Module):
    """Stem, four dense blocks with halving transitions, global mean, one logit.

    Input [B, in_channels, (D,) H, W], output [B].
    """

    def __init__(self, *, dims: Dims, in_channels: int, groups: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv(dims, in_channels, STEM, 7, stride=2, padding=3),
            norm_relu(groups, STEM),
            max_pool(dims, 3, 2, padding=1),
        )
        stages: list[nn.Module] = []
        channels = STEM
        for index, count in enumerate(BLOCKS):
            for _ in range(count):
                stages.append(DenseLayer(dims, channels, groups))
                channels += GROWTH
            stages.append(norm_relu(groups, channels))
            if index < len(BLOCKS) - 1:
                stages += [conv(dims, channels, channels // 2, 1), HalvingMean()]
                channels //= 2
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return one logit an image, shape [B]."""
        logits: Tensor = self.head(global_mean(self.stages(self.stem(images))))
        return logits[:, 0]
