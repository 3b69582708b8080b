"""Labels: what a site's CSV may say, and how a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.client.errors import LabelsUnreadable, TaskUnknown
from pleura.client.ingest.catalog import Catalog
from pleura.client.ingest.labels import import_labels, read_labels
from tests.builders.catalog_rows import catalog_of, entry

KEY = ProjectKey.from_bytes(bytes(range(32)))
TASK = "cxr_abnormal"
SECRET = "ACC-4711"


def csv_file(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return catalog_of(
        tmp_path / "catalog.db",
        entry("2.25.1", modality="CR", accession_key=KEY.keyed("accession", SECRET)),
        entry("2.25.2", modality="CR", sop_key=KEY.keyed("sop", "1.2.3")),
    )


def test_rows_that_name_a_stored_object_are_counted_as_matched(
    catalog: Catalog, tmp_path: Path
) -> None:
    path = csv_file(tmp_path, f"accession,label\n{SECRET},1\nACC-0000,0\n")
    summary = import_labels(path, TASK, catalog, KEY)
    assert (summary.rows, summary.matched, summary.unmatched) == (2, 1, 1)


def test_a_label_by_sop_uid_reaches_the_object(catalog: Catalog, tmp_path: Path) -> None:
    import_labels(csv_file(tmp_path, "sop_uid,label\n1.2.3,1\n"), TASK, catalog, KEY)
    cohort = catalog.cohort(TASK, "external", seed=1, store=tmp_path)
    assert [(s.key, s.label) for s in cohort.samples] == [("2.25.2", 1)]


def test_labels_imported_before_the_images_apply_when_they_come(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.db")
    path = csv_file(tmp_path, f"accession,label,diameter_mm\n{SECRET},1,7.5\n")
    assert import_labels(path, TASK, catalog, KEY).matched == 0
    catalog.add([entry(modality="DX", accession_key=KEY.keyed("accession", SECRET))])
    assert len(catalog.cohort(TASK, "external", seed=1, store=tmp_path).samples) == 1


def test_import_replaces_all_earlier_labels_of_the_task(catalog: Catalog, tmp_path: Path) -> None:
    import_labels(csv_file(tmp_path, f"accession,label\n{SECRET},1\n"), TASK, catalog, KEY)
    import_labels(csv_file(tmp_path, "sop_uid,label\n1.2.3,0\n"), TASK, catalog, KEY)
    cohort = catalog.cohort(TASK, "external", seed=1, store=tmp_path)
    assert [(s.key, s.label) for s in cohort.samples] == [("2.25.2", 0)]


def test_no_original_identifier_is_in_the_catalog_file(catalog: Catalog, tmp_path: Path) -> None:
    import_labels(csv_file(tmp_path, f"accession,label\n{SECRET},1\n"), TASK, catalog, KEY)
    catalog.close()
    for path in tmp_path.glob("catalog.db*"):
        assert SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    "text", [f"accession;label\n{SECRET};1\n", f"\ufeffaccession,label\n{SECRET},1"]
)
def test_spreadsheet_dialects_are_read(text: str, tmp_path: Path) -> None:
    (row,) = read_labels(csv_file(tmp_path, text), KEY)
    assert (row.key, row.mark.label) == (KEY.keyed("accession", SECRET), 1)


def test_a_repeated_equal_row_is_one_label(tmp_path: Path) -> None:
    text = f"accession,label,diameter_mm\n{SECRET},1,4\n{SECRET},1,9\n"
    assert len(read_labels(csv_file(tmp_path, text), KEY)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"accession,label\n{SECRET},2\n", "line 2: column label"),
        (f"accession,label\nA,1\n{SECRET},\n", "line 3: column label"),
        (f"accession,label,split\n{SECRET},1,holdout\n", "line 2: column split"),
        (f"accession,label\n{SECRET},1,x\n", "line 2: 3 cells for 2 columns"),
        ("accession,label\n,1\n", "line 2: columns sop_uid and accession"),
        (f"accession,label\n{SECRET},1\n{SECRET},0\n", "line 3: contradicts line 2"),
        (f'accession,label\n"{SECRET},1\n', "line 2: not CSV"),
        (f"accession,label,patient_name\n{SECRET},1,x\n", "line 1: column patient_name"),
        (f"accession,label,{SECRET}\nA,1,x\n", "line 1: column no. 3"),
        ("accession,label,label\nA,1,1\n", "line 1: a column stands twice"),
        (f"{SECRET},1\n", "line 1: needs the columns"),
        ("accession,label\n", "no row"),
        ("", "line 1: needs the columns"),
    ],
)
def test_a_wrong_line_is_named_without_its_value(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LabelsUnreadable) as caught:
        read_labels(csv_file(tmp_path, text), KEY)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_file_that_is_not_utf8_is_refused_and_not_kept_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(LabelsUnreadable) as caught:
        read_labels(csv_file(tmp_path, "accession,label\nMüller,1\n", "latin-1"), KEY)
    assert caught.value.__cause__ is None


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelsUnreadable):
        read_labels(tmp_path / "none.csv", KEY)


def test_a_refused_import_leaves_the_earlier_labels(catalog: Catalog, tmp_path: Path) -> None:
    import_labels(csv_file(tmp_path, f"accession,label\n{SECRET},1\n"), TASK, catalog, KEY)
    with pytest.raises(LabelsUnreadable):
        import_labels(csv_file(tmp_path, "sop_uid,label\n1.2.3,0\n9,9\n"), TASK, catalog, KEY)
    assert catalog.matched_labels(TASK) == 1
    assert len(catalog.cohort(TASK, "external", seed=1, store=tmp_path).samples) == 1


def test_a_patient_in_two_imported_splits_is_refused_and_nothing_kept(
    catalog: Catalog, tmp_path: Path
) -> None:
    text = f"accession,sop_uid,label,split\n{SECRET},,1,train\n,1.2.3,0,test\n"
    with pytest.raises(LabelsUnreadable, match="two splits"):
        import_labels(csv_file(tmp_path, text), TASK, catalog, KEY)
    assert catalog.counts().labels == {}


def test_an_unknown_task_is_refused_before_the_file_is_read(
    catalog: Catalog, tmp_path: Path
) -> None:
    with pytest.raises(TaskUnknown):
        import_labels(tmp_path / "none.csv", "mammography", catalog, KEY)
