"""Whole data sets: types settle compound codes, words go one by one, safe private ones stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from pleura.anonymizer import cleaning
from pleura.anonymizer.errors import SelfCheckFailed
from pleura.anonymizer.iod import AttributeType
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.rules import Action, settle
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, cleaned, run
from tests.builders.identified import STUDY, ct_dataset, item, write

CREATOR = "GEMS_PARM_01"


@pytest.mark.parametrize(
    ("code", "kind", "action"),
    [
        ("X/Z", "1", "D"), ("X/Z", "2C", "Z"), ("X/Z", "3", "X"), ("X/Z", None, "Z"),
        ("X/D", "1C", "D"), ("X/D", "2", "Z"), ("X/D", "3", "X"), ("X/D", None, "D"),
        ("Z/D", "1", "D"), ("Z/D", "2", "Z"), ("Z/D", "3", "Z"), ("Z/D", None, "D"),
        ("X/Z/D", "1", "D"), ("X/Z/D", "2", "Z"), ("X/Z/D", "3", "X"), ("X/Z/D", None, "D"),
        ("X", "1", "X"), ("Z", "1", "Z"), ("D", "3", "D"), ("X/Z/U*", "1", "recurse"),
    ],
)  # fmt: skip
def test_the_type_settles_a_compound_code(
    code: str, kind: AttributeType | None, action: Action
) -> None:
    assert settle(code, kind) == action


def test_the_objects_definition_decides_what_is_left_of_a_listed_attribute(tmp_path: Path) -> None:
    ds = ct_dataset(StationName="WENDELIN-CT1", ContentDate="2020-1-31", AcquisitionDate="x")
    after = cleaned(tmp_path, ds, profile=HIPAA)
    assert "StationName" not in after  # X/Z/D, type 3
    assert after.ContentDate == ""  # Z/D, type 2C
    assert "InstitutionName" not in after


def test_a_date_that_is_none_leaves_its_type_2_attribute_empty(tmp_path: Path) -> None:
    after = cleaned(tmp_path, ct_dataset(StudyDate="31st of May"), profile=GDPR)
    assert after.StudyDate == ""


def test_only_the_code_that_names_somebody_goes(tmp_path: Path) -> None:
    ds = ct_dataset(ImageType=["ORIGINAL", "PRIMARY", "QUIBBLEWORTH", "VOLUME"])
    assert list(cleaned(tmp_path, ds).ImageType) == ["ORIGINAL", "PRIMARY", "", "VOLUME"]


def test_a_defined_term_stays_although_the_patient_is_called_so(tmp_path: Path) -> None:
    ds = ct_dataset(ImageType=["DERIVED", "PRIMARY", "PERFUSION"], PatientName="Perfusion^Test")
    assert list(cleaned(tmp_path, ds).ImageType) == ["DERIVED", "PRIMARY", "PERFUSION"]


SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
REPORT = "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.mark.parametrize(
    ("label", "left"),
    [("second nodule of Quibbleworth", "second nodule of"), ("Ludmilla", "ANONYMIZED")],
)
@pytest.mark.parametrize("profile", [GDPR, HIPAA, RESEARCH])
def test_a_tracked_segment_keeps_both_of_its_names_without_those_of_people(
    tmp_path: Path, profile: Profile, label: str, left: str
) -> None:
    segment = item(SegmentNumber=1, TrackingID=label, TrackingUID=STUDY + ".77")
    ds = ct_dataset(SOPClassUID=SEGMENTATION, Modality="SEG", SegmentSequence=[segment])
    after = cleaned(tmp_path, ds, profile=profile).SegmentSequence[0]
    assert after.TrackingID == left
    assert after.TrackingUID.startswith("2.25.")


def test_the_texts_of_a_report_lose_names_and_never_their_element(tmp_path: Path) -> None:
    texts = [
        item(RelationshipType="CONTAINS", ValueType="TEXT", TextValue=text)
        for text in ("no effusion, seen by Zweistein", "Quibbleworth")
    ]
    inner = item(RelationshipType="CONTAINS", ValueType="CONTAINER", ContentSequence=[texts[1]])
    ds = ct_dataset(SOPClassUID=REPORT, Modality="SR", PixelData=None)
    ds.ContentSequence = Sequence([texts[0], inner])
    first, second = cleaned(tmp_path, ds, profile=GDPR).ContentSequence
    assert first.TextValue == "no effusion, seen by"
    assert second.ContentSequence[0].TextValue == "ANONYMIZED"


@pytest.mark.parametrize("profile", [GDPR, HIPAA, RESEARCH])
def test_who_assigned_a_number_is_a_dummy_since_its_kind_may_not_stand_alone(
    tmp_path: Path, profile: Profile
) -> None:
    issuers = [
        item(LocalNamespaceEntityID="WENDELIN LAB"),
        item(UniversalEntityID="https://wendelin.example/numbers", UniversalEntityIDType="URI"),
    ]
    ds = ct_dataset(IssuerOfAccessionNumberSequence=issuers, StationName="WENDELIN LAB")
    local, universal = cleaned(tmp_path, ds, profile=profile).IssuerOfAccessionNumberSequence
    assert local.LocalNamespaceEntityID == "ANONYMIZED"
    assert universal.UniversalEntityID == "ANONYMIZED"
    assert universal.UniversalEntityIDType == "URI"


@pytest.mark.parametrize("name", ["TOSHIBA", "Siemens Healthineers"])
def test_an_institution_called_like_a_maker_does_not_cost_the_maker(
    tmp_path: Path, name: str
) -> None:
    maker = f"{name.split()[0]} Ray"
    after = cleaned(tmp_path, ct_dataset(InstitutionName=name, Manufacturer=maker))
    assert after.Manufacturer == maker


def test_a_patient_called_like_a_maker_is_still_gone(tmp_path: Path) -> None:
    ds = ct_dataset(
        PatientName="Philips^Quenby", Manufacturer="Philips", StudyDescription="Philips"
    )
    after = cleaned(tmp_path, ds)
    assert "philips" not in str(after).lower()


def test_an_ordinal_equal_to_the_patients_number_is_no_longer_that_number(tmp_path: Path) -> None:
    after = cleaned(tmp_path, ct_dataset(PatientID="889977", SeriesNumber=889977))
    assert after.SeriesNumber == 0
    assert after.InstanceNumber == 3


def test_a_version_is_no_date_but_a_seed_in_it_goes(tmp_path: Path) -> None:
    ds = ct_dataset(SoftwareVersions=["2.6.3", "2.6.3.6", "for Quibbleworth"])
    assert list(cleaned(tmp_path, ds).SoftwareVersions) == ["2.6.3", "2.6.3.6", "for"]


@pytest.mark.parametrize("profile", [HIPAA, RESEARCH])
def test_a_description_loses_its_names_and_the_receipt_counts_them(
    tmp_path: Path, profile: object
) -> None:
    ds = ct_dataset(SeriesDescription="Lung of Ludmilla Quibbleworth 1.5mm")
    result = run(write(tmp_path / "a.dcm", ds), tmp_path / "out", profile=profile)  # type: ignore[arg-type]
    assert dcmread(result.path).SeriesDescription == "Lung of 1.5mm"
    assert result.receipt.words_removed >= 2


def test_a_description_of_names_only_takes_the_action_of_its_row(tmp_path: Path) -> None:
    ds = ct_dataset(SeriesDescription="Quibbleworth", ProtocolName="Ludmilla")
    after = cleaned(tmp_path, ds, profile=HIPAA)
    assert "SeriesDescription" not in after  # X
    assert "ProtocolName" not in after  # X/D, type 3


def _with_private(value: str = "1.375:1", *, creator: str = CREATOR) -> Dataset:
    ds = ct_dataset()
    block = ds.private_block(0x0043, creator, create=True)
    block.add_new(0x27, "SH", value)
    block.add_new(0x28, "LO", "Ludmilla")
    inner = item(CodeMeaning="Chest")
    inner.private_block(0x0043, creator, create=True).add_new(0x27, "SH", value)
    ds.AnatomicRegionSequence = Sequence([inner])
    return ds


def test_safe_private_attributes_stay_nested_too_and_others_go(tmp_path: Path) -> None:
    after = cleaned(tmp_path, _with_private(), profile=RESEARCH)
    for found in (after, after.AnatomicRegionSequence[0]):
        block = found.private_block(0x0043, CREATOR)
        assert block[0x27].value == "1.375:1"
        assert 0x28 not in block


@pytest.mark.parametrize(
    ("value", "creator"), [("Quibbleworth", CREATOR), ("1.375:1", "ACME PRIVATE")]
)
def test_a_private_attribute_with_a_seed_or_of_another_creator_goes(
    tmp_path: Path, value: str, creator: str
) -> None:
    after = cleaned(tmp_path, _with_private(value, creator=creator), profile=RESEARCH)
    assert not [e for e in after.iterall() if e.tag.is_private]


def test_no_private_attribute_stays_without_the_option(tmp_path: Path) -> None:
    after = cleaned(tmp_path, _with_private(), profile=GDPR)
    assert not [e for e in after.iterall() if e.tag.is_private]


@pytest.mark.parametrize(
    ("value", "creator"), [("Quibbleworth", CREATOR), ("1.375:1", "ACME PRIVATE")]
)
def test_the_self_check_refuses_what_a_broken_safe_list_lets_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, creator: str
) -> None:
    monkeypatch.setattr(
        cleaning, "safe_private", lambda elements, seeds, sets: [e for e in elements if _odd(e.tag)]
    )
    source = write(tmp_path / "a.dcm", _with_private(value, creator=creator))
    with pytest.raises(SelfCheckFailed):
        run(source, tmp_path / "out", profile=RESEARCH)


def _odd(tag: int) -> bool:
    return bool(tag >> 16 & 1)
