"""Content items of reports that say who somebody is, how old, or how to reach him."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from pleura.anonymizer.content_items import tells_identity
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.wire import parse_file
from tests.builders.deidentified import GDPR, cleaned
from tests.builders.identified import ct_dataset, item, write

REPORT = "1.2.840.10008.5.1.4.1.1.88.33"


def code(value: str, scheme: str = "SCT", meaning: str = "Concept") -> Sequence:
    return Sequence([item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def number(concept: Sequence, value: str, unit: str = "mm") -> Dataset:
    measured = item(NumericValue=value, MeasurementUnitsCodeSequence=code(unit, "UCUM", "unit"))
    return item(
        RelationshipType="CONTAINS",
        ValueType="NUM",
        ConceptNameCodeSequence=concept,
        MeasuredValueSequence=Sequence([measured]),
    )


def left(tmp_path: Path, *items: Dataset) -> list[Dataset]:
    """Return what stays of the items, beside a measurement that always does."""
    ds = ct_dataset(SOPClassUID=REPORT, Modality="SR", PixelData=None)
    ds.ContentSequence = Sequence([*items, number(code("410668003"), "12.5")])
    *found, last = cleaned(tmp_path, ds, profile=GDPR).ContentSequence
    assert last.MeasuredValueSequence[0].NumericValue == 12.5
    return found


@pytest.mark.parametrize(
    "value",
    ["121029", "121030", "121031", "121033", "397669002", "424144002", "30525-0", "63900-5",
     "184103008", "42077-8", "121022", "113871", "121041", "121016", "128774"],
)  # fmt: skip
def test_items_about_the_subject_and_other_identities_go(tmp_path: Path, value: str) -> None:
    text = item(
        ValueType="TEXT", ConceptNameCodeSequence=code(value, "99X"), TextValue="chest AB1234"
    )
    assert left(tmp_path, number(code(value, "99X"), "63", "a"), text) == []


@pytest.mark.parametrize(
    "meaning",
    ["Age", "Patient's age", "Current chronological age", "Alter", "Telephone", "Phone number",
     "Fax number", "E-mail", "Patient address", "Date of birth", "Medical record number"],
)  # fmt: skip
def test_a_private_code_that_means_the_same_goes(tmp_path: Path, meaning: str) -> None:
    assert left(tmp_path, number(code("T-1", "99X", meaning), "5551234", "1")) == []


@pytest.mark.parametrize(
    "meaning",
    ["Average", "Gestational Age", "Dosage", "Stage", "Image", "Age of infarct", "Phonem"],
)
def test_other_measurements_stay(tmp_path: Path, meaning: str) -> None:
    (one,) = left(tmp_path, number(code("T-1", "99X", meaning), "12", "wk"))
    assert one.MeasuredValueSequence[0].NumericValue == 12


@pytest.mark.parametrize(
    ("value", "unit", "stays"),
    [("93", "a", False), ("90", "a", False), ("89", "a", True), ("93", "mm", True),
     ("1100", "mo", False), ("40", "mo", True), ("4700", "wk", False), ("33000", "d", False)],
)  # fmt: skip
def test_no_number_of_years_above_89_stays_whatever_it_measures(
    tmp_path: Path, value: str, unit: str, stays: bool
) -> None:
    assert bool(
        left(tmp_path, number(code("111538", "DCM", "Age at Occurrence"), value, unit))
    ) == (stays)


def test_content_items_of_other_sequences_are_held_to_the_same(tmp_path: Path) -> None:
    age = item(ValueType="NUMERIC", ConceptNameCodeSequence=code("397669002"), NumericValue="63")
    old = item(
        ValueType="NUMERIC",
        ConceptNameCodeSequence=code("T-1", "99X"),
        NumericValue="93",
        MeasurementUnitsCodeSequence=code("a", "UCUM", "year"),
    )
    ds = ct_dataset(AcquisitionContextSequence=Sequence([age, old]))
    assert not cleaned(tmp_path, ds, profile=GDPR).AcquisitionContextSequence


def test_a_concept_coded_by_a_long_value_is_read_too(tmp_path: Path) -> None:
    concept = Sequence([item(LongCodeValue="397669002", CodeMeaning="x")])
    ds = item(SOPClassUID=REPORT, ContentSequence=Sequence([item(ConceptNameCodeSequence=concept)]))
    ds.SOPInstanceUID = "1.2.3"
    parsed = parse_file(FileSource(write(tmp_path / "a.dcm", ds)))
    (content,) = [e for e in parsed.elements if e.tag == 0x0040A730]
    assert content.items is not None
    assert tells_identity(content.items[0])
    assert not tells_identity([])


def test_what_an_item_that_went_had_is_not_put_into_the_next(tmp_path: Path) -> None:
    coded = item(
        RelationshipType="CONTAINS",
        ValueType="CODE",
        ConceptNameCodeSequence=code("121071", "DCM", "Finding"),
        ConceptCodeSequence=code("52988006", "SCT", "Lesion"),
    )
    text = item(
        RelationshipType="CONTAINS",
        ValueType="TEXT",
        ConceptNameCodeSequence=code("121071", "DCM", "Finding"),
        TextValue="lung clear",
    )
    outer = item(
        RelationshipType="CONTAINS",
        ValueType="CONTAINER",
        ConceptNameCodeSequence=code("121070", "DCM", "Findings"),
        ContentSequence=Sequence([number(code("397669002"), "63", "a"), coded, text]),
    )
    age = number(code("397669002"), "63", "a")
    first, second, third = left(tmp_path, age, coded, text, outer)
    assert set(first.keys()) == set(coded.keys())
    assert set(second.keys()) == set(text.keys())
    assert [set(i.keys()) for i in third.ContentSequence] == [
        set(coded.keys()), set(text.keys()),
    ]  # fmt: skip
