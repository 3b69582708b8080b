"""Registry of the built-in networks: a closed table from name to builder.

A plan chooses by name; nothing is imported by path. Initial weights depend on
the spec and the seed only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import nn

from pleura.client.errors import ModelRefused, TaskUnknown
from pleura.client.nets.densenet121 import DenseNet121
from pleura.client.nets.layers import initialise
from pleura.client.nets.resnet18 import ResNet18
from pleura.client.nets.tiny_cnn import TinyCnn
from pleura.common.orders import ModelSpec, PreprocSpec


@dataclass(frozen=True, slots=True)
class Network:
    """One built-in network and whether it passed the gate for private training."""

    build: Callable[..., nn.Module]
    supports_dp: bool


NETWORKS: Final[Mapping[str, Network]] = MappingProxyType(
    {
        "tiny_cnn_gn": Network(TinyCnn, supports_dp=True),
        "resnet18_gn": Network(ResNet18, supports_dp=True),
        "densenet121_gn": Network(DenseNet121, supports_dp=True),
    }
)


def network(arch: str) -> Network:
    """Return the table row of an architecture.

    Raises:
        TaskUnknown: no such network is built in.
    """
    if arch not in NETWORKS:
        raise TaskUnknown("network")
    return NETWORKS[arch]


def build_network(spec: ModelSpec, seed: int) -> nn.Module:
    """Return the network of `spec` with initial weights drawn from `seed`.

    The global random state of torch is left as it was. Output: one logit an
    image, shape [B].

    Raises:
        TaskUnknown: the architecture is not built in.
    """
    row = network(spec.arch)
    with torch.random.fork_rng(devices=[]):
        model = row.build(
            dims=spec.spatial_dims, in_channels=spec.in_channels, groups=spec.num_groups
        )
    initialise(model, seed)
    return model


def input_shape(model: ModelSpec, preproc: PreprocSpec) -> tuple[int, ...]:
    """Return the shape of one image as the network takes it, without the batch axis.

    2D: [slices, px, px] with the slices as channels. 3D: [1, slices, px, px].

    Raises:
        ModelRefused: channels and slices of the plan contradict each other.
    """
    plane = (preproc.size_px, preproc.size_px)
    if model.spatial_dims == 3:
        if model.in_channels != 1 or preproc.modality != "CT":
            raise ModelRefused("a 3D network takes one channel of a CT stack")
        return (1, preproc.slices, *plane)
    if model.in_channels != preproc.slices:
        raise ModelRefused("a 2D network takes as many channels as the images have slices")
    return (preproc.slices, *plane)
