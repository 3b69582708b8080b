"""Patient dataset: verified once, decoded once, the same with and without a cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pleura.client.data.cohort import Cohort
from pleura.client.data.dataset import PatientDataset
from pleura.client.errors import ImageChanged
from pleura.client.tasks.registry import task_of
from tests.builders.training import nodule_cohort, run_plan

PLAN = run_plan()
SHAPE = (2, 16, 16)


def dataset(cohort: Cohort, **options: object) -> PatientDataset:
    return PatientDataset(cohort, PLAN.preproc, SHAPE, **options)  # type: ignore[arg-type]


def test_images_are_addressed_by_patient(tmp_path: Path) -> None:
    cohort = nodule_cohort(tmp_path, patients=3)
    data = dataset(cohort)
    assert data.patients == ("patient0000", "patient0001", "patient0002")
    assert [data.count(patient) for patient in data.patients] == [1, 2, 3]
    images, labels, mask = data.load("patient0001", (1, 0), None)
    assert images.shape == (2, *SHAPE)
    assert images.dtype == labels.dtype == mask.dtype == torch.float32
    assert float(images.min()) >= 0 and float(images.max()) <= 1
    assert (labels.tolist(), mask.tolist()) == ([1, 1], [1, 1])
    assert torch.equal(images[0], data.load("patient0001", (1,), None)[0][0])


def test_unknown_label_is_masked(tmp_path: Path) -> None:
    cohort = nodule_cohort(tmp_path, patients=1)
    unsure = Cohort.of(cohort.task, "train", [replace(s, label=-1) for s in cohort.samples])
    _, labels, mask = dataset(unsure).load("patient0000", (0,), None)
    assert (labels.tolist(), mask.tolist()) == ([0], [0])


def test_file_is_read_once_a_process(tmp_path: Path) -> None:
    cohort = nodule_cohort(tmp_path, patients=1)
    data = dataset(cohort)
    first = data.load("patient0000", (0,), None)[0]
    for path, _ in cohort.samples[0].files:
        path.unlink()
    assert torch.equal(data.load("patient0000", (0,), None)[0], first)


@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_changed_or_missing_file_is_refused(tmp_path: Path, fault: str) -> None:
    cohort = nodule_cohort(tmp_path, patients=1)
    path = cohort.samples[0].files[1][0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data)) if fault == "changed" else path.unlink()
    with pytest.raises(ImageChanged) as caught:
        dataset(cohort).load("patient0000", (0,), None)
    assert path.name not in str(caught.value)


def test_cache_on_disk_is_private_exact_and_used(tmp_path: Path) -> None:
    cohort, folder = nodule_cohort(tmp_path, patients=2), tmp_path / "cache"
    exact = dataset(cohort).load("patient0001", (0, 1), None)[0]
    dataset(cohort, cache_folder=folder).load("patient0001", (0, 1), None)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    for sample in cohort.samples:
        for path, _ in sample.files:
            path.unlink()
    again = dataset(cohort, cache_folder=folder).load("patient0001", (0, 1), None)[0]
    assert torch.equal(again, exact)
    other = PLAN.preproc.model_copy(update={"hu_high": 400})
    with pytest.raises(ImageChanged):
        PatientDataset(cohort, other, SHAPE, cache_folder=folder).load("patient0001", (0,), None)


def test_damaged_cache_file_is_made_again(tmp_path: Path) -> None:
    cohort, folder = nodule_cohort(tmp_path, patients=1), tmp_path / "cache"
    exact = dataset(cohort, cache_folder=folder).load("patient0000", (0,), None)[0]
    (file,) = folder.iterdir()
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(bytes(data))
    assert torch.equal(
        dataset(cohort, cache_folder=folder).load("patient0000", (0,), None)[0], exact
    )
    assert file.read_bytes() != bytes(data)


def test_memory_is_bounded(tmp_path: Path) -> None:
    cohort = nodule_cohort(tmp_path, patients=6)
    data = dataset(cohort, memory_bytes=3 * 1024)
    before = [data.load(p, range(data.count(p)), None)[0] for p in data.patients]
    assert data.held_bytes <= 3 * 1024
    after = [data.load(p, range(data.count(p)), None)[0] for p in data.patients]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_augmentation_needs_a_generator_and_never_touches_the_cache(tmp_path: Path) -> None:
    data = task_of(PLAN).build_dataset(nodule_cohort(tmp_path, patients=1))
    exact = data.load("patient0000", (0,), None)[0]
    changed = data.load("patient0000", (0,), np.random.default_rng(1))[0]
    assert not torch.equal(changed, exact)
    assert torch.equal(data.load("patient0000", (0,), None)[0], exact)
    assert torch.equal(data.load("patient0000", (0,), np.random.default_rng(1))[0], changed)
