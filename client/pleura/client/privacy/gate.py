"""Gate: a network may train privately only where two engines agree on its gradients.

The loop and Opacus' hooks compute per-sample gradients by different code. Where
they differ, one of them does not see every layer, and a clip bound would not
hold. The check takes two random images, so it is cheap; it runs once for a model
spec and code version, and a file marks that it passed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from pleura.client.errors import ModelRefused
from pleura.client.nets.rules import check_model
from pleura.client.privacy.engine import Loss, PatientImages, patient_gradient
from pleura.client.privacy.opacus_engine import sample_gradients
from pleura.common.canonical import canonical_json, sha256_hex
from pleura.common.files import ensure_private_folder, write_atomic
from pleura.common.orders import ModelSpec

TOLERANCE: Final = 2e-3  # PRIVACY.md section 2, oracle
_SAMPLES: Final = 2


def check_gate(
    spec: ModelSpec,
    model: nn.Module,
    input_shape: Sequence[int],
    loss: Loss,
    *,
    code_digest: str,
    marks: Path,
) -> None:
    """Check the network before round 1 unless this spec, shape and code passed before.

    Args:
        spec: the plan's model.
        model: the network; left as it was.
        input_shape: shape of one image without the batch axis.
        loss: the task's loss a sample.
        code_digest: digest of the installed code.
        marks: private folder of the marks of passed checks.

    Raises:
        ModelRefused: a model rule is broken or the engines disagree.
    """
    facts = {
        "code": code_digest,
        "model": spec.model_dump(mode="json"),
        "shape": list(input_shape),
        "torch": torch.__version__,
    }
    mark = ensure_private_folder(marks) / sha256_hex(canonical_json(facts))
    if mark.is_file():
        return
    check_model(model, input_shape)
    worst = disagreement(model, input_shape, loss)
    if not worst <= TOLERANCE:
        raise ModelRefused("the two gradient engines disagree on this network")
    write_atomic(mark, b"passed\n")


def disagreement(model: nn.Module, input_shape: Sequence[int], loss: Loss) -> float:
    """Return the largest relative L2 difference of a per-sample gradient; infinity if none.

    Raises:
        ModelRefused: a layer has no per-sample gradient.
    """
    twin = copy.deepcopy(model).cpu().train()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((_SAMPLES, *input_shape), generator=generator)
    labels = torch.arange(_SAMPLES, dtype=torch.float32) % 2
    patients = [
        PatientImages(images[i : i + 1], labels[i : i + 1], torch.ones(1)) for i in range(_SAMPLES)
    ]
    hooks = sample_gradients(twin, patients, loss)
    worst = 0.0
    for index, patient in enumerate(patients):
        loop = patient_gradient(twin, patient, loss)
        if loop is None:
            return float("inf")
        ours, theirs = _flat(loop), _flat([part[index] for part in hooks])
        scale = float(ours.norm())
        if not scale > 0:
            return float("inf")
        worst = max(worst, float((ours - theirs).norm()) / scale)
    return worst


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1).double() for part in parts])
