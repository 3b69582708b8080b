"""Tasks: closed registry, one loss value a sample, masks that cost nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pleura.client.data.cohort import Cohort
from pleura.client.errors import ModelRefused, TaskUnknown
from pleura.client.nets.registry import NETWORKS
from pleura.client.tasks.protocol import masked_bce
from pleura.client.tasks.registry import TASKS, build_task, task_of
from pleura.common.orders import ModelSpec, PreprocSpec, TaskRef
from tests.builders.training import nodule_cohort, run_plan

torch.set_num_threads(1)

PREPROC = {
    "cxr_abnormal": PreprocSpec(modality="CXR", size_px=32),
    "ct_nodule_malignancy": PreprocSpec(modality="CT", size_px=32, slices=8),
}


@pytest.mark.parametrize(
    ("logits", "labels", "mask", "expected"),
    [
        ([[0, 0], [0, 0]], [[1, 5], [0, 1]], [[1, 0], [1, 1]], [0.693147, 0.693147]),
        ([[2, -1]], [[1, 0]], [[1, 1]], [0.220095]),
        ([[3, -4]], [[1, 0]], [[0, 0]], [0.0]),
    ],
)
def test_masked_loss_matches_the_published_vectors(
    logits: list[list[float]],
    labels: list[list[float]],
    mask: list[list[float]],
    expected: list[float],
) -> None:
    out = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    loss = masked_bce(out, torch.tensor(labels).float(), torch.tensor(mask).float())
    assert loss.shape == (len(expected),)
    assert loss.tolist() == pytest.approx(expected, abs=1e-6)
    loss.sum().backward()
    assert out.grad is not None
    assert not out.grad[torch.tensor(mask) == 0].any()


def test_unknown_label_may_hold_anything() -> None:
    loss = masked_bce(torch.zeros(2), torch.tensor([float("nan"), 1.0]), torch.tensor([0.0, 1.0]))
    assert loss.tolist() == pytest.approx([0.0, 0.693147], abs=1e-6)


@pytest.mark.parametrize("arch", sorted(NETWORKS))
@pytest.mark.parametrize("name", sorted(name for name, _ in TASKS))
def test_loss_of_a_batch_is_the_loss_of_each_sample(name: str, arch: str) -> None:
    preproc = PREPROC[name]
    spec = ModelSpec.model_validate({"arch": arch, "in_channels": preproc.slices})
    task = build_task(TaskRef.model_validate({"name": name}), spec, preproc)
    model = task.build_model(3)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, *task.input_shape, generator=generator)
    labels, mask = torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    with torch.inference_mode():
        together = task.loss(model(images), labels, mask)
        alone = [
            task.loss(model(images[i : i + 1]), labels[i : i + 1], mask[i : i + 1])
            for i in range(4)
        ]
    assert together.shape == (4,)
    assert together.tolist() == pytest.approx([float(value) for value in alone], abs=1e-5)
    assert together[2] == 0.0
    assert bool(((task.predict(model(images)) > 0) & (task.predict(model(images)) < 1)).all())


def test_unregistered_task_is_refused() -> None:
    ref = TaskRef.model_construct(name="os.system", version=1)  # type: ignore[arg-type]
    with pytest.raises(TaskUnknown):
        build_task(ref, ModelSpec(arch="tiny_cnn_gn"), PREPROC["cxr_abnormal"])


def test_task_of_another_modality_is_refused() -> None:
    with pytest.raises(ModelRefused):
        build_task(
            TaskRef(name="cxr_abnormal"),
            ModelSpec(arch="tiny_cnn_gn", in_channels=8),
            PREPROC["ct_nodule_malignancy"],
        )


def test_radiograph_with_several_planes_is_refused() -> None:
    with pytest.raises(ModelRefused):
        build_task(
            TaskRef(name="cxr_abnormal"),
            ModelSpec(arch="tiny_cnn_gn", in_channels=2),
            PreprocSpec(modality="CXR", size_px=32, slices=2),
        )


def test_cohort_of_another_task_is_refused(tmp_path: Path) -> None:
    cohort = nodule_cohort(tmp_path, patients=1)
    with pytest.raises(TaskUnknown):
        task_of(run_plan()).build_dataset(Cohort("cxr_abnormal", "train", cohort.samples))


@pytest.mark.parametrize("name", sorted(name for name, _ in TASKS))
def test_augmentation_keeps_shape_and_follows_its_generator(name: str) -> None:
    preproc = PREPROC[name]
    spec = ModelSpec(arch="tiny_cnn_gn", in_channels=preproc.slices)
    task = build_task(TaskRef.model_validate({"name": name}), spec, preproc)
    shape = (preproc.slices, preproc.size_px, preproc.size_px)
    picture = np.random.default_rng(0).random(shape, dtype=np.float32)
    kept = picture.copy()
    views = [task.augment(picture, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(picture, kept)
    assert {view.shape for view in views} == {shape}
    assert {view.dtype for view in views} == {np.dtype(np.float32)}
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])
