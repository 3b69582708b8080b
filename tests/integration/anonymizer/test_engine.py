"""The engine on whole files: the named cases of the design and what must survive."""

from __future__ import annotations

import hashlib
import warnings
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pleura.anonymizer import engine
from pleura.anonymizer.engine import Deidentified, deidentify_file
from pleura.anonymizer.errors import InternalFault, LimitExceeded, Quarantined, Undecodable
from pleura.anonymizer.profile import Profile, load_profile
from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.anonymizer.wire import Element, Syntax, encode, parse_file
from pleura.common.errors import DiskFull
from tests.builders import identified
from tests.builders.identified import PLANTED, ct_dataset, item, nested, project_key, write

GDPR = load_profile("gdpr_pseudonymous")
RESEARCH = load_profile("research_dates")
HIPAA = load_profile("hipaa_safe_harbor")
KEY = project_key()


def run(
    source: Path,
    out: Path,
    *,
    allow: bool = False,
    profile: Profile = GDPR,
    key: ProjectKey = KEY,
) -> Deidentified:
    return deidentify_file(source, out, profile=profile, key=key, allow_unread_text=allow)


def cleaned(tmp_path: Path, ds: Dataset, *, profile: Profile = GDPR) -> Dataset:
    source = write(tmp_path / "in" / "a.dcm", ds)
    return dcmread(run(source, tmp_path / "out", profile=profile, allow=True).path)


def refused(tmp_path: Path, source: Path, *, allow: bool = False) -> str:
    out = tmp_path / "out"
    with pytest.raises(Quarantined) as caught:
        run(source, out, allow=allow)
    assert not out.exists() or not [p for p in out.rglob("*") if p.is_file()]
    message = str(caught.value).lower()
    for value in (*PLANTED.values(), source.name):
        assert value.lower() not in message
    return caught.value.code


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
    assert codes == ["113100", "113104", "113107"]
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
    ds = ct_dataset()
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


def test_short_text_that_repeats_a_name_is_emptied(tmp_path: Path) -> None:
    ds = ct_dataset(ManufacturerModelName="Ray of Quibbleworth", FilterType="tel 030 1234 567")
    ds.BodyPartExamined = "LUDMILLA"
    ds.add_new(0x00181210, "SH", "MRN-7733")
    after = cleaned(tmp_path, ds)
    assert after.ManufacturerModelName == ""
    assert after.FilterType == ""
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
    assert after.Manufacturer == ""
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
    ds.add_new(0x00281052, "LO", "Quibbleworth")
    ds.add_new(0x00180050, "DS", "1.5")
    source = write(tmp_path / "a.dcm", ds)
    marker = b"\x20\x00\x11\x00"  # SeriesNumber: an IS that holds words
    text = source.read_bytes()
    series = b"\x20\x00\x0e\x00UI"
    at = text.index(series)
    end = at + 8 + int.from_bytes(text[at + 6 : at + 8], "little")
    hidden = marker + b"IS" + (10).to_bytes(2, "little") + b"Wendelin 1"
    source.write_bytes(text[:end] + hidden + text[end:])
    after = dcmread(run(source, tmp_path / "out").path)
    assert "RescaleIntercept" not in after
    assert "SeriesNumber" not in after


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


# --- the design's cases ---------------------------------------------------------


