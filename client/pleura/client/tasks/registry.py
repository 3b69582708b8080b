"""Registry of the built-in tasks: a closed table from name and version to class."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pleura.client.errors import TaskUnknown
from pleura.client.tasks.binary import BinaryTask
from pleura.client.tasks.ct_nodule_malignancy import CtNoduleMalignancy
from pleura.client.tasks.cxr_abnormal import CxrAbnormal
from pleura.client.tasks.protocol import Task
from pleura.common.orders import ModelSpec, PreprocSpec, RunPlan, TaskRef

TASKS: Final[Mapping[tuple[str, int], type[BinaryTask]]] = MappingProxyType(
    {(task.name, task.version): task for task in (CtNoduleMalignancy, CxrAbnormal)}
)


def build_task(ref: TaskRef, model: ModelSpec, preproc: PreprocSpec) -> Task:
    """Return the task of that name and version, bound to the specs.

    Raises:
        TaskUnknown: no such task is built in.
        ModelRefused: the specs contradict the task.
    """
    row = TASKS.get((ref.name, ref.version))
    if row is None:
        raise TaskUnknown("task")
    return row(model, preproc)


def task_of(plan: RunPlan) -> Task:
    """Return the task of a plan; raises as `build_task`."""
    return build_task(plan.task, plan.model, plan.preproc)
