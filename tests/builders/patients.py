"""Builder: patients in memory, as a private engine sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pleura.common.orders import PrivacySpec, TrainSpec


class MemoryPatients:
    """Images [n, ...] and labels [n] of each patient; a patient without images fails to load."""

    def __init__(self, images: Mapping[str, tuple[Tensor, Tensor] | None]) -> None:
        self._images = dict(images)
        self.loads: list[tuple[str, tuple[int, ...]]] = []

    @property
    def patients(self) -> Sequence[str]:
        return tuple(self._images)

    def count(self, patient: str) -> int:
        found = self._images[patient]
        return 1 if found is None else len(found[0])

    def load(
        self, patient: str, indices: Sequence[int], augment_rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        self.loads.append((patient, tuple(indices)))
        found = self._images[patient]
        if found is None:
            raise OSError("unreadable")
        chosen = torch.tensor(list(indices), dtype=torch.long)
        return found[0][chosen], found[1][chosen], torch.ones(len(indices))

    def without(self, patient: str) -> MemoryPatients:
        return MemoryPatients({k: v for k, v in self._images.items() if k != patient})

    def having(self, patient: str, images: Tensor | None, labels: Tensor) -> MemoryPatients:
        value = None if images is None else (images, labels)
        return MemoryPatients({**self._images, patient: value})


def random_patients(
    count: int, *, images: int = 1, shape: Sequence[int] = (1, 8, 8), seed: int = 0
) -> MemoryPatients:
    """Return `count` patients with `images` random images each."""
    generator = torch.Generator().manual_seed(seed)
    return MemoryPatients(
        {
            f"p{number:04d}": (
                torch.rand((images, *shape), generator=generator),
                torch.randint(0, 2, (images,), generator=generator).float(),
            )
            for number in range(count)
        }
    )


def counting_entropy(seed: int = 0) -> Callable[[int], bytes]:
    """Return a repeatable source of secret bytes, different at every call."""
    rng = np.random.default_rng(seed)
    return lambda count: rng.bytes(count)


def small_net(seed: int = 0, width: int = 4) -> nn.Module:
    """Return a convolution, GroupNorm and linear net for 8 x 8 images, one logit each."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.GroupNorm(2, width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * 64, 1),
        nn.Flatten(0),
    )


def private(**changes: Any) -> PrivacySpec:
    """Return a private spec with sigma 1, C 1 and N_ref 10 unless changed."""
    return PrivacySpec(**({"sigma": Decimal(1), "clip": Decimal(1), "n_ref": 10} | changes))


def steps(**changes: Any) -> TrainSpec:
    """Return a training spec of two plain SGD steps with B 5 and K 4 unless changed."""
    defaults: dict[str, Any] = {"lr": Decimal("0.1"), "local_steps": 2, "batch_patients": 5}
    return TrainSpec(**(defaults | changes))
