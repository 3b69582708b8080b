"""What is refused before the first rule, and which pixels somebody must read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import ImplicitVRLittleEndian, JPEGBaseline8Bit

from pleura.anonymizer.burnedin.policy import must_be_read
from pleura.anonymizer.errors import (
    NoSopUid,
    Quarantined,
    SopRefused,
    Truncated,
    Undecodable,
)
from pleura.anonymizer.header import read_header
from pleura.anonymizer.wire import parse_file
from tests.builders.identified import ct_dataset, item, write


def header_of(tmp_path: Path, **changes: object):  # type: ignore[no-untyped-def]
    path = write(tmp_path / "a.dcm", ct_dataset(**changes))
    return read_header(parse_file(path.read_bytes()))


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, False),
        ({"Modality": "MR"}, False),
        ({"Modality": "CR"}, True),
        ({"Modality": "US"}, True),
        ({"Modality": "XX"}, True),
        ({"Modality": ""}, True),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, True),
        ({"ImageType": ["DERIVED", "PRIMARY"]}, True),
        ({"Modality": "SEG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, False),
        ({"Modality": "SEG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1"}, True),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "SCREEN SAVE"]}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, True),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, True),
        ({"BurnedInAnnotation": "YES"}, True),
        ({"BurnedInAnnotation": "NO", "Modality": "CR"}, True),
        ({"PixelData": None, "Modality": "SR"}, False),
    ],
)
def test_the_burned_in_policy(tmp_path: Path, changes: dict[str, object], needed: bool) -> None:
    header = header_of(tmp_path, **changes)
    assert must_be_read(header) is needed


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"SOPInstanceUID": ""}, NoSopUid),
        ({"SOPInstanceUID": "1.2\\1.3"}, NoSopUid),
        ({"SOPInstanceUID": "Quibbleworth"}, NoSopUid),
        ({"StudyInstanceUID": None}, NoSopUid),
        ({"StudyInstanceUID": "1." + "2" * 63}, NoSopUid),
        ({"SeriesInstanceUID": "1.2.840.10008.1.2"}, NoSopUid),
        ({"SOPClassUID": "1.2.3.4"}, SopRefused),
        ({"SOPClassUID": "1.2.840.10008.1.1"}, SopRefused),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.9.4.1"}, SopRefused),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, SopRefused),
        ({"PixelData": bytes(126)}, Truncated),
        ({"NumberOfFrames": "2"}, Truncated),
        ({"PhotometricInterpretation": "YBR_FULL_422", "SamplesPerPixel": 3}, Truncated),
    ],
)
def test_objects_that_cannot_be_cleaned_are_refused(
    tmp_path: Path, changes: dict[str, object], error: type[Quarantined]
) -> None:
    with pytest.raises(error):
        header_of(tmp_path, **changes)


@pytest.mark.parametrize(("position", "needed"), [(12, True), (0, False)])
def test_an_overlay_in_unused_pixel_bits_must_be_read(
    tmp_path: Path, position: int, needed: bool
) -> None:
    ds = ct_dataset()
    ds.add_new(0x60000100, "US", 16)
    ds.add_new(0x60000102, "US", position)
    path = write(tmp_path / "a.dcm", ds)
    assert must_be_read(read_header(parse_file(path.read_bytes()))) is needed


def test_pixels_must_be_encoded_as_the_syntax_says(tmp_path: Path) -> None:
    data = write(tmp_path / "a", ct_dataset()).read_bytes()
    length = len("1.2.840.10008.1.2.1") + 1
    assert data[132:].index(b"\x02\x00\x10\x00UI") >= 0
    claimed = data.replace(
        b"UI" + length.to_bytes(2, "little") + b"1.2.840.10008.1.2.1\0",
        b"UI" + (22).to_bytes(2, "little") + JPEGBaseline8Bit.encode(),
    )
    with pytest.raises(Undecodable):
        read_header(parse_file(claimed))


def test_a_patient_id_in_an_unknown_character_set_still_names_one_patient(tmp_path: Path) -> None:
    path = write(tmp_path / "a", ct_dataset(PatientID="Zoë"))
    data = path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999")
    assert read_header(parse_file(data)).patient_id == "Zoë"


def test_sequences_in_the_place_of_values_are_empty(tmp_path: Path) -> None:
    ds = ct_dataset(PixelData=None, Modality="SR")
    del ds.AccessionNumber, ds.Rows
    ds.add_new(0x00080050, "SQ", [item(PatientName="x")])
    ds.add_new(0x00280010, "SQ", [item(PatientName="x")])
    path = write(tmp_path / "a", ds, syntax=ImplicitVRLittleEndian)
    assert read_header(parse_file(path.read_bytes())).accession != "x"


def test_the_advice_for_a_uid_fits_one_that_is_there_and_no_uid() -> None:
    assert "missing or not valid" in NoSopUid.hint
