"""Items of reports in other languages and units, and codes that are no codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from tests.builders.deidentified import GDPR, cleaned
from tests.builders.identified import ct_dataset, item

REPORT = "1.2.840.10008.5.1.4.1.1.88.33"


def code(value: str, scheme: str = "99LOC", meaning: str = "Concept", **more: str) -> Sequence:
    return Sequence(
        [item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning, **more)]
    )


def number(meaning: str, value: str, unit: str = "1", unit_meaning: str = "unit") -> Dataset:
    units = code(unit, "UCUM", unit_meaning)
    measured = item(NumericValue=value, MeasurementUnitsCodeSequence=units)
    return item(
        RelationshipType="CONTAINS",
        ValueType="NUM",
        ConceptNameCodeSequence=code("L1", meaning=meaning),
        MeasuredValueSequence=Sequence([measured]),
    )


def coded(concept: Sequence, answer: Sequence) -> Dataset:
    return item(
        RelationshipType="CONTAINS",
        ValueType="CODE",
        ConceptNameCodeSequence=concept,
        ConceptCodeSequence=answer,
    )


def left(tmp_path: Path, *items: Dataset, sets: str = "ISO_IR 100") -> list[Dataset]:
    """Return what stays of the items, beside a measurement that always does."""
    ds = ct_dataset(SOPClassUID=REPORT, Modality="SR", PixelData=None, SpecificCharacterSet=sets)
    ds.ContentSequence = Sequence([*items, number("Diameter", "12.5", "mm")])
    *found, last = cleaned(tmp_path, ds, profile=GDPR).ContentSequence
    assert last.MeasuredValueSequence[0].NumericValue == 12.5
    return found


@pytest.mark.parametrize("sets", ["ISO_IR 100", "ISO_IR 192"])
@pytest.mark.parametrize(
    "meaning",
    ["Contact", "Contact number", "Kontakt", "Call back number", "Callback", "Téléphone",
     "Numéro de téléphone", "Teléfono", "Mobile number", "Handynummer", "Rufnummer", "Tel.",
     "Geboren am", "Geburtstag", "Date de naissance", "Fecha de nacimiento", "Data di nascita",
     "Né le", "Born", "Courriel", "Dirección", "Indirizzo", "Code postal", "Patientennummer",
     "Patient ID", "Versichertennummer"],
)  # fmt: skip
def test_concepts_of_other_languages_tell_the_same(tmp_path: Path, meaning: str, sets: str) -> None:
    assert left(tmp_path, number(meaning, "1715550199"), sets=sets) == []


@pytest.mark.parametrize(
    "meaning",
    ["Contact area", "Cortical contact", "Mobile thrombus", "Newborn", "Telangiectasia",
     "Image number", "Direction", "Patient orientation", "Neoplasm", "Postal", "Mobility"],
)  # fmt: skip
def test_other_concepts_stay(tmp_path: Path, meaning: str) -> None:
    assert len(left(tmp_path, number(meaning, "12"))) == 1


@pytest.mark.parametrize(
    "meaning",
    ["Age at exam", "Age at examination", "Age at time of scan", "Alter des Patienten",
     "Patientenalter", "Alter bei Untersuchung", "Età del paziente", "Età", "Âge du patient", "Âge",
     "Edad del paciente", "Idade", "Leeftijd", "Patient age (years)", "Age in years", "Age [a]",
     "Alter (Jahre)", "Age, years"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["92", "45"])
def test_the_age_of_the_patient_goes_however_it_is_called(
    tmp_path: Path, meaning: str, value: str
) -> None:
    assert left(tmp_path, number(meaning, value, "year", "year")) == []


@pytest.mark.parametrize(
    ("meaning", "value", "unit", "word", "stays"),
    [
        ("Age at diagnosis", "92", "year", "year", False),
        ("Age at diagnosis", "92", "yy", "?", False),  # the concept decides
        ("Age at diagnosis", "89", "year", "year", True),
        ("Alter bei Diagnose", "97.5", "x", "Jahre", False),
        ("Età alla diagnosi", "97", "x", "anni", False),
        ("Âge au diagnostic", "97", "x", "ans", False),
        ("Age of infarct", "96", "h", "hours", True),
        ("Gestational Age", "140", "d", "days", True),
        ("Gestational Age", "140", "x", "Tage", True),
        ("Bone age", "1100", "x", "Monate", False),
        ("Duration", "93", "x", "years", False),
        ("Duration", "93", "YR", "Year", False),
        ("Duration", "93", "x", "minutes", True),
        ("Current", "93", "A", "ampere", True),
        ("Average", "93", "x", "?", True),
        ("Percentage", "93", "%", "percent", True),
    ],
)
def test_no_age_above_89_stays_whatever_its_unit_is_called(
    tmp_path: Path, meaning: str, value: str, unit: str, word: str, stays: bool
) -> None:
    assert bool(left(tmp_path, number(meaning, value, unit, word))) == stays


@pytest.mark.parametrize(
    "concept",
    [("121008", "DCM", "Person Observer Name"), ("113870", "DCM", "Person Name"),
     ("121009", "DCM", "x"), ("121020", "DCM", "Placer Number"), ("121021", "DCM", "x"),
     ("121114", "DCM", "Performing Physician"), ("L1", "99LOC", "Reporting doctor"),
     ("L1", "99LOC", "Radiologist"), ("L1", "99LOC", "Name of the physician"),
     ("L1", "99LOC", "Befundender Arzt"), ("L1", "99LOC", "Médecin traitant"),
     ("L1", "99LOC", "Patient's name"), ("L1", "99LOC", "Observer organization name")],
)  # fmt: skip
def test_who_observed_goes_though_it_is_a_code(
    tmp_path: Path, concept: tuple[str, str, str]
) -> None:
    answer = code("4711", meaning="Meiernagel^Hans")
    assert left(tmp_path, coded(code(*concept), answer)) == []


@pytest.mark.parametrize(
    "concept", ["Radiologist agreement", "Nursing", "Physician notified", "Device name of kernel"]
)
def test_what_observers_do_stays(tmp_path: Path, concept: str) -> None:
    assert len(left(tmp_path, coded(code("L1", meaning=concept), code("4711")))) == 1


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("hans@x.de", "99LOC"), ("www.meier.de", "99LOC"), ("http://x.de/?p=5", "99LOC"),
     ("Dr Meiernagel", "99LOC"), ("Dr.Meiernagel", "99LOC"), ("Prof. Meiernag", "99LOC"),
     ("0171 5550199", "99LOC"), ("+49 171 555019", "99LOC"), ("Herr Meiernagel", "99LOC"),
     ("4711", "Meiernagel"), ("4711", "Dr Meiernagel"), ("4711", "hans@x.de")],
)  # fmt: skip
def test_a_code_that_is_a_person_or_an_address_goes(
    tmp_path: Path, value: str, scheme: str
) -> None:
    found = left(tmp_path, coded(code("121071", "DCM", "Finding"), code(value, scheme, "x")))
    text = str(found)
    assert "eiernag" not in text
    assert value == "4711" or value not in text
    assert scheme == "99LOC" or scheme not in text


def test_a_long_code_is_held_to_the_same(tmp_path: Path) -> None:
    answer = Sequence(
        [item(LongCodeValue="Dr Meiernagel 0171 5550199", CodingSchemeDesignator="99X")]
    )
    assert "eiernag" not in str(left(tmp_path, coded(code("121071", "DCM", "Finding"), answer)))


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("52988006", "SCT"), ("T-D3000", "SRT"), ("24627-2", "LN"), ("MR", "DCM"), ("DR", "DCM"),
     ("en-US", "RFC5646"), ("[hnsf'U]", "UCUM"), ("{SUVbw}g/ml", "UCUM"), ("C2348792", "UMLS"),
     ("FCR0217-0000", "Fuji Standard"), ("X1_A1", "DSS_MESA"), ("C67447", "NCIt"),
     ("RID1301", "RADLEX"), ("0171", "99LOC"), ("20050110", "NICIP"), ("1.2.3", "99LOC"),
     ("ml/100ml/s", "UCUM"), ("Stub", "Stub"), ("X6K6", "IBSI"), ("DT.06", "99_OFFIS_DCMTK"),
     ("MR HEAD", "SIEMENS_RIS"), ("US", "ISO3166_1"), ("Mamm", "BARI")],
)  # fmt: skip
def test_codes_stay(tmp_path: Path, value: str, scheme: str) -> None:
    concept = code("121071", "DCM", "Finding")
    (one,) = left(tmp_path, coded(concept, code(value, scheme, "Lesion")))
    answer = one.ConceptCodeSequence[0]
    assert (answer.CodeValue, answer.CodingSchemeDesignator) == (value, scheme)
