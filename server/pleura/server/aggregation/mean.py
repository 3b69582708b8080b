"""The rule `mean`: base + server_lr * sum(w_i x_i) / sum(w_i), streamed from blob files.

Sites in byte order, tensors in key order, IEEE double throughout, one rounding to
the model's own type at the end: anyone who holds the same inputs gets the same
bytes. Inputs are read through memory maps in chunks, so besides one tensor of the
result nothing grows with the model or with the number of sites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pleura.common.ids import SiteId
from pleura.common.orders import BlobRef
from pleura.common.tensors import Array, PackedReader, PackedWriter
from pleura.server.errors import SchemaMismatch, TooFewSites

RULE: Final = "mean"
CHUNK_VALUES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class WeightedUpdate:
    """An admitted update's packed deltas and its unnormalised weight."""

    site_id: SiteId
    path: Path
    weight: Decimal


def aggregate(
    base: Path, updates: Sequence[WeightedUpdate], server_lr: Decimal, out: Path
) -> BlobRef:
    """Write the next model to `out` and return its digests.

    Raises:
        TooFewSites: there is no update.
        SchemaMismatch: an update's names, types or shapes differ from the base's.
        NotFinite: the result holds NaN or infinity; nothing is written.
        DiskFull: the volume has no room; nothing is written.
    """
    if not updates:
        raise TooFewSites("no update to aggregate")
    ordered = sorted(updates, key=lambda update: update.site_id.encode())
    model = PackedReader(base)
    readers = [PackedReader(update.path) for update in ordered]
    if any(reader.schema != model.schema for reader in readers):
        raise SchemaMismatch("an update differs from the base model")
    weights = [float(update.weight) for update in ordered]
    scale = float(server_lr) / float(sum(update.weight for update in ordered))
    with PackedWriter(out, model.schema) as writer:
        for spec, tensor in model.tensors():
            deltas = [reader.tensor(spec.name).reshape(-1) for reader in readers]
            # not named: a name would keep one result alive while the next is made
            writer.add(
                spec.name,
                _combine(tensor.reshape(-1), deltas, weights, scale).reshape(spec.shape),
            )
    return writer.info


def _combine(base: Array, deltas: Sequence[Array], weights: Sequence[float], scale: float) -> Array:
    result: Array = np.empty(base.shape, base.dtype)
    for start in range(0, base.size, CHUNK_VALUES):
        part = slice(start, start + CHUNK_VALUES)
        total: NDArray[np.float64] = np.zeros(base[part].shape, np.float64)
        for delta, weight in zip(deltas, weights, strict=True):
            total += weight * delta[part].astype(np.float64)
        with np.errstate(over="ignore"):  # the writer refuses what is not finite
            result[part] = base[part].astype(np.float64) + scale * total
    return result
