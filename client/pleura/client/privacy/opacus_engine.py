"""Second engine: clipped sums from Opacus' per-sample hooks, one image a patient.

Of Opacus only `GradSampleModule` is used; sampler, clipping, noise and normaliser
are our own. It serves as an independent check on the loop (`gate`) and as an
option where it is faster.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final, cast

import torch
from opacus import GradSampleModule
from torch import Tensor, nn

from pleura.client.errors import ModelRefused
from pleura.client.privacy.engine import (
    Loss,
    PatientImages,
    add_clipped,
    clipped_sum,
    trainable,
)

CHUNK: Final = 16  # patients a pass: bounds memory, does not change the sum


def clipped_sum_opacus(
    model: nn.Module,
    patients: Iterable[PatientImages | None],
    loss: Loss,
    clip: float,
    into: Sequence[Tensor],
) -> int:
    """Add clipped gradients chunk by chunk; see `ClippedSum`.

    A chunk that does not pass as a whole is done patient by patient.

    Raises:
        ModelRefused: a patient has more than one image, or a layer has no hook.
    """
    failed = 0
    with _hooked(model) as hooked:
        source = iter(patients)
        while chunk := list(islice(source, CHUNK)):
            present = [patient for patient in chunk if patient is not None]
            failed += len(chunk) - len(present)
            if any(len(patient.images) != 1 for patient in present):
                raise ModelRefused("the opacus engine takes one image a patient")
            if not present:
                continue
            try:
                samples = _samples(hooked, model, present, loss)
            except Exception:  # noqa: BLE001 - find the patient whose data does not pass
                hooked.disable_hooks()
                failed += clipped_sum(model, present, loss, clip, into)
                hooked.enable_hooks()
                continue
            for index in range(len(present)):
                failed += not add_clipped([s[index] for s in samples], clip, into)
    return failed


def sample_gradients(
    model: nn.Module, patients: Sequence[PatientImages], loss: Loss
) -> tuple[Tensor, ...]:
    """Return the gradient of each patient's loss, [patients, ...] for each parameter.

    Raises:
        ModelRefused: a layer has no hook.
    """
    with _hooked(model) as hooked:
        return _samples(hooked, model, patients, loss)


def _samples(
    hooked: GradSampleModule, model: nn.Module, patients: Sequence[PatientImages], loss: Loss
) -> tuple[Tensor, ...]:
    parameters = trainable(model)
    images = torch.cat([patient.images for patient in patients])
    labels = torch.cat([patient.labels for patient in patients])
    mask = torch.cat([patient.mask for patient in patients])
    hooked.zero_grad(set_to_none=True)
    try:
        torch.autograd.backward(loss(hooked(images), labels, mask).sum())
        found = [cast(Tensor | None, getattr(p, "grad_sample", None)) for p in parameters]
    finally:
        hooked.zero_grad(set_to_none=True)
    return tuple(
        torch.zeros((len(patients), *p.shape), device=p.device) if g is None else g
        for g, p in zip(found, parameters, strict=True)
    )


@contextmanager
def _hooked(model: nn.Module) -> Iterator[GradSampleModule]:
    """Put Opacus' hooks on a network and take them off again."""
    with warnings.catch_warnings():
        # torch says so of the first layer, whose input needs no gradient; its hook is not used
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        # Opacus unfolds a convolution's input as if it lay contiguous; channels_last does not
        laid_out = [
            layer.register_forward_pre_hook(_contiguous)
            for layer in model.modules()
            if isinstance(layer, (nn.Conv2d, nn.Conv3d))
        ]
        try:
            hooked = GradSampleModule(model, loss_reduction="sum", strict=True)
        except (NotImplementedError, ValueError) as exc:
            for handle in laid_out:
                handle.remove()
            raise ModelRefused("a layer has no per-sample gradient") from exc
        try:
            yield hooked
        finally:
            hooked.remove_hooks()
            for handle in laid_out:
                handle.remove()
            for parameter in model.parameters():
                for name in ("grad_sample", "_forward_counter"):
                    if hasattr(parameter, name):
                        delattr(parameter, name)


def _contiguous(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(part.contiguous() for part in inputs)
