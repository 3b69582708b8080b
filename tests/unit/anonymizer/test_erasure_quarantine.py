"""Erasure in quarantine: copies that name an erased patient go, everybody else's stay."""

from __future__ import annotations

from pathlib import Path

from pleura.anonymizer.erasure import sweep_quarantine
from tests.builders.identified import ct_dataset, project_key, write

KEY = project_key()


def _copy(folder: Path, name: str, patient: str) -> Path:
    path = write(folder / "TRUNCATED" / f"{name}.dcm", ct_dataset(PatientID=patient))
    path.with_suffix(".json").write_text("{}")
    return path


def test_copies_of_an_erased_patient_go_with_their_notes(tmp_path: Path) -> None:
    (tmp_path / "TRUNCATED").mkdir()
    gone, kept = _copy(tmp_path, "a", "MRN-1"), _copy(tmp_path, "b", "MRN-2")
    barred = frozenset({KEY.tombstone("MRN-1", "")})
    assert sweep_quarantine(tmp_path, KEY, barred) == 1
    assert not gone.exists()
    assert not gone.with_suffix(".json").exists()
    assert kept.exists()
    assert kept.with_suffix(".json").exists()
    assert sweep_quarantine(tmp_path, KEY, barred) == 0


def test_a_copy_nobody_can_read_stays(tmp_path: Path) -> None:
    (tmp_path / "NOT_DICOM").mkdir()
    letter = tmp_path / "NOT_DICOM" / "letter.dcm"
    letter.write_bytes(b"MRN-1 is no DICOM object")
    assert sweep_quarantine(tmp_path, KEY, frozenset({KEY.tombstone("MRN-1", "")})) == 0
    assert letter.exists()