def test_case_1_odd_dates_are_parsed_or_removed_and_counted(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = ct_dataset()
        ds.PatientBirthDate, ds.StudyDate, ds.SeriesTime = "1950.12.11", "2020-1-5", "25:99"
        ds.ContentDate = "sometime"
        source = write(tmp_path / "a.dcm", ds)
    result = run(source, tmp_path / "out")
    after = dcmread(result.path)
    days = KEY.date_shift_days("MRN-7733")
    moved = datetime.strptime(after.StudyDate, "%Y%m%d") - datetime(2020, 1, 5)
    assert moved.days == days
    assert after.PatientBirthDate == ""
    assert not after.get("SeriesTime")
    assert not after.get("ContentDate")
    assert result.receipt.invalid_values == 2


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("profile", [GDPR, RESEARCH], ids=lambda p: p.name)
def test_case_4_a_name_in_a_private_sequence_of_undefined_length_is_gone(
    tmp_path: Path, syntax: str, profile: Profile
) -> None:
    ds = ct_dataset()
    private = Sequence([item(PatientName="Quibbleworth^Ludmilla")])
    ds.add_new(0x00090010, "LO", "ACME PRIVATE")
    ds.add_new(0x00091002, "SQ", private)
    ds[0x00091002].is_undefined_length = True
    ds.AnatomicRegionSequence = Sequence([item(CodeValue="T-28000", CodeMeaning="Lung")])
    ds.AnatomicRegionSequence[0].add_new(0x00090010, "LO", "ACME PRIVATE")
    ds.AnatomicRegionSequence[0].add_new(0x00091001, "PN", "Quibbleworth")
    source = write(tmp_path / "a.dcm", ds, syntax=syntax)
    if syntax == ExplicitVRLittleEndian:  # PS3.5 6.2.2: UN of undefined length is implicit
        implicit = write(tmp_path / "b.dcm", ds, syntax=ImplicitVRLittleEndian).read_bytes()
        at = implicit.index(b"\x09\x00\x02\x10") + 8
        body = implicit[at : implicit.index(b"\xfe\xff\xdd\xe0", at) + 8]
        text = source.read_bytes()
        start = text.index(b"\x09\x00\x02\x10SQ")
        end = text.index(b"\xfe\xff\xdd\xe0", start) + 8
        unknown = b"\x09\x00\x02\x10UN\0\0\xff\xff\xff\xff" + body
        source.write_bytes(text[:start] + unknown + text[end:])
    result = run(source, tmp_path / "out", profile=profile)
    assert b"Quibbleworth" not in result.path.read_bytes()
    after = dcmread(result.path)
    assert not [e for e in after.iterall() if e.tag.is_private]
    assert after.AnatomicRegionSequence[0].CodeMeaning == "Lung"


def test_case_7_nested_datetimes_keep_their_intervals_across_midnight(tmp_path: Path) -> None:
    ds = ct_dataset(StudyDate="20200131", SeriesDate="20200201", SeriesTime="000130")
    ds.Modality, ds.SOPClassUID = "PT", "1.2.840.10008.5.1.4.1.1.128"
    ds.RadiopharmaceuticalInformationSequence = Sequence(
        [item(RadiopharmaceuticalStartDateTime="20200131235830.25")]
    )
    after = cleaned(tmp_path, ds)
    start = after.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime
    scan = datetime.strptime(after.SeriesDate + after.SeriesTime, "%Y%m%d%H%M%S")
    injected = datetime.strptime(start, "%Y%m%d%H%M%S.%f")
    assert (scan - injected).total_seconds() == 179.75
    days = KEY.date_shift_days("MRN-7733")
    assert (injected - datetime(2020, 1, 31, 23, 58, 30, 250000)).days == days
    assert after.StudyDate != "20200131"


def _reference_objects() -> dict[str, Dataset]:
    image = item(ReferencedSOPClassUID=identified.CT, ReferencedSOPInstanceUID=identified.SOP)
    series = item(SeriesInstanceUID=identified.SERIES, ContourImageSequence=Sequence([image]))
    study = item(ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1", ReferencedSOPInstanceUID="1.9.9")
    study.RTReferencedSeriesSequence = Sequence([series])
    frame = item(FrameOfReferenceUID=identified.STUDY + ".9")
    frame.RTReferencedStudySequence = Sequence([study])
    structures = ct_dataset(SOPInstanceUID="1.2.3.100", Modality="RTSTRUCT", PixelData=None)
    structures.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    structures.ReferencedFrameOfReferenceSequence = Sequence([frame])

    segment = ct_dataset(SOPInstanceUID="1.2.3.200", Modality="SEG")
    segment.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    derived = item(SourceImageSequence=Sequence([image]))
    group = item(DerivationImageSequence=Sequence([derived]))
    segment.PerFrameFunctionalGroupsSequence = Sequence([group])

    report = ct_dataset(SOPInstanceUID="1.2.3.300", Modality="SR", PixelData=None)
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    leaf = item(RelationshipType="CONTAINS", ValueType="IMAGE")
    leaf.ReferencedSOPSequence = Sequence([image])
    person = item(RelationshipType="HAS OBS CONTEXT", ValueType="PNAME", PersonName="Zweistein")
    words = item(ValueType="TEXT", TextValue="seen by Zweistein, lump of 3 mm")
    inner = item(ValueType="CONTAINER", ContentSequence=Sequence([leaf, person, words]))
    report.ContentSequence = Sequence([inner])
    return {"rtstruct": structures, "seg": segment, "sr": report}


def _referenced(path: Path) -> set[str]:
    return {
        str(e.value)
        for e in dcmread(path).iterall()
        if e.keyword == "ReferencedSOPInstanceUID" and e.value != KEY.uid("1.9.9")
    }


@pytest.mark.parametrize("kind", ["rtstruct", "seg", "sr"])
def test_case_8_references_resolve_between_processes_and_only_under_one_key(
    tmp_path: Path, kind: str
) -> None:
    image = write(tmp_path / "image.dcm", ct_dataset())
    other = write(tmp_path / "other.dcm", _reference_objects()[kind])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as first:
        target = first.submit(
            deidentify_file, image, tmp_path / "p1", profile=GDPR, key=KEY
        ).result()
    referring = run(other, tmp_path / "p2")
    assert _referenced(referring.path) == {target.sop_uid}
    foreign = run(other, tmp_path / "p3", key=project_key(7))
    assert target.sop_uid not in _referenced(foreign.path)
    assert b"Zweistein" not in referring.path.read_bytes()
    assert referring.patient == target.patient
    assert foreign.patient != target.patient


def test_case_9_datetimes_stay_valid_and_invent_no_precision(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = ct_dataset()
        ds.AcquisitionDateTime = "20200131101500.5&ZZXX"
        ds.FrameReferenceDateTime = "2017"
        source = write(tmp_path / "a.dcm", ds)
    after = dcmread(run(source, tmp_path / "out").path)
    days = KEY.date_shift_days("MRN-7733")
    value = str(after.AcquisitionDateTime)
    assert (datetime.strptime(value, "%Y%m%d%H%M%S.%f") - datetime(2020, 1, 31, 10, 15)).days == (
        days
    )
    assert len(str(after.FrameReferenceDateTime)) == 4


def test_case_3_a_media_directory_is_quarantined(tmp_path: Path) -> None:
    ds = Dataset()
    ds.DirectoryRecordSequence = Sequence([item(PatientName="Quibbleworth^Ludmilla")])
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    source = write(tmp_path / "Quibbleworth.dcm", ds)
    assert refused(tmp_path, source) == "MEDIA_DIRECTORY"


def test_case_10_half_the_pixel_data_is_truncated(tmp_path: Path) -> None:
    source = write(tmp_path / "Quibbleworth.dcm", ct_dataset())
    data = source.read_bytes()
    source.write_bytes(data[:-64])
    assert refused(tmp_path, source) == "TRUNCATED"
    short = write(tmp_path / "Ludmilla.dcm", ct_dataset(PixelData=bytes(64)))
    assert refused(tmp_path, short) == "TRUNCATED"


def test_case_10_an_empty_sop_uid_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "Quibbleworth.dcm", ct_dataset(SOPInstanceUID=""))
    assert refused(tmp_path, source) == "NO_SOP_UID"


# --- refusals ---------------------------------------------------------------------


def test_a_radiograph_needs_the_override_and_the_receipt_says_so(tmp_path: Path) -> None:
    ds = ct_dataset(SOPClassUID=identified.DX, Modality="DX")
    source = write(tmp_path / "a.dcm", ds)
    assert refused(tmp_path, source) == "OCR_UNAVAILABLE"
    result = run(source, tmp_path / "out2", allow=True)
    assert result.receipt.overrides == ("unread_text",)
    assert "BurnedInAnnotation" not in dcmread(result.path)


def test_an_unreadable_or_missing_source_is_quarantined(tmp_path: Path) -> None:
    with pytest.raises(Undecodable):
        run(tmp_path / "absent", tmp_path / "out")


def test_a_source_above_the_limit_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())
    monkeypatch.setattr(engine, "MAX_FILE_BYTES", 100)
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
        value = b"".join(encode([element], implicit))[8:]
        pieces += encode([Element(element.tag, "UN", value)], Syntax())
    body = b"".join(encode(parsed.elements, Syntax()))
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
