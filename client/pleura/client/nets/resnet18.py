"""resnet18_gn: the 18-layer residual network with GroupNorm, 2D and 3D.

Written here because the library versions keep BatchNorm or add in place
(TASKS.md section 3, traps 1 and 3).
"""

from __future__ import annotations

from torch import Tensor, nn

from pleura.client.nets.layers import Dims, conv, global_mean, max_pool, norm_relu

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3-convolutions around a shortcut; a 1-convolution where the shape changes."""

    def __init__(self, dims: Dims, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = conv(dims, inputs, outputs, 3, stride=stride, padding=1)
        self.norm1 = nn.GroupNorm(groups, outputs)
        self.conv2 = conv(dims, outputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.relu1 = nn.ReLU(inplace=False)
        self.relu2 = nn.ReLU(inplace=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                conv(dims, inputs, outputs, 1, stride=stride), nn.GroupNorm(groups, outputs)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Return relu(branch + shortcut)."""
        branch = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(features)))))
        joined: Tensor = self.relu2(branch + self.shortcut(features))
        return joined


class ResNet18(nn.Module):
    """Stem, four stages of two blocks, global mean, one logit.

    Input [B, in_channels, (D,) H, W], output [B].
    """

    def __init__(self, *, dims: Dims, in_channels: int, groups: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv(dims, in_channels, WIDTHS[0], 7, stride=2, padding=3),
            norm_relu(groups, WIDTHS[0]),
            max_pool(dims, 3, 2, padding=1),
        )
        blocks: list[nn.Module] = []
        channels = WIDTHS[0]
        for index, width in enumerate(WIDTHS):
            blocks.append(BasicBlock(dims, channels, width, 1 if index == 0 else 2, groups))
            blocks.append(BasicBlock(dims, width, width, 1, groups))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return one logit an image, shape [B]."""
        logits: Tensor = self.head(global_mean(self.blocks(self.stem(images))))
        return logits[:, 0]
