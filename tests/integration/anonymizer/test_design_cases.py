"""The named cases of the design: each was seen broken in another tool."""

from __future__ import annotations

import warnings
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pleura.anonymizer.batch import run_batch
from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.profile import Profile
from tests.builders import identified
from tests.builders.deidentified import GDPR, KEY, RESEARCH, cleaned, refused, run
from tests.builders.identified import PLANTED, ct_dataset, item, project_key, write

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


def test_case_4_a_listed_private_tag_that_hides_a_sequence_is_gone(tmp_path: Path) -> None:
    ds = ct_dataset()
    ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    ds.add_new(0x0019100C, "SQ", Sequence([item(PatientName="Quibbleworth^Ludmilla")]))
    ds[0x0019100C].is_undefined_length = True
    source = write(tmp_path / "a.dcm", ds, syntax=ImplicitVRLittleEndian)
    result = run(source, tmp_path / "out", profile=RESEARCH)
    assert RESEARCH.safe_private
    assert b"Quibbleworth" not in result.path.read_bytes()
    assert 0x0019100C not in dcmread(result.path)


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


def test_case_10_nothing_about_the_patient_or_the_file_name_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    half = write(tmp_path / "in" / "Quibbleworth-half.dcm", ct_dataset())
    half.write_bytes(half.read_bytes()[:-64])
    nameless = write(tmp_path / "in" / "Quibbleworth-uid.dcm", ct_dataset(SOPInstanceUID=""))
    out, rejected = tmp_path / "out", tmp_path / "rejected"
    summary = run_batch([half, nameless], out, rejected, profile=GDPR, key=KEY)
    assert dict(summary.quarantined) == {"TRUNCATED": 1, "NO_SOP_UID": 1}
    assert not list(out.rglob("*.dcm"))
    records = [p for p in (*out.rglob("*"), *rejected.rglob("*")) if p.suffix != ".dcm"]
    texts = [p.read_text(encoding="utf-8") for p in records if p.is_file()]
    assert texts
    streams = capfd.readouterr()
    said = "\n".join([caplog.text, streams.out, streams.err, *texts, *map(str, records)]).lower()
    for value in (*PLANTED.values(), half.stem, nameless.stem):
        assert value.lower() not in said
