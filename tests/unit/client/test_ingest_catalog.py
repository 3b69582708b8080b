"""Catalog: rows need receipts, cohorts are deterministic and never split a patient."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pleura.client.data.splits import TrainingSplit, split_of
from pleura.client.errors import CatalogMissing, LabelsMissing, LabelsUnreadable, TaskUnknown
from pleura.client.ingest.catalog import Catalog, CatalogEntry, LabelRow
from pleura.client.ingest.selection import Mark
from pleura.common.errors import DatabaseDamaged
from tests.builders.catalog_rows import catalog_of, entry

CXR, CT = "cxr_abnormal", "ct_nodule_malignancy"


def by_accession(key: str, label: int = 1, split: TrainingSplit | None = None) -> LabelRow:
    return LabelRow("accession", key, Mark(label, split))


def radiographs(patients: int) -> list[CatalogEntry]:
    return [
        entry(
            f"2.25.{p}{image}",
            study=f"2.25.9{p}",
            patient=f"P{p:04d}",
            modality="CR",
            accession_key=f"acc{p}",
        )
        for p in range(patients)
        for image in range(2)
    ]


def slices(study: str, positions: list[float], series: str = "2.25.7") -> list[CatalogEntry]:
    return [
        entry(
            f"{series}.{number}",
            study=study,
            series=series,
            accession_key=f"acc-{study}",
            position_mm=position,
            instance_number=number,
        )
        for number, position in enumerate(positions)
    ]


@pytest.mark.parametrize("receipt", ["", "[]", "null", "not json"])
def test_a_row_without_a_receipt_cannot_exist(receipt: str, tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.db")
    with pytest.raises((sqlite3.IntegrityError, sqlite3.OperationalError)):
        catalog.add([entry("2.25.1"), entry("2.25.2", receipt=receipt)])
    assert catalog.counts().instances == 0


def test_an_object_is_never_added_twice(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path / "catalog.db", entry("2.25.1"))
    with pytest.raises(sqlite3.IntegrityError):
        catalog.add([entry("2.25.2"), entry("2.25.1")])
    assert catalog.counts().instances == 1


def test_every_labelled_radiograph_is_one_sample_of_its_patients_split(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path / "catalog.db", *radiographs(60))
    catalog.replace_labels(CXR, [by_accession(f"acc{p}", p % 2) for p in range(60)])
    cohorts = {
        name: catalog.cohort(CXR, name, seed=7, store=tmp_path) for name in ("train", "val", "test")
    }
    assert all(cohort.samples for cohort in cohorts.values())
    for name, cohort in cohorts.items():
        assert all(split_of(sample.patient, 7) == name for sample in cohort.samples)
        assert all(len(group) == 2 for group in cohort.by_patient.values())
    total = sum(len(cohort.samples) for cohort in cohorts.values())
    external = catalog.cohort(CXR, "external", seed=7, store=tmp_path)
    assert total == len(external.samples) == 120


def test_the_order_of_ingest_does_not_change_a_cohort(tmp_path: Path) -> None:
    rows = radiographs(20)
    labels = [by_accession(f"acc{p}") for p in range(20)]
    first = catalog_of(tmp_path / "one.db", *rows)
    second = catalog_of(tmp_path / "two.db", *reversed(rows))
    for catalog in (first, second):
        catalog.replace_labels(CXR, labels)
    assert first.cohort(CXR, "train", seed=3, store=tmp_path) == second.cohort(
        CXR, "train", seed=3, store=tmp_path
    )


def test_an_imported_split_wins_for_all_samples_of_the_patient(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path / "catalog.db", *radiographs(30))
    labels = [by_accession(f"acc{p}", 1, "test") for p in range(30)]
    catalog.replace_labels(CXR, labels)
    assert catalog.cohort(CXR, "train", seed=1, store=tmp_path).samples == ()
    assert catalog.cohort(CXR, "test", seed=1, store=tmp_path).patients == 30


def test_two_imported_splits_that_meet_in_a_later_patient_are_refused(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.db")
    catalog.replace_labels(CXR, [by_accession("a", 1, "train"), by_accession("b", 1, "test")])
    catalog.add(
        [
            entry("2.25.1", modality="CR", accession_key="a"),
            entry("2.25.2", modality="CR", accession_key="b"),
        ]
    )
    with pytest.raises(LabelsUnreadable, match="two splits"):
        catalog.cohort(CXR, "train", seed=1, store=tmp_path)


def test_a_ct_study_is_one_sample_with_slices_along_the_body(tmp_path: Path) -> None:
    positions = [30.0, -12.5, 0.0, 7.25]
    catalog = catalog_of(tmp_path / "catalog.db", *slices("2.25.50", positions))
    catalog.replace_labels(CT, [by_accession("acc-2.25.50")])
    (sample,) = catalog.cohort(CT, "external", seed=1, store=tmp_path).samples
    assert [path.stem for path, _ in sample.files] == [
        "2.25.7.1",
        "2.25.7.2",
        "2.25.7.3",
        "2.25.7.0",
    ]
    assert sample.key == "2.25.50"
    assert all(path.is_relative_to(tmp_path / "objects") for path, _ in sample.files)


def test_a_scout_series_does_not_enter_the_stack(tmp_path: Path) -> None:
    scout = entry("2.25.66", study="2.25.50", series="2.25.1", accession_key="acc-2.25.50",
                  position_mm=5.0, orientation="1.00\\0.00\\0.00\\0.00\\0.00\\-1.00")  # fmt: skip
    catalog = catalog_of(tmp_path / "catalog.db", scout, *slices("2.25.50", [1.0, 2.0]))
    catalog.replace_labels(CT, [by_accession("acc-2.25.50")])
    (sample,) = catalog.cohort(CT, "external", seed=1, store=tmp_path).samples
    assert [path.stem for path, _ in sample.files] == ["2.25.7.0", "2.25.7.1"]


def test_a_study_with_two_labels_is_refused(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path / "catalog.db", *slices("2.25.50", [1.0, 2.0]))
    catalog.replace_labels(
        CT, [LabelRow("sop", f"key-of-2.25.7.{n}", Mark(n)) for n in (0, 1)]
    )  # fmt: skip
    with pytest.raises(LabelsUnreadable, match="two labels"):
        catalog.cohort(CT, "external", seed=1, store=tmp_path)


def test_an_object_of_another_modality_is_never_a_sample(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path / "catalog.db", entry(modality="US", accession_key="a"))
    catalog.replace_labels(CXR, [by_accession("a")])
    assert catalog.cohort(CXR, "external", seed=1, store=tmp_path).samples == ()


def test_an_object_whose_source_named_no_patient_joins_no_cohort(tmp_path: Path) -> None:
    catalog = catalog_of(
        tmp_path / "catalog.db",
        entry("2.25.1", modality="CR", accession_key="a", basis="study"),
        entry("2.25.2", modality="CR", accession_key="a"),
    )
    catalog.replace_labels(CXR, [by_accession("a")])
    cohort = catalog.cohort(CXR, "external", seed=1, store=tmp_path)
    assert [sample.key for sample in cohort.samples] == ["2.25.2"]


def test_a_task_without_labels_is_named(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path / "catalog.db", entry())
    with pytest.raises(LabelsMissing):
        catalog.cohort(CT, "train", seed=1, store=tmp_path)
    with pytest.raises(TaskUnknown):
        catalog.cohort("mammography", "train", seed=1, store=tmp_path)


def test_removals_count_objects_by_tag_and_action(tmp_path: Path) -> None:
    name, date = ("(0010,0010)", "replaced"), ("(0008,0020)", "shifted")
    catalog = catalog_of(
        tmp_path / "catalog.db",
        entry("2.25.1", removals=frozenset({name, date})),
        entry("2.25.2", removals=frozenset({name})),
    )
    counted = catalog.removals()
    assert counted == {name: 2, date: 1}


def test_a_source_is_counted_once_in_quarantine_and_leaves_it_when_stored(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.db")
    catalog.record_quarantined({"a": "TRUNCATED", "b": "NOT_DICOM"})
    catalog.record_quarantined({"a": "TRUNCATED"})
    assert catalog.counts().quarantined == {"TRUNCATED": 1, "NOT_DICOM": 1}
    catalog.clear_quarantined(["a"])
    assert catalog.counts().quarantined == {"NOT_DICOM": 1}


def test_a_reader_sees_new_rows_and_can_write_none(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    writer = catalog_of(path, entry("2.25.1"))
    with Catalog(path, read_only=True) as reader:
        writer.add([entry("2.25.2")])
        assert reader.counts().instances == 2
        with pytest.raises(sqlite3.OperationalError):
            reader.add([entry("2.25.3")])


def test_a_reader_without_a_catalog_is_told_to_ingest(tmp_path: Path) -> None:
    with pytest.raises(CatalogMissing):
        Catalog(tmp_path / "catalog.db", read_only=True)


def test_a_reader_refuses_a_catalog_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    Catalog(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version=99")
    raw.close()
    with pytest.raises(DatabaseDamaged):
        Catalog(path, read_only=True)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(DatabaseDamaged):
        Catalog(path, read_only=True)
