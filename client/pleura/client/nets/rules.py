"""Model rules: a network that breaks one may not train (TASKS.md section 3).

1. No normalisation over the batch and no floating buffer: such state is not per
   patient, would leave the site, and is undefined at an unseen site.
2. No in-place module and no in-place operation in the forward pass.
3. Every trainable parameter receives a gradient.
Each refusal names the layer. A rule that cannot be checked is a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pleura.client.errors import ModelRefused

_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, nn.SyncBatchNorm)
_INSTANCE_NORMS = nn.modules.instancenorm._InstanceNorm


def check_model(model: nn.Module, input_shape: Sequence[int]) -> None:
    """Check every rule, the last two by one pass over two random images.

    Args:
        model: the network; its parameters and gradients are left as they were.
        input_shape: shape of one image without the batch axis.

    Raises:
        ModelRefused: a rule is broken; the message names rule and layer.
    """
    check_modules(model)
    _check_pass(model, input_shape)


def check_modules(model: nn.Module) -> None:
    """Check what the modules declare: norms, buffers, in-place flags.

    Raises:
        ModelRefused: see `check_model`.
    """
    for name, module in model.named_modules():
        where = name or "(root)"
        if isinstance(module, _BATCH_NORMS):
            raise ModelRefused(f"batch normalisation in layer {where}")
        if isinstance(module, _INSTANCE_NORMS) and module.track_running_stats:
            raise ModelRefused(f"running statistics in layer {where}")
        if getattr(module, "inplace", False):
            raise ModelRefused(f"in-place module in layer {where}")
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() or buffer.is_complex():
            raise ModelRefused(f"floating buffer {name}")


class _InPlaceWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the innermost module during which a mutating operation ran."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack: list[str] = []
        self.found: str | None = None
        self.hooks: list[Any] = []
        for name, module in model.named_modules():
            self.hooks.append(module.register_forward_pre_hook(self._enter(name or "(root)")))
            self.hooks.append(module.register_forward_hook(self._leave))

    def _enter(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any) -> None:
            self.stack.append(name)

        return hook

    def _leave(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self.stack.pop()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func._schema.is_mutable and self.found is None:
            self.found = self.stack[-1] if self.stack else "(root)"
        return func(*args, **(kwargs or {}))

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


def _check_pass(model: nn.Module, input_shape: Sequence[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((2, *input_shape), generator=generator)
    watch = _InPlaceWatch(model)
    try:
        with watch:
            logits: Tensor = model(images)
    except (RuntimeError, ValueError) as exc:
        raise ModelRefused("the network does not accept the images of this plan") from exc
    finally:
        watch.close()
    if watch.found is not None:
        raise ModelRefused(f"in-place operation in layer {watch.found}")
    if logits.shape != (2,):
        raise ModelRefused("the network does not give one logit an image")
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    grads = torch.autograd.grad(logits.sum(), [p for _, p in named], allow_unused=True)
    for (name, _), grad in zip(named, grads, strict=True):
        if grad is None:
            raise ModelRefused(f"no gradient reaches parameter {name}")
