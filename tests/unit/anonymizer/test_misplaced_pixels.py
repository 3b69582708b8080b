"""Pixel data stays where PS3.3 puts it: at the top level, offset tables with encapsulated ones."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from pleura.anonymizer.profile import Profile
from pleura.anonymizer.rules import is_misplaced
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, run
from tests.builders.identified import ct_dataset, item, write
from tests.builders.pixel_streams import rle_literal

NOTE = b"ZORBATZ ANTON 11.12.1950"
PROFILES = pytest.mark.parametrize("profile", [GDPR, HIPAA, RESEARCH])
HOLDERS = (
    "SourceImageSequence", "ReferencedImageSequence", "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence", "ProcedureCodeSequence", "AnatomicRegionSequence",
)  # fmt: skip


def with_pixels(tag: int, vr: str, value: bytes) -> Dataset:
    inner = item(CodeMeaning="Chest", CodeValue="51185008", CodingSchemeDesignator="SCT")
    inner.add(DataElement(tag, vr, value))
    return inner


@PROFILES
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize(
    ("tag", "vr"),
    [(0x7FE00010, "OW"), (0x7FE00010, "OB"), (0x7FE00008, "OF"), (0x7FE00009, "OD"),
     (0x7FE00001, "OV"), (0x7FE00002, "OV")],
)  # fmt: skip
def test_no_picture_stays_inside_a_sequence(
    tmp_path: Path, profile: Profile, holder: str, tag: int, vr: str
) -> None:
    ds = ct_dataset(**{holder: Sequence([with_pixels(tag, vr, NOTE)])})
    result = run(write(tmp_path / "a.dcm", ds), tmp_path / "out", profile=profile)
    assert NOTE not in result.path.read_bytes()
    after = dcmread(result.path)
    assert not [e for e in after.iterall() if e.tag.group == 0x7FE0 and e.tag != 0x7FE00010]
    assert after.PixelData == ds.PixelData


def test_a_code_stream_inside_a_sequence_goes_and_is_counted(tmp_path: Path) -> None:
    inner = with_pixels(0x7FE00010, "OB", encapsulate([b"\xff\xd8\xff\xfe\0\x1a" + NOTE]))
    inner["PixelData"].is_undefined_length = True
    deep = item(PurposeOfReferenceCodeSequence=Sequence([inner]))
    ds = ct_dataset(SourceImageSequence=Sequence([deep]))
    result = run(write(tmp_path / "a.dcm", ds), tmp_path / "out")
    assert NOTE not in result.path.read_bytes()
    assert result.receipt.removed["(7FE0,0010)"] == 1


@PROFILES
@pytest.mark.parametrize("tag", [0x7FE00001, 0x7FE00002])
def test_offset_tables_beside_native_pixels_go(tmp_path: Path, profile: Profile, tag: int) -> None:
    ds = ct_dataset()
    ds.add(DataElement(tag, "OV", NOTE))
    result = run(write(tmp_path / "a.dcm", ds), tmp_path / "out", profile=profile)
    assert NOTE not in result.path.read_bytes()
    assert tag not in dcmread(result.path)


@PROFILES
def test_offset_tables_of_encapsulated_pixels_stay_true_and_no_length_does(
    tmp_path: Path, profile: Profile
) -> None:
    ds = ct_dataset(BitsAllocated=8, BitsStored=8, HighBit=7)
    stream = rle_literal([bytes(range(64))])
    ds.PixelData = encapsulate([stream], has_bot=False)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.add(DataElement(0x7FE00001, "OV", NOTE))
    ds.add(DataElement(0x7FE00002, "OV", struct.pack("<Q", len(stream))))
    ds.add(DataElement(0x7FE00003, "UV", int.from_bytes(b"ZORBATZ!", "little")))
    source = write(tmp_path / "a.dcm", ds, syntax=RLELossless)
    result = run(source, tmp_path / "out", profile=profile)
    assert b"ZORBATZ" not in result.path.read_bytes()
    after = dcmread(result.path)
    assert after[0x7FE00001].value == bytes(8)
    assert 0x7FE00003 not in after
    assert after.PixelData == ds.PixelData


def test_a_dummy_item_has_no_pixels(tmp_path: Path) -> None:
    inner = with_pixels(0x7FE00010, "OW", NOTE)
    ds = ct_dataset(ContentSequence=Sequence([inner]))
    after = dcmread(run(write(tmp_path / "a.dcm", ds), tmp_path / "out", profile=HIPAA).path)
    assert not [e for e in after.iterall() if e.tag.group == 0x7FE0 and e.tag != 0x7FE00010]
    assert "PixelData" not in after.ContentSequence[0]


@pytest.mark.parametrize(
    ("tag", "path", "encapsulated", "expected"),
    [
        (0x7FE00010, (), False, False), (0x7FE00010, (0x00082112,), True, True),
        (0x7FE00001, (), True, False), (0x7FE00001, (), False, True),
        (0x7FE00002, (), False, True), (0x7FE00001, (0x00082112,), True, True),
        (0x00280010, (0x00082112,), False, False),
    ],
)  # fmt: skip
def test_where_pixel_data_may_be(
    tag: int, path: tuple[int, ...], encapsulated: bool, expected: bool
) -> None:
    assert is_misplaced(tag, path, is_encapsulated=encapsulated) is expected
