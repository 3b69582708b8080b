"""Weights of a network as named float32 arrays, and back.

The names and shapes are the plan's tensor schema. Loading is strict: a missing,
surplus or misshapen tensor is refused and the network is left untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pleura.client.errors import TrainingDiverged
from pleura.common.errors import TensorsRejected
from pleura.common.orders import BlobRef
from pleura.common.tensors import PackedReader

Arrays = dict[str, NDArray[np.float32]]


def arrays_of(model: nn.Module) -> Arrays:
    """Return copies of all trainable tensors by name, in the order of the names."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {
        name: named[name].detach().cpu().to(torch.float32).numpy().copy() for name in sorted(named)
    }


def read_arrays(path: Path, expected: BlobRef) -> Arrays:
    """Return every tensor of a packed model after checking that it is the expected one.

    Raises:
        TensorsRejected: the file is not a packed model or holds a non-finite value.
        DigestMismatch: it is another model than the order names.
    """
    reader = PackedReader(path)
    reader.verify(expected)
    return {spec.name: np.array(value, dtype=np.float32) for spec, value in reader.tensors()}


def load_arrays(model: nn.Module, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Put `arrays` into the trainable tensors of `model`.

    Raises:
        TensorsRejected: names, shapes or values do not fit; nothing was changed.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if set(named) != set(arrays):
        raise TensorsRejected("tensor names differ from the network's")
    for name, parameter in named.items():
        if tuple(arrays[name].shape) != tuple(parameter.shape):
            raise TensorsRejected(f"shape of tensor {name}")
        if not np.isfinite(arrays[name]).all():
            raise TensorsRejected(f"non-finite value in tensor {name}")
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(torch.from_numpy(np.array(arrays[name], dtype=np.float32)))


def deltas(new: Mapping[str, NDArray[np.float32]], base: Arrays) -> Arrays:
    """Return new - base by name, float32.

    Raises:
        TrainingDiverged: a new weight is not finite.
    """
    difference: Arrays = {}
    for name, before in base.items():
        change = np.asarray(new[name] - before, dtype=np.float32)
        if not np.isfinite(change).all():
            raise TrainingDiverged("non-finite weights")
        difference[name] = change
    return difference
