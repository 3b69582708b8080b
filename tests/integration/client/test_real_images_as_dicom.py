"""Real research images stored as DICOM: the site sees the picture the source holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from pleura.client.data.cohort import Cohort, Sample
from pleura.client.data.dataset import PatientDataset
from pleura.client.data.preprocess import prepare
from pleura.common.orders import PreprocSpec
from tests.builders.research_images import (
    WINDOW_HIGH_HU,
    WINDOW_LOW_HU,
    BridgeSummary,
    read_grey,
    read_nodule,
    write_cxr_site,
    write_lidc_site,
)

CT = PreprocSpec(modality="CT", size_px=48, slices=8, hu_low=WINDOW_LOW_HU, hu_high=WINDOW_HIGH_HU)
pytestmark = pytest.mark.shared_data


def cohort_of(folder: Path, summary: BridgeSummary, task: str) -> Cohort:
    files: dict[str, list[tuple[Path, str]]] = {}
    for path in sorted(folder.rglob("IM*")):
        study = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
        files.setdefault(study, []).append((path, hashlib.sha256(path.read_bytes()).hexdigest()))
    samples = [
        Sample(s.patient_id, s.study_uid, tuple(reversed(files[s.study_uid])), s.label or 0)
        for s in summary.studies
    ]
    return Cohort.of(task, "train", samples)


@pytest.mark.parametrize("maker", ["siemens", "toshiba"])
def test_nodule_stack_survives_dicom_exactly(tmp_path: Path, maker: str) -> None:
    summary = write_lidc_site(tmp_path / "site", maker, {"test"}, limit=5)
    cohort = cohort_of(tmp_path / "site", summary, "ct_nodule_malignancy")
    data = PatientDataset(cohort, CT, (8, 48, 48))
    sources = {study.study_uid: study.source for study in summary.studies}
    for sample in cohort.samples:
        expected = read_nodule(sources[sample.key]).astype(np.float32) / np.float32(255)
        exact = prepare([path.read_bytes() for path, _ in sample.files], CT)
        assert np.array_equal(exact, expected)
        assert np.abs(data.picture(sample) - expected).max() < 1e-5


@pytest.mark.parametrize("site", ["guangzhou", "nih"])
def test_radiograph_of_any_depth_is_scaled_by_its_own_percentiles(
    tmp_path: Path, site: str
) -> None:
    summary = write_cxr_site(tmp_path / "site", site, {"test"}, limit=3)
    cohort = cohort_of(tmp_path / "site", summary, "cxr_abnormal")
    sources = {study.study_uid: study.source for study in summary.studies}
    for sample in cohort.samples:
        grey = read_grey(sources[sample.key]).astype(np.float64)
        low = np.percentile(grey, 0.5, method="lower")
        high = np.percentile(grey, 99.5, method="higher")
        side = max(grey.shape)
        spec = PreprocSpec(modality="CXR", size_px=side)
        top, left = (side - grey.shape[0]) // 2, (side - grey.shape[1]) // 2
        expected = np.zeros((side, side))
        inside = np.clip((grey - low) / (high - low), 0, 1)
        expected[top : top + grey.shape[0], left : left + grey.shape[1]] = inside
        picture = prepare([sample.files[0][0].read_bytes()], spec)[0]
        assert np.abs(picture - expected).max() < 1e-6
