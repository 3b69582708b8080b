"""Commit decisions and ingest rows: nothing stored is overwritten, nothing half done stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pleura.anonymizer.engine import Deidentified, deidentify_file
from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.client.ingest.catalog import Catalog, StoredBytes
from pleura.client.ingest.commit import Arrival, Committer, Decision, decide
from pleura.client.ingest.rows import IngestRows, SourceRow
from pleura.client.ingest.vault import open_pseudonym_key
from pleura.client.ingest.watcher import Found, Stamp
from pleura.common.errors import KeyFileInsecure
from tests.builders.catalog_rows import entry
from tests.builders.tiny_dicom import TinyDicom, write_ct

KEY = ProjectKey.from_bytes(bytes(range(32)))
NAME = "ab" * 32


@pytest.fixture
def made(tmp_path: Path) -> Deidentified:
    source = write_ct(tmp_path / "in" / "IM1", TinyDicom())
    return deidentify_file(
        source, tmp_path / "out", profile=load_profile("gdpr_pseudonymous"), key=KEY
    )


def arrival(made: Deidentified) -> Arrival:
    return Arrival(Found(Path("/in/IM1"), Stamp(1, 1)), NAME, made)


def decided(
    *made: Deidentified,
    there: StoredBytes | None = None,
    patient: str | None = None,
    modalities: tuple[str, ...] = (),
) -> list[Decision]:
    arrivals = [arrival(one) for one in made]
    return decide(arrivals, patient=patient, stored=lambda _: there, modalities=modalities)


def test_a_new_object_is_stored_once_even_if_it_came_twice(made: Deidentified) -> None:
    assert decided(made, made) == ["store", "duplicate"]


def test_an_object_from_the_same_source_bytes_is_a_duplicate_after_an_upgrade(
    made: Deidentified,
) -> None:
    there = StoredBytes("00" * 32, made.receipt.input_digest)
    assert decided(made, there=there) == ["duplicate"]


def test_an_object_with_other_bytes_is_refused(made: Deidentified) -> None:
    there = StoredBytes("00" * 32, "11" * 32)
    assert decided(made, there=there) == ["DUPLICATE_DIFFERS"]


def test_a_study_of_two_patients_is_refused_whole(made: Deidentified) -> None:
    other = replace(made, patient="POTHEROTHEROTHERO", sop_uid="2.25.9")
    assert decided(made, other) == ["PATIENT_CONFLICT"] * 2
    assert decided(made, patient="POTHEROTHEROTHERO") == ["PATIENT_CONFLICT"]
    assert decided(made, patient=made.patient) == ["store"]


def test_ct_beside_pet_is_refused_whichever_came_first(made: Deidentified) -> None:
    pet = replace(made, modality="PT", sop_uid="2.25.9")
    dose = replace(made, modality="SR", sop_uid="2.25.10")
    assert decided(made, pet, dose) == ["FACE_IN_FIELD", "FACE_IN_FIELD", "store"]
    assert decided(made, modalities=("PT",)) == ["FACE_IN_FIELD"]
    assert decided(made, dose, modalities=("CT",)) == ["store", "store"]


def test_recovery_removes_a_file_without_a_row_and_keeps_one_with_a_row(tmp_path: Path) -> None:
    store = tmp_path / "store"
    catalog, rows = Catalog(store / "catalog.db"), IngestRows(tmp_path / "ingest.db")
    named = entry("2.25.1")
    catalog.add([named])
    orphan = "objects/P/2.25.5/2.25.6/2.25.7.dcm"
    for path in (named.path, orphan, "staging/x/half.dcm"):
        (store / path).parent.mkdir(parents=True)
        (store / path).write_bytes(b"x")
    rows.open_moves([named.path, orphan])
    Committer(store, catalog, rows).recover()
    assert (store / named.path).exists()
    assert not (store / orphan).exists()
    assert not (store / "staging").exists()
    assert rows.pending_moves() == ()


def test_a_source_is_known_by_its_last_state_and_our_own_faults_are_tried_again(
    tmp_path: Path,
) -> None:
    rows = IngestRows(tmp_path / "ingest.db")
    rows.finish([SourceRow(NAME, Stamp(1, 1), "quarantined", "TRUNCATED")])
    rows.finish([SourceRow(NAME, Stamp(2, 5), "stored")])
    rows.finish([SourceRow("cd" * 32, Stamp(1, 1), "quarantined", "INTERNAL")])
    rows.close()
    assert IngestRows(tmp_path / "ingest.db").known() == {NAME: Stamp(2, 5)}


def test_the_pseudonym_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "vault" / "pseudonym.key"
    first = open_pseudonym_key(path)
    assert open_pseudonym_key(path).key_id == first.key_id
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o640)
    with pytest.raises(KeyFileInsecure):
        open_pseudonym_key(path)
