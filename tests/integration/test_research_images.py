"""The research sets wrapped as DICOM: exact grey values, joined labels, planted identifiers."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from pleura.client.data.preprocess import prepare
from pleura.client.errors import PhantomFolderNotEmpty
from pleura.common.orders import PreprocSpec
from tests.builders.research_images import (
    RADIOGRAPH_BITS,
    WINDOW_HIGH_HU,
    WINDOW_LOW_HU,
    BridgeSummary,
    read_grey,
    read_nodule,
    write_cxr_site,
    write_lidc_site,
)
from tests.builders.shared_data import VARIABLE, find_shared_data, shared_data

pytestmark = pytest.mark.shared_data


def _files_by_accession(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(p for p in folder.rglob("IM*") if p.is_file()):
        found[dcmread(path, stop_before_pixels=True).AccessionNumber].append(path)
    return found


def _label_rows(summary: BridgeSummary) -> list[dict[str, str]]:
    with summary.labels_csv.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def nih(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BridgeSummary]:
    folder = tmp_path_factory.mktemp("nih") / "dicom"
    return folder, write_cxr_site(folder, "nih", limit=40)


@pytest.fixture(scope="module")
def philips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BridgeSummary]:
    folder = tmp_path_factory.mktemp("philips") / "dicom"
    return folder, write_lidc_site(folder, "philips", limit=12, with_indeterminate=True)


@pytest.mark.parametrize("site", sorted(RADIOGRAPH_BITS))
def test_radiograph_grey_values_survive_exactly(site: str, tmp_path: Path) -> None:
    summary = write_cxr_site(tmp_path / "dicom", site, limit=5)
    files = _files_by_accession(tmp_path / "dicom")
    for study in summary.studies:
        (path,) = files[study.accession]
        ds = dcmread(path)
        assert ds.BitsStored == RADIOGRAPH_BITS[site]
        shift = ds.BitsStored - 8
        stored = ds.pixel_array
        assert not np.any(stored & ((1 << shift) - 1))
        np.testing.assert_array_equal(stored >> shift, read_grey(study.source))


@pytest.mark.parametrize("site", ["ge", "siemens", "philips", "toshiba"])
def test_nodule_grey_values_survive_preprocessing_exactly(site: str, tmp_path: Path) -> None:
    summary = write_lidc_site(tmp_path / "dicom", site, limit=3)
    spec = PreprocSpec(
        modality="CT", size_px=48, slices=8, hu_low=WINDOW_LOW_HU, hu_high=WINDOW_HIGH_HU
    )
    files = _files_by_accession(tmp_path / "dicom")
    for study in summary.studies:
        # reversed: order must come from position, not from the list
        picture = prepare([path.read_bytes() for path in reversed(files[study.accession])], spec)
        expected = read_nodule(study.source).astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(picture, expected)


def test_the_window_maps_every_grey_value_back_exactly() -> None:
    grey = np.arange(256)
    hounsfield = grey * 5 - 1000
    for dtype in (np.float32, np.float64):
        span = dtype(WINDOW_HIGH_HU - WINDOW_LOW_HU)
        windowed = (hounsfield.astype(dtype) - dtype(WINDOW_LOW_HU)) / span
        np.testing.assert_array_equal(windowed, grey.astype(dtype) / dtype(255))


def test_every_labelled_accession_is_in_the_objects(
    nih: tuple[Path, BridgeSummary], philips: tuple[Path, BridgeSummary]
) -> None:
    for (folder, summary), slices in ((nih, 1), (philips, 8)):
        files = _files_by_accession(folder)
        assert {study.accession for study in summary.studies} == set(files)
        assert all(len(paths) == slices for paths in files.values())
        assert sum(map(len, files.values())) == summary.files
        labels = {row["accession"]: row for row in _label_rows(summary)}
        for study in summary.studies:
            if study.label is None:
                assert study.accession not in labels
            else:
                assert labels[study.accession]["label"] == str(study.label)
                assert labels[study.accession]["split"] == study.split


def test_indeterminate_nodules_are_left_out_unless_asked_for(
    philips: tuple[Path, BridgeSummary], tmp_path: Path
) -> None:
    assert any(study.label is None for study in philips[1].studies)
    summary = write_lidc_site(tmp_path / "dicom", "philips", limit=12)
    assert all(study.label is not None for study in summary.studies)
    assert [row["diameter_mm"] for row in _label_rows(summary)] == [
        str(study.diameter_mm) for study in summary.studies
    ]


def test_images_of_one_research_patient_share_one_patient_id(tmp_path: Path) -> None:
    summary = write_cxr_site(tmp_path / "dicom", "hannover", splits=("test", "val"))
    numbers = defaultdict(set)
    for study in summary.studies:
        numbers[study.research_patient].add(study.patient_id)
    assert all(len(ids) == 1 for ids in numbers.values())
    assert len({next(iter(ids)) for ids in numbers.values()}) == summary.patients
    assert summary.patients < len(summary.studies) == 33


def test_planted_values_are_in_the_bytes_and_research_ids_are_not(
    nih: tuple[Path, BridgeSummary], philips: tuple[Path, BridgeSummary]
) -> None:
    for folder, summary in (nih, philips):
        data = b"".join(p.read_bytes() for p in folder.rglob("IM*") if p.is_file())
        assert [value for value in summary.planted if value.encode() not in data] == []
        assert not [s for s in summary.studies if s.research_patient.encode() in data]


def test_splits_select_and_an_external_site_is_named_as_asked(tmp_path: Path) -> None:
    summary = write_cxr_site(tmp_path / "a", "nih", splits=("val",), limit=6)
    assert {study.split for study in summary.studies} == {"val"}
    external = write_cxr_site(tmp_path / "b", "actualmed", limit=4)
    assert {row["split"] for row in _label_rows(external)} == {"external"}
    as_test = write_cxr_site(tmp_path / "c", "actualmed", limit=4, external_split="test")
    assert {row["split"] for row in _label_rows(as_test)} == {"test"}


def test_the_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_lidc_site(tmp_path / name, "toshiba", limit=2)
    first, second = (
        [p.read_bytes() for p in sorted((tmp_path / name).rglob("IM*"))] for name in ("a", "b")
    )
    assert len(first) == 16
    assert first == second


def test_an_unknown_site_and_a_used_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no site"):
        write_cxr_site(tmp_path / "new", "atlantis")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_bytes(b"x")
    with pytest.raises(PhantomFolderNotEmpty):
        write_lidc_site(tmp_path / "used", "ge", limit=1)


def test_absent_data_skips_with_the_variable_in_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert find_shared_data("cxr_multisite") is None
    with pytest.raises(pytest.skip.Exception, match=VARIABLE):
        shared_data("cxr_multisite")
