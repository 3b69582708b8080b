"""Keyed pseudonyms: the design's vectors and the key file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pleura.anonymizer.errors import ProjectKeyExists, ProjectKeyInvalid
from pleura.anonymizer.pseudonyms import ProjectKey, patient_value, shift_seconds_of
from pleura.common.errors import KeyFileInsecure, KeyUnreadable
from tests.builders.identified import project_key

KEY = project_key()


def test_the_hmac_vector_holds() -> None:
    expected = "60d77e3cce745fe7f0efcad5c713deca5b257a9e4022c0399e4479891ae63a03"
    assert KEY.keyed("patient", "A1") == expected
    assert KEY.key_id == "5b844c5b4f878db8"
    empty = hashlib.sha256(b"").hexdigest()
    expected = "b2d347eb4fe2f320818cd090d134a13b18ee9528b6a43da2eafba089ce242425"
    assert KEY.keyed("input", empty) == expected


@pytest.mark.parametrize(
    ("patient", "pseudonym", "days", "wide"),
    [
        ("A1", "PMDLX4PGOORP6P4HP", -18, 2538),
        ("12345678", "PWLUIV5KJRFH6IJG6", -84, 1012),
        ("山田^太郎", "PEPKVHRND2VNBC3RL", -175, -1270),
    ],
)
def test_patient_vectors_hold(patient: str, pseudonym: str, days: int, wide: int) -> None:
    assert KEY.patient(patient, "1.2") == pseudonym
    assert KEY.date_shift_days(patient) == days
    assert KEY.date_shift_days(patient, 3650) == wide


@pytest.mark.parametrize(
    ("uid", "mapped"),
    [
        ("1.2.3.4", "2.25.72442358335597599881953726559594152245"),
        ("1.2.840.113619.2.55.3.1", "2.25.167402640230987740888753573948318732867"),
    ],
)
def test_uid_vectors_hold(uid: str, mapped: str) -> None:
    assert KEY.uid(uid) == mapped


def test_a_patient_is_the_same_with_outer_spaces_and_another_in_lower_case() -> None:
    assert KEY.patient(" A1 \0", "1.2") == KEY.patient("A1", "1.2")
    assert KEY.patient("a1", "1.2") != KEY.patient("A1", "1.2")


def test_a_patient_without_id_is_keyed_by_the_study() -> None:
    assert patient_value(" ", "1.2") == "study:1.2"
    assert KEY.patient("", "1.2") != KEY.patient("", "1.3")


def test_another_key_links_nothing() -> None:
    other = project_key(1)
    assert KEY.patient("A1", "1") != other.patient("A1", "1")
    assert KEY.uid("1.2.3.4") != other.uid("1.2.3.4")
    assert KEY.key_id != other.key_id


def test_a_created_key_loads_again_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "project.key"
    created = ProjectKey.create(path, 3)
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = ProjectKey.load(path)
    assert loaded == created
    assert loaded.version == 3
    assert "_secret" not in repr(loaded)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "project.key"
    ProjectKey.create(path)
    with pytest.raises(ProjectKeyExists):
        ProjectKey.create(path)


def test_a_readable_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "project.key"
    ProjectKey.create(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileInsecure):
        ProjectKey.load(path)


def test_a_missing_or_foreign_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyUnreadable):
        ProjectKey.load(tmp_path / "none")
    path = tmp_path / "foreign"
    path.write_bytes(b"pleura-project-key v1 00\n")
    path.chmod(0o600)
    with pytest.raises(ProjectKeyInvalid):
        ProjectKey.load(path)
    with pytest.raises(ProjectKeyInvalid):
        ProjectKey.from_bytes(b"short")


def test_a_time_moves_by_less_than_a_day_and_never_by_nothing() -> None:
    moved = {KEY.time_shift_seconds(str(patient)) for patient in range(200)}
    assert len(moved) > 190
    assert all(1 <= seconds < 86_400 for seconds in moved)
    assert (shift_seconds_of(bytes(8)), shift_seconds_of(b"\xff" * 8)) != (0, 0)
    assert shift_seconds_of((86_398).to_bytes(8, "big")) == 86_399
    assert shift_seconds_of((86_399).to_bytes(8, "big")) == 1


def test_a_key_needs_no_session_and_has_no_row_to_forget() -> None:
    with KEY.session():
        name = KEY.patient("A1", "1.2")
    assert KEY.forget(name) == 0
    KEY.close()
    assert KEY.tombstone("A1", "1.2") == KEY.tombstone_of(name) != KEY.tombstone("B2", "1.2")
