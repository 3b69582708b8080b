"""tiny_cnn_gn: four convolution blocks of 16 to 128 channels; the default of tests and demo."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pleura.client.nets.layers import Dims, conv, global_mean_and_max, max_pool, norm_relu

WIDTHS = (16, 32, 64, 128)


class TinyCnn(nn.Module):
    """Convolution, pooling by two, GroupNorm and ReLU; the last block only the first and last.

    Input [B, in_channels, (D,) H, W], output [B]. Its output is summarised
    by mean and maximum over all positions; a norm there would fix the mean of each
    group and with it hide how much of the image is bright.
    """

    def __init__(self, *, dims: Dims, in_channels: int, groups: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = in_channels
        for index, width in enumerate(WIDTHS):
            layers = [conv(dims, channels, width, 3, padding=1)]
            if index < len(WIDTHS) - 1:
                layers += [max_pool(dims, 2, 2), norm_relu(groups, width)]
            else:
                layers.append(nn.ReLU(inplace=False))
            blocks.append(nn.Sequential(*layers))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(2 * channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return one logit an image, shape [B]."""
        if images.ndim == 4:  # half the time of the default layout on CPU
            images = images.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.head(global_mean_and_max(self.blocks(images)))
        return logits[:, 0]
