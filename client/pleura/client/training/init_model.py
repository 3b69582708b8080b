"""Initial model: the first weights of a run, from the plan alone.

The coordinator has no torch, so one site (or the lead's workstation) makes this
file; anyone with the same plan gets the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from pleura.client.nets.rules import check_model
from pleura.client.tasks.registry import task_of
from pleura.client.training.weights import arrays_of
from pleura.common.orders import RunPlan
from pleura.common.tensors import PackedInfo, write_packed


def write_initial_model(plan: RunPlan, path: Path) -> PackedInfo:
    """Write the initial weights of `plan` to `path` and return their digests.

    Raises:
        TaskUnknown: task or network is not built in.
        ModelRefused: the specs contradict each other or break a model rule.
        DiskFull: the volume has no room.
    """
    task = task_of(plan)
    model = task.build_model(plan.seed)
    check_model(model, task.input_shape)
    return write_packed(path, arrays_of(model))
