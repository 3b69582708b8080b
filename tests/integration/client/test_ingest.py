"""Ingest end to end: files of an export become catalog rows, or a code in quarantine."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

import pydicom
import pytest

from pleura.anonymizer.audit import verify_audit
from pleura.client.errors import WatchFolderMissing
from pleura.client.ingest.catalog import Catalog
from pleura.client.ingest.intake import IngestProgress
from pleura.client.ingest.labels import import_labels
from pleura.client.ingest.process import scan_once
from pleura.client.ingest.vault import open_pseudonym_key
from pleura.client.settings import SiteSettings
from pleura.common.errors import DiskFull, StateInsecure
from tests.builders.ingest_site import ct_study, radiograph, site_of, stored_files
from tests.builders.tiny_dicom import TinyDicom, write_ct

CT = "ct_nodule_malignancy"


@pytest.fixture
def site(tmp_path: Path) -> SiteSettings:
    return site_of(tmp_path)


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def labels(folder: Path, rows: list[tuple[TinyDicom, int]]) -> Path:
    path = folder / "labels.csv"
    lines = [f"{tiny.accession},{label}" for tiny, label in rows]
    path.write_text("accession,label\n" + "\n".join(lines) + "\n")
    return path


def test_an_export_becomes_rows_with_receipts_and_sources_are_left_alone(
    site: SiteSettings, tmp_path: Path
) -> None:
    ct_study(tmp_path, 1, slices=3)
    radiograph(tmp_path)
    before = snapshot(tmp_path / "in")
    summary = scan_once(site)
    assert (summary.found, summary.stored, dict(summary.quarantined)) == (4, 4, {})
    assert snapshot(tmp_path / "in") == before
    with Catalog(site.catalog_file, read_only=True) as catalog:
        counts = catalog.counts()
        assert (counts.patients, counts.studies, counts.instances) == (2, 2, 4)
        removals = catalog.removals()
        assert removals["(0010,1040)", "removed"] == removals["private", "removed"] == 4
    assert len(stored_files(site)) == 4
    assert not (site.store_dir / "staging").exists() or not any(
        (site.store_dir / "staging").iterdir()
    )


def test_a_cohort_names_stored_bytes_in_anatomical_order(
    site: SiteSettings, tmp_path: Path
) -> None:
    study = ct_study(tmp_path, 1, slices=4)
    scan_once(site)
    key = open_pseudonym_key(site.pseudonym_key_file)
    with Catalog(site.catalog_file) as catalog:
        summary = import_labels(labels(tmp_path, [(study[0], 1)]), CT, catalog, key)
        assert (summary.rows, summary.matched) == (1, 1)
        cohort = catalog.cohort(CT, "external", seed=5, store=site.store_dir)
    (sample,) = cohort.samples
    heights = []
    for path, digest in sample.files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        heights.append(float(pydicom.dcmread(path).ImagePositionPatient[2]))
    assert heights == [2.5, 5.0, 7.5, 10.0]


def test_a_second_scan_takes_nothing_in(site: SiteSettings, tmp_path: Path) -> None:
    ct_study(tmp_path, 1)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    scan_once(site)
    before = snapshot(site.store_dir / "objects")
    summary = scan_once(site)
    assert (summary.known, summary.stored, summary.duplicates) == (4, 0, 0)
    assert dict(summary.quarantined) == {}
    assert snapshot(site.store_dir / "objects") == before


def test_a_file_that_appears_later_joins_its_study(site: SiteSettings, tmp_path: Path) -> None:
    ct_study(tmp_path, 1, slices=2)
    scan_once(site)
    ct_study(tmp_path, 1, slices=4)
    summary = scan_once(site)
    assert (summary.stored, len(stored_files(site))) == (2, 4)
    with Catalog(site.catalog_file, read_only=True) as catalog:
        assert catalog.counts().studies == 1


def test_an_unreadable_file_goes_to_quarantine_with_its_code(
    site: SiteSettings, tmp_path: Path
) -> None:
    ct_study(tmp_path, 1)
    broken = tmp_path / "in" / "ct0001" / "IM0002"
    broken.write_bytes(broken.read_bytes()[:-20])
    (tmp_path / "in" / "letter.txt").write_text("no image at all" * 20)
    summary = scan_once(site)
    assert summary.stored == 2
    assert (dict(summary.quarantined), summary.left_out) == ({"TRUNCATED": 1}, 1)
    with Catalog(site.catalog_file, read_only=True) as catalog:
        assert catalog.counts().quarantined == {"TRUNCATED": 1}
    assert len(list((site.quarantine_dir / "TRUNCATED").glob("*.dcm"))) == 1
    assert len(stored_files(site)) == 2


@pytest.mark.parametrize(
    ("ocr", "accepted", "codes"),
    [
        ("off", False, {"OCR_UNAVAILABLE": 1}),
        ("off", True, {}),
    ],
)
def test_a_radiograph_nobody_reads_waits_for_the_stewards_word(
    site: SiteSettings, tmp_path: Path, ocr: Literal["off"], accepted: bool, codes: dict[str, int]
) -> None:
    radiograph(tmp_path)
    ingest = site.ingest.model_copy(update={"ocr": ocr, "accept_unread_text": accepted})
    summary = scan_once(site.model_copy(update={"ingest": ingest}))
    assert dict(summary.quarantined) == codes
    assert summary.stored == (not codes)


@pytest.mark.parametrize("ocr", ["policy", "all"])
def test_a_radiograph_is_read_before_it_is_stored(
    site: SiteSettings, tmp_path: Path, ocr: Literal["policy", "all"]
) -> None:
    pytest.importorskip("rapidocr_onnxruntime", reason="the extra `ocr` is not installed")
    radiograph(tmp_path)
    ingest = site.ingest.model_copy(update={"ocr": ocr, "accept_unread_text": False})
    assert scan_once(site.model_copy(update={"ingest": ingest})).stored == 1
    stored = pydicom.dcmread(stored_files(site)[0])
    codes = {item.CodeValue for item in stored.DeidentificationMethodCodeSequence}
    assert "113101" in codes


def test_a_file_that_was_completed_after_its_refusal_is_taken_in(
    site: SiteSettings, tmp_path: Path
) -> None:
    ct_study(tmp_path, 1, slices=1)
    path = tmp_path / "in" / "ct0001" / "IM0000"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert scan_once(site).stored == 0
    path.write_bytes(whole)
    assert scan_once(site).stored == 1
    with Catalog(site.catalog_file, read_only=True) as catalog:
        assert catalog.counts().quarantined == {}


def test_the_same_bytes_under_another_name_are_a_duplicate(
    site: SiteSettings, tmp_path: Path
) -> None:
    ct_study(tmp_path, 1)
    scan_once(site)
    shutil.copytree(tmp_path / "in" / "ct0001", tmp_path / "in" / "again")
    summary = scan_once(site)
    assert (summary.stored, summary.duplicates, len(stored_files(site))) == (0, 3, 3)


def test_the_same_sop_uid_with_other_bytes_is_refused_and_never_overwrites(
    site: SiteSettings, tmp_path: Path
) -> None:
    (tiny, *_) = ct_study(tmp_path, 1, slices=1)
    scan_once(site)
    before = snapshot(site.store_dir / "objects")
    changed = TinyDicom(**{**_fields(tiny), "fill": 999})
    write_ct(tmp_path / "in" / "other" / "IM1", changed)
    summary = scan_once(site)
    assert dict(summary.quarantined) == {"DUPLICATE_DIFFERS": 1}
    assert snapshot(site.store_dir / "objects") == before
    assert len(list((site.quarantine_dir / "DUPLICATE_DIFFERS").glob("*.dcm"))) == 1


def test_a_stored_study_never_gets_a_second_patient(site: SiteSettings, tmp_path: Path) -> None:
    (tiny, *_) = ct_study(tmp_path, 1, slices=1)
    scan_once(site)
    other = TinyDicom(
        **{**_fields(tiny), "patient_id": "MRN-OTHER", "sop_uid": tiny.sop_uid + ".77"}
    )
    write_ct(tmp_path / "in" / "other" / "IM1", other)
    assert dict(scan_once(site).quarantined) == {"PATIENT_CONFLICT": 1}
    assert len(stored_files(site)) == 1


def test_progress_counts_every_object(site: SiteSettings, tmp_path: Path) -> None:
    ct_study(tmp_path, 1, slices=3)
    (tmp_path / "in" / "x.dcm").write_bytes(bytes(128) + b"DICM")
    seen: list[IngestProgress] = []
    scan_once(site, seen.append)
    assert seen[-1] == IngestProgress(done=4, total=4, stored=3, quarantined=1)
    assert [p.done for p in seen] == sorted(p.done for p in seen)


def test_two_workers_store_what_one_stores(tmp_path: Path) -> None:
    sites = {n: site_of(tmp_path / str(n), workers=n) for n in (1, 2)}
    open_pseudonym_key(sites[1].pseudonym_key_file)
    sites[2].state_dir.mkdir(mode=0o700)
    shutil.copytree(sites[1].state_dir / "vault", sites[2].state_dir / "vault")
    trees = []
    for n, one in sites.items():
        for study in (1, 2):
            ct_study(tmp_path / str(n), study)
        assert scan_once(one).stored == 6
        trees.append({p.relative_to(one.store_dir): p.read_bytes() for p in stored_files(one)})
    assert trees[0] == trees[1]


def test_nothing_is_taken_in_under_the_reserve(tmp_path: Path) -> None:
    ct_study(tmp_path, 1)
    with pytest.raises(DiskFull):
        scan_once(site_of(tmp_path, reserve_gb=1e9))
    assert not stored_files(site_of(tmp_path))
    assert scan_once(site_of(tmp_path)).stored == 3


def test_a_watched_folder_that_is_absent_is_named_and_never_passes_as_empty(
    site: SiteSettings, tmp_path: Path
) -> None:
    (tmp_path / "in").rmdir()
    with pytest.raises(WatchFolderMissing, match=r"no\. 1$"):
        scan_once(site)


def test_a_file_that_changes_while_it_is_read_waits_for_the_next_scan(
    site: SiteSettings, tmp_path: Path
) -> None:
    ct_study(tmp_path, 1, slices=3)
    path = tmp_path / "in" / "ct0001" / "IM0001"

    def touch(_: IngestProgress) -> None:
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))

    summary = scan_once(site, touch)
    assert (summary.stored, summary.waiting) == (2, 1)
    assert scan_once(site).stored == 1
    assert len(stored_files(site)) == 3


def test_the_audit_heads_of_all_batches_are_remembered(site: SiteSettings, tmp_path: Path) -> None:
    for study in (1, 2):
        ct_study(tmp_path, study)
        scan_once(site)
    folder = site.ingest_db_file.parent
    with closing(sqlite3.connect(site.ingest_db_file)) as db:
        heads = dict(db.execute("SELECT id, audit_head FROM batches").fetchall())
    assert len(heads) == 2
    for batch, head in heads.items():
        assert verify_audit(folder / "audit" / f"{batch}.jsonl") == head


def test_a_state_folder_open_to_others_is_refused(site: SiteSettings, tmp_path: Path) -> None:
    site.state_dir.mkdir(mode=0o700)
    site.state_dir.chmod(0o755)
    with pytest.raises(StateInsecure):
        scan_once(site)


def test_no_planted_identifier_is_anywhere_in_the_state_folder(
    site: SiteSettings, tmp_path: Path
) -> None:
    planted = [*ct_study(tmp_path, 1), radiograph(tmp_path)]
    scan_once(site)
    key = open_pseudonym_key(site.pseudonym_key_file)
    with Catalog(site.catalog_file) as catalog:
        import_labels(labels(tmp_path, [(planted[0], 1)]), CT, catalog, key)
    strings = {text for tiny in planted for text in tiny.identifiers} | {"ct0001", "IM0001"}
    assert_absent(site.state_dir, strings)


def test_phantoms_are_taken_in_without_loss_or_leak(site: SiteSettings, tmp_path: Path) -> None:
    from pleura.client.phantoms.site import PhantomSite, write_site

    watched = tmp_path / "in"
    summary = write_site(
        watched,
        PhantomSite(name="a", look="aurora", patients=6, seed=3, task="cxr_abnormal", size_px=64),
    )
    ingested = scan_once(site)
    assert (ingested.stored, dict(ingested.quarantined)) == (summary.files, {})
    key = open_pseudonym_key(site.pseudonym_key_file)
    with Catalog(site.catalog_file) as catalog:
        imported = import_labels(summary.labels_csv, "cxr_abnormal", catalog, key)
        assert imported.unmatched == 0
        cohort = catalog.cohort("cxr_abnormal", "external", seed=1, store=site.store_dir)
        assert (len(cohort.samples), cohort.patients) == (summary.files, summary.patients)
    assert_absent(site.state_dir, set(summary.planted))


def assert_absent(state: Path, strings: set[str]) -> None:
    """Fail if a string is in the bytes or the name of any file of the state folder."""
    for path in state.rglob("*"):
        haystack = os.fsencode(path.relative_to(state)).lower()
        if path.is_file():
            haystack += path.read_bytes().lower()
        for text in strings:
            assert text.encode().lower() not in haystack, path.suffix


def _fields(tiny: TinyDicom) -> dict[str, object]:
    return {name: getattr(tiny, name) for name in TinyDicom.__slots__}
