"""The engine on whole files: what must survive, what must go, and every refusal."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pleura.anonymizer import engine, opening
from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.errors import (
    InternalFault,
    LimitExceeded,
    OcrUnavailable,
    Quarantined,
    Unreadable,
)
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.source import BytesSource, FileSource
from pleura.anonymizer.wire import Element, Syntax, encode, parse_file
from pleura.anonymizer.writing import Draft, digests
from pleura.common.errors import DiskFull
from tests.builders import identified
from tests.builders.deidentified import GDPR, HIPAA, KEY, RESEARCH, cleaned, refused, run
from tests.builders.identified import PLANTED, ct_dataset, item, nested, write

# --- what a clean object looks like -----------------------------------------


@pytest.mark.parametrize("profile", [GDPR, RESEARCH, HIPAA], ids=lambda p: p.name)
@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_no_planted_value_survives_in_any_syntax(
    tmp_path: Path, profile: Profile, syntax: str
) -> None:
    ds = ct_dataset()
    ds.add_new(0x00091001, "LO", PLANTED["PatientName"])
    ds.RequestAttributesSequence = Sequence([item(RequestedProcedureID="ORD-90210")])
    source = write(tmp_path / "in" / "x.dcm", ds, syntax=syntax, preamble=b"Ludmilla" * 16)
    result = run(source, tmp_path / "out", profile=profile)
    output = result.path.read_bytes()
    text = output + str(dcmread(result.path)).encode()
    kept = {"StationName", "DeviceSerialNumber"} if profile is RESEARCH else set()
    for keyword, value in PLANTED.items():
        for part in str(value).split("^"):
            assert (part.encode() in text) == (keyword in kept), keyword
    for value in (b"ORD-90210", b"20200131", b"19501211", b"WENDELAE", identified.STUDY.encode()):
        assert value not in text
    assert output[:132] == bytes(128) + b"DICM"
    assert result.sha256 == hashlib.sha256(output).hexdigest() == result.receipt.output_sha256
    assert result.size_bytes == len(output)


def test_what_training_needs_survives(tmp_path: Path) -> None:
    before = ct_dataset()
    after = cleaned(tmp_path, before)
    for keyword in (
        "Modality", "Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "ViewPosition",
        "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
        "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "Rows", "Columns",
        "PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
        "PixelRepresentation", "PixelData", "InstanceNumber", "ImageType", "BodyPartExamined",
        "SOPClassUID", "SpecificCharacterSet",
    ):  # fmt: skip
        assert after[keyword].value == before[keyword].value, keyword


def test_the_marks_say_only_what_was_done(tmp_path: Path) -> None:
    ds = ct_dataset(BurnedInAnnotation="NO", DeidentificationMethod="by Zweistein")
    after = cleaned(tmp_path, ds)
    assert after.PatientIdentityRemoved == "YES"
    assert after.DeidentificationMethod.startswith("Pleura ")
    codes = [code.CodeValue for code in after.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113103", "113104", "113105", "113107"]
    assert after.LongitudinalTemporalInformationModified == "MODIFIED"
    assert "BurnedInAnnotation" not in after
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert "SourceApplicationEntityTitle" not in after.file_meta
    assert after.PatientName == after.PatientID == KEY.patient("MRN-7733", "")


def test_safe_harbor_has_no_date_at_all(tmp_path: Path) -> None:
    after = cleaned(tmp_path, ct_dataset(), profile=HIPAA)
    dates = {e.value for e in after.iterall() if e.VR in ("DA", "DT", "TM")}
    assert dates <= {"", None, "19000101", "000000"}
    assert after.LongitudinalTemporalInformationModified == "REMOVED"


def test_characteristics_are_kept_only_where_the_profile_says(tmp_path: Path) -> None:
    kept = cleaned(tmp_path / "r", ct_dataset(), profile=RESEARCH)
    assert (kept.PatientSex, kept.PatientAge, kept.PatientSize) == ("F", "090Y", 1.71)
    assert kept.DeviceSerialNumber == PLANTED["DeviceSerialNumber"]
    gone = cleaned(tmp_path / "g", ct_dataset())
    assert not gone.PatientSex
    assert "PatientAge" not in gone
    assert kept.PatientBirthDate == gone.PatientBirthDate == ""


def test_keys_join_labels_without_the_original(tmp_path: Path) -> None:
    ds = ct_dataset(AccessionNumber=" ACC-99107 ")
    result = run(write(tmp_path / "a", ds), tmp_path / "out")
    assert result.accession_key == KEY.keyed("accession", "ACC-99107")
    assert result.sop_key == KEY.keyed("sop", identified.SOP)
    assert result.sop_uid == KEY.uid(identified.SOP)
    none = run(write(tmp_path / "b", ct_dataset(AccessionNumber="")), tmp_path / "out2")
    assert none.accession_key == ""
    assert none.modality == "CT"


def test_the_same_input_gives_the_same_bytes_and_is_accepted_twice(tmp_path: Path) -> None:
    source = write(tmp_path / "a", ct_dataset())
    first = run(source, tmp_path / "out")
    again = run(source, tmp_path / "out")
    other = run(source, tmp_path / "elsewhere")
    assert first == again
    assert first.path.read_bytes() == other.path.read_bytes()
    assert first.path.relative_to(tmp_path / "out").parts == (
        first.patient, first.study_uid, first.series_uid, f"{first.sop_uid}.dcm",
    )  # fmt: skip


def test_the_receipt_counts_and_names_no_value(tmp_path: Path) -> None:
    ds = ct_dataset(StudyDescription="Quibbleworth")
    ds.add_new(0x00091001, "LO", "Quibbleworth")
    ds.add_new(0x00080099, "LO", "Quibbleworth")
    receipt = run(write(tmp_path / "a", ds), tmp_path / "out").receipt
    text = receipt.to_json().decode()
    assert not [v for v in PLANTED.values() if v in text]
    assert receipt.removed["private"] == 1
    assert receipt.removed["unknown"] == 1
    assert receipt.removed["(0008,1030)"] == 1
    assert receipt.actions["shifted"] == 4
    assert receipt.basis == "patient"
    assert receipt.overrides == ()


def test_a_patient_without_id_is_marked_in_the_receipt(tmp_path: Path) -> None:
    result = run(write(tmp_path / "a", ct_dataset(PatientID="")), tmp_path / "out")
    assert result.receipt.basis == "study"
    assert result.patient == KEY.patient("", identified.STUDY)


def test_overlays_curves_icons_signatures_and_padding_are_removed(tmp_path: Path) -> None:
    ds = ct_dataset()
    for tag, vr, value in (
        (0x60000010, "US", 8),
        (0x60000022, "LO", "drawn by Zweistein"),
        (0x60003000, "OW", bytes(8)),
        (0x50000022, "LO", "curve"),
        (0xFFFCFFFC, "OB", b"Ludmilla"),
    ):
        ds.add_new(tag, vr, value)
    ds.IconImageSequence = Sequence([item(Rows=8, BitsAllocated=8, PixelData=b"Ludmilla")])
    ds.OriginalAttributesSequence = Sequence(
        [item(ModifiedAttributesSequence=Sequence([item(PatientName="Quibbleworth")]))]
    )
    after = cleaned(tmp_path, ds)
    for tag in (0x60000010, 0x60003000, 0x50000022, 0xFFFCFFFC, 0x00880200, 0x04000561):
        assert tag not in after


def test_short_text_that_repeats_a_name_loses_it(tmp_path: Path) -> None:
    ds = ct_dataset(ManufacturerModelName="Ray of Quibbleworth", FilterType="tel 030 1234 567")
    ds.BodyPartExamined = "LUDMILLA"
    ds.add_new(0x00181210, "SH", "MRN-7733")
    after = cleaned(tmp_path, ds)
    assert after.ManufacturerModelName == "Ray of"
    assert after.FilterType == "tel"
    assert after.ConvolutionKernel == ""
    assert "BodyPartExamined" not in after
    assert after.Manufacturer == "ACME Imaging"


def test_a_patient_named_like_a_term_keeps_the_image_usable(tmp_path: Path) -> None:
    ds = ct_dataset(PatientName="Removed^CT^Axial", PatientID="PRIMARY")
    after = cleaned(tmp_path, ds, profile=HIPAA)
    assert list(after.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert after.LongitudinalTemporalInformationModified == "REMOVED"


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 192", "Müller^Jörg"),
        ("GB18030", "王^小东"),
        ("ISO_IR 144", "Люксембург"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
def test_names_are_found_in_their_character_set(
    tmp_path: Path, charset: str | list[str], name: str
) -> None:
    ds = ct_dataset(SpecificCharacterSet=charset)
    ds.PatientName = name
    ds.Manufacturer = "by " + name.split("=")[-1].split("^")[0]
    ds.ManufacturerModelName = "Ray 64"
    after = cleaned(tmp_path, ds)
    assert after.Manufacturer == "by"
    assert after.ManufacturerModelName == "Ray 64"
    raw = next((tmp_path / "out").rglob("*.dcm")).read_bytes()
    original = (tmp_path / "in" / "a.dcm").read_bytes()
    at = original.index(b"\x10\x00\x10\x00PN")
    length = int.from_bytes(original[at + 6 : at + 8], "little")
    assert original[at + 8 : at + 8 + length] not in raw


def test_text_in_an_unknown_character_set_is_emptied(tmp_path: Path) -> None:
    ds = ct_dataset()
    source = write(tmp_path / "a.dcm", ds)
    data = source.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999").replace(b"ACME", b"ACM\xc4")
    source.write_bytes(data)
    result = run(source, tmp_path / "out")
    after = dcmread(result.path)
    assert after.Manufacturer == ""
    assert "SpecificCharacterSet" not in after
    assert result.receipt.invalid_values == 1


def test_a_name_hidden_under_another_representation_is_removed(tmp_path: Path) -> None:
    ds = ct_dataset()
    ds.add_new(0x00281054, "DS", "1.5")
    ds.add_new(0x00180060, "LO", "Quibbleworth")
    source = write(tmp_path / "a.dcm", ds)
    marker = b"\x20\x00\x11\x00"  # SeriesNumber: an IS that holds words
    text = source.read_bytes()
    series = b"\x20\x00\x0e\x00UI"
    at = text.index(series)
    end = at + 8 + int.from_bytes(text[at + 6 : at + 8], "little")
    hidden = marker + b"IS" + (10).to_bytes(2, "little") + b"Wendelin 1"
    source.write_bytes(text[:end] + hidden + text[end:])
    after = dcmread(run(source, tmp_path / "out").path)
    assert not after.get("RescaleType")  # sent as a number
    assert not after.get("KVP")
    assert not after.get("SeriesNumber")


def test_a_number_the_object_needs_is_never_invented(tmp_path: Path) -> None:
    ds = ct_dataset()
    ds.add_new(0x00281052, "LO", "Quibbleworth")
    assert refused(tmp_path, write(tmp_path / "a.dcm", ds)) == "IOD_BROKEN"


def test_sequences_deeper_than_32_are_removed(tmp_path: Path) -> None:
    inner = item(CodeValue="T-1", CodingSchemeDesignator="SRT", CodeMeaning="deep")
    for _ in range(40):
        inner = item(
            CodeValue="T-1",
            CodeMeaning="level",
            EquivalentCodeSequence=Sequence([inner]),
        )
    after = cleaned(tmp_path, ct_dataset(**nested("AnatomicRegionSequence", inner)))
    depth, level = 0, after.AnatomicRegionSequence[0]
    while "EquivalentCodeSequence" in level:
        level, depth = level.EquivalentCodeSequence[0], depth + 1
    assert depth == 31


# --- refusals ---------------------------------------------------------------------


def test_a_radiograph_needs_the_override_and_the_receipt_says_so(tmp_path: Path) -> None:
    ds = ct_dataset(SOPClassUID=identified.DX, Modality="DX")
    source = write(tmp_path / "a.dcm", ds)
    with pytest.raises(OcrUnavailable):
        deidentify_file(source, tmp_path / "out", profile=GDPR, key=KEY, ocr="off")
    result = run(source, tmp_path / "out2", allow=True)
    assert result.receipt.overrides == ("unread_text",)
    assert result.receipt.ocr is None
    assert "113101" not in result.receipt.method_codes
    assert "BurnedInAnnotation" not in dcmread(result.path)


def test_an_unreadable_or_missing_source_is_quarantined(tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        run(tmp_path / "absent", tmp_path / "out")


def test_a_source_above_the_limit_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())
    monkeypatch.setattr(opening, "MAX_FILE_BYTES", 100)
    with pytest.raises(LimitExceeded):
        run(source, tmp_path / "out")


def test_another_object_in_the_place_of_the_target_is_refused(tmp_path: Path) -> None:
    first = run(write(tmp_path / "a.dcm", ct_dataset()), tmp_path / "out")
    other = write(tmp_path / "b.dcm", ct_dataset(SliceThickness="2"))
    with pytest.raises(Quarantined) as caught:
        run(other, tmp_path / "out")
    assert caught.value.code == "DUPLICATE_DIFFERS"
    assert hashlib.sha256(first.path.read_bytes()).hexdigest() == first.sha256


def test_a_fault_inside_the_engine_names_its_class_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise KeyError("Quibbleworth")

    monkeypatch.setattr(engine, "clean", broken)
    with pytest.raises(InternalFault) as caught:
        run(write(tmp_path / "a.dcm", ct_dataset()), tmp_path / "out")
    assert str(caught.value) == "INTERNAL: KeyError"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("stage", ["file", "folder"])
def test_a_full_disk_leaves_nothing_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    import os

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    source = write(tmp_path / "a.dcm", ct_dataset())
    if stage == "file":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(DiskFull):
        run(source, tmp_path / "out")
    monkeypatch.undo()
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_a_denied_folder_is_not_hidden_as_quarantine(tmp_path: Path) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())
    (tmp_path / "out").write_text("a file, no folder")
    with pytest.raises(OSError):
        run(source, tmp_path / "out")


def test_encapsulated_pixels_are_copied_untouched(tmp_path: Path) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())
    ds = dcmread(source)
    ds.compress(RLELossless, generate_instance_uid=False)
    before = ds.PixelData
    ds.save_as(source)
    after = dcmread(run(source, tmp_path / "out").path)
    assert after.PixelData == before
    assert after.file_meta.TransferSyntaxUID == RLELossless


def test_standard_attributes_sent_as_unknown_are_read_and_cleaned(tmp_path: Path) -> None:
    region = item(CodeValue="T-28000", CodeMeaning="Lung", PatientName="Quibbleworth^Ludmilla")
    ds = ct_dataset(**nested("AnatomicRegionSequence", region))
    explicit = write(tmp_path / "a.dcm", ds).read_bytes()
    parsed = parse_file(explicit)
    implicit = Syntax(implicit=True)
    pieces = []
    for element in parsed.elements:
        value = b"".join(map(bytes, encode([element], implicit)))[8:]
        pieces += encode([Element(element.tag, "UN", value)], Syntax())
    body = b"".join(map(bytes, encode(parsed.elements, Syntax())))
    source = tmp_path / "un.dcm"
    source.write_bytes(explicit.removesuffix(body) + b"".join(pieces))
    assert explicit.endswith(body)
    plain = run(tmp_path / "a.dcm", tmp_path / "out1").path.read_bytes()
    unknown = run(source, tmp_path / "out2").path.read_bytes()
    assert unknown == plain
    assert b"Quibbleworth" not in unknown


def test_an_image_that_would_lose_what_it_needs_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset(PhotometricInterpretation="monochrome2"))
    assert refused(tmp_path, source, allow=True) == "IOD_BROKEN"


# --- streaming --------------------------------------------------------------------


def test_an_open_source_is_read_like_a_path(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", ct_dataset())
    first = run(path, tmp_path / "out")
    for number, source in enumerate((BytesSource(path.read_bytes()), FileSource(path))):
        again = deidentify_file(source, tmp_path / f"o{number}", profile=GDPR, key=KEY)
        assert again.receipt == first.receipt
        assert again.path.read_bytes() == first.path.read_bytes()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_a_large_object_gets_through_with_little_memory(tmp_path: Path, syntax: str) -> None:
    ds = ct_dataset(Rows=2048, Columns=2048, NumberOfFrames=4)
    ds.PixelData = os.urandom(1 << 18) * 128
    path = write(tmp_path / "a.dcm", ds, syntax=syntax)
    del ds
    tracemalloc.start()
    result = run(path, tmp_path / "out", allow=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20  # the object has 32 MiB of pixels
    assert len(dcmread(result.path).PixelData) == 32 << 20
    assert not list(tmp_path.rglob("*.part"))


def test_a_file_that_changes_while_it_is_read_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())

    def touched(*args: object, **kwargs: object) -> tuple[str, str]:
        os.utime(source, ns=(1, 1))
        return digests(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "digests", touched)
    assert refused(tmp_path, source) == "UNREADABLE"


def test_a_pixel_that_changes_on_its_way_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())

    def flipped(original: FileSource, draft: Draft) -> tuple[str, str]:
        at = draft.copied[0][1]
        value = draft.source.read(at, 1)[0]
        os.pwrite(draft.source.fileno(), bytes([value ^ 1]), at)
        return digests(original, draft)

    monkeypatch.setattr(engine, "digests", flipped)
    assert refused(tmp_path, source) == "SELF_CHECK"


def test_durability_is_the_default_and_the_callers_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    source = write(tmp_path / "a.dcm", ct_dataset())
    deidentify_file(source, tmp_path / "a", profile=GDPR, key=KEY, fsync=False)
    assert synced == []
    deidentify_file(source, tmp_path / "b", profile=GDPR, key=KEY)
    assert len(synced) == 2  # the file, then its folder
