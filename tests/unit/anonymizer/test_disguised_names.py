"""A name or number that the header tells is found in other spellings too, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence

from pleura.anonymizer.errors import Undecodable
from pleura.anonymizer.pixels.codestream import strip_j2k, strip_jpeg
from pleura.anonymizer.prose import clean_prose
from pleura.anonymizer.text import Seeds
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, cleaned
from tests.builders.identified import ct_dataset, item


def left_of(text: str, *names: str, identifiers: tuple[str, ...] = ()) -> str:
    seeds = Seeds()
    for name in names:
        seeds.add_name(name)
    for identifier in identifiers:
        seeds.add_identifier(identifier)
    return clean_prose(text, seeds, strict=False, terms=frozenset()).text


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("Müller^Jörg", "Mueller Joerg"),
        ("Mueller^Joerg", "Müller Jörg"),
        ("Wałęsa^Lech", "Walesa"),
        ("Sorensen^Bo", "Sørensen"),
        ("Yıldız^Işık", "YILDIZ"),
        ("Æbelø^Per", "Aebelo"),
        ("Schmidt^Eva", "Schm\u00adidt"),
        ("Kim^Su", "KIM3"),
        ("Kim^Su", "KimSu01"),
        ("Le^Van An", "VanAnLe"),
        ("O'Dea^Ann", "ODea"),
    ],
)
def test_a_name_goes_in_another_spelling(name: str, spelled: str) -> None:
    assert left_of(f"Chest {spelled} left", name) == "Chest left"


@pytest.mark.parametrize(
    ("identifier", "spelled"),
    [
        ("2024-0123", "2024_0123"),
        ("2024-0123", "2024 0123"),
        ("CT1234", "CT 1234"),
        ("MR-0012345", "MR0012345"),
    ],
)
def test_an_identifier_goes_however_it_is_spaced(identifier: str, spelled: str) -> None:
    assert left_of(f"Chest {spelled} left", identifiers=(identifier,)) == "Chest left"


@pytest.mark.parametrize("text", ["Chest 3 mm", "kimono", "2024 12", "CT 12", "T2 3D"])
def test_what_is_like_neither_stays(text: str) -> None:
    assert left_of(text, "Kim^Su", identifiers=("2024-0123", "CT1234")) == text


@pytest.mark.parametrize("vr", ["LO", "SH", "ST", "CS", "UN"])
@pytest.mark.parametrize("profile", [HIPAA, GDPR, RESEARCH], ids=lambda p: p.name)
def test_a_name_of_another_representation_still_is_one(
    tmp_path: Path, vr: str, profile: object
) -> None:
    ds = ct_dataset(ManufacturerModelName="Ray ZWARTENDIJK", ImageType=["ORIGINAL", "ZWARTENDIJK"])
    value: object = b"ZWARTENDIJK" + b" " if vr == "UN" else "ZWARTENDIJK"
    ds[0x00100010] = DataElement(0x00100010, vr, value)
    out = cleaned(tmp_path, ds, profile=profile)  # type: ignore[arg-type]
    assert "ZWARTENDIJK" not in str(out)


def test_a_number_is_the_patients_whatever_zeros_it_has(tmp_path: Path) -> None:
    ds = ct_dataset(AccessionNumber="00771234", PatientBirthDate="19500412", KVP="771234.0")
    ds.SeriesNumber = "12041950"
    out = cleaned(tmp_path, ds, profile=RESEARCH)
    assert out.get("KVP") in (None, 0)
    assert out.SeriesNumber == 0


@pytest.mark.parametrize("code", ["20231104", "SSN 123", "DR_LINDQVIST", "MRN_77"])
def test_a_code_that_names_somebody_goes(tmp_path: Path, code: str) -> None:
    out = cleaned(tmp_path, ct_dataset(ImageType=["ORIGINAL", "PRIMARY", code]), profile=RESEARCH)
    assert code not in str(out.ImageType)


def test_a_kept_device_uid_is_a_uid_and_not_the_studys(tmp_path: Path) -> None:
    ds = ct_dataset()
    ds.DeviceUID = "1.2.3.44"
    assert cleaned(tmp_path / "a", ds, profile=RESEARCH).DeviceUID == "1.2.3.44"
    ds.DeviceUID = ds.StudyInstanceUID
    kept = cleaned(tmp_path / "b", ds, profile=RESEARCH)
    assert kept.DeviceUID == kept.StudyInstanceUID != ds.StudyInstanceUID
    ds["DeviceUID"]._value = "Lindqvist Rose 5551234567"
    assert "Lindqvist" not in cleaned(tmp_path / "c", ds, profile=RESEARCH).DeviceUID


def content(code: str, value_type: str, **value: object) -> object:
    concept = item(CodeValue=code, CodingSchemeDesignator="DCM", CodeMeaning="Subject")
    return item(ConceptNameCodeSequence=Sequence([concept]), ValueType=value_type, **value)


def test_a_report_no_longer_says_who_its_subject_is(tmp_path: Path) -> None:
    ds = ct_dataset()
    ds.ContentSequence = Sequence(
        [
            content("121030", "TEXT", TextValue="4711"),
            content("121031", "DATE", Date="19300412"),
            content("121071", "TEXT", TextValue="lung clear"),
        ]
    )
    out = cleaned(tmp_path, ds)
    assert [i.TextValue for i in out.ContentSequence] == ["lung clear"]


@pytest.mark.parametrize("marker", [0xC8, 0xCC, 0xDE, 0xDF, 0xF0, 0xFD, 0x80])
def test_a_jpeg_segment_that_nobody_reads_is_refused(marker: int) -> None:
    with pytest.raises(Undecodable):
        strip_jpeg(b"\xff\xd8\xff" + bytes([marker]) + b"\0\x0bKowalczyk\xff\xd9")


@pytest.mark.parametrize("marker", [0x30, 0x54, 0x65, 0x6F, 0x74])
def test_a_jpeg_2000_segment_that_nobody_reads_is_refused(marker: int) -> None:
    with pytest.raises(Undecodable):
        strip_j2k(b"\xff\x4f\xff" + bytes([marker]) + b"\0\x0bKowalczyk\xff\x90")
