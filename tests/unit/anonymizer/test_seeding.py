"""Seeds: what a header names people and places with is searched for in all its other texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.prose import announced_names
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.seeding import collect_seeds
from pleura.anonymizer.source import BytesSource
from pleura.anonymizer.text import Seeds
from pleura.anonymizer.wire import Element, parse_file
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, cleaned, run
from tests.builders.identified import ct_dataset, item, write


def code(meaning: str) -> Dataset:
    return item(CodeValue="77", CodingSchemeDesignator="99X", CodeMeaning=meaning)


def seeds_of(tmp_path: Path, ds: Dataset, *, title: str = "") -> Seeds:
    path = titled(tmp_path, ds, title) if title else write(tmp_path / "a.dcm", ds)
    parsed = parse_file(BytesSource(path.read_bytes()))
    return collect_seeds(parsed.elements, load_rules(), HIPAA, parsed.meta)


def titled(tmp_path: Path, ds: Dataset, title: str) -> Path:
    path = write(tmp_path / "a.dcm", ds)
    read = dcmread(path)
    read.file_meta.SourceApplicationEntityTitle = title
    read.save_as(path)
    return path


def with_person(ds: Dataset, meaning: str) -> None:
    person = item(PersonIdentificationCodeSequence=Sequence([code(meaning)]))
    ds.ReferringPhysicianIdentificationSequence = Sequence([person])


def sequence(keyword: str) -> Callable[[Dataset, str], None]:
    return lambda ds, meaning: setattr(ds, keyword, Sequence([code(meaning)]))


def attribute(keyword: str) -> Callable[[Dataset, str], None]:
    return lambda ds, value: setattr(ds, keyword, value)


WHERE: list[tuple[Callable[[Dataset, str], None], str, str]] = [
    (with_person, "Brandubar, Rose", "Brandubar Rose"),
    (with_person, "Brandubar^Rose", "Rose"),
    (sequence("InstitutionCodeSequence"), "Mercy General", "Mercy General"),
    (sequence("InstitutionCodeSequence"), "Klinik Ostrava", "Ostrava"),
    (sequence("InstitutionalDepartmentTypeCodeSequence"), "Ward Elmhurst", "Elmhurst"),
    (sequence("RequestingServiceCodeSequence"), "Service Elmhurst", "Elmhurst"),
    (attribute("ClinicalTrialSiteName"), "Mercy General Millbrook", "Millbrook"),
    (attribute("ClinicalTrialSponsorName"), "Acmepharma", "Acmepharma"),
    (attribute("ClinicalTrialCoordinatingCenterName"), "Northmore Center", "Northmore"),
    (attribute("ClinicalTrialProtocolEthicsCommitteeName"), "Northmore Board", "Northmore"),
    (attribute("ClinicalTrialSubjectID"), "SUBJ-0815", "SUBJ-0815"),
    (attribute("CurrentPatientLocation"), "Ward Elmhurst 4B", "Elmhurst"),
    (attribute("RequestingService"), "Clinic Elmhurst", "Elmhurst"),
    (attribute("PatientComments"), "Name: Okonkwo Rosalba, Tel 5551234567", "Okonkwo Rosalba"),
    (attribute("ImageComments"), "no effusion. Patient: Okonkwo", "Okonkwo"),
    (attribute("StudyDescription"), "CT, read by Dr. Okonkwo", "Okonkwo"),
    (attribute("InstitutionName"), "Klinikum Eppendorf (UKE)", "UKE"),
]


@pytest.mark.parametrize(("put", "value", "named"), WHERE)
def test_who_is_named_in_one_place_is_gone_from_the_others(
    tmp_path: Path, put: Callable[[Dataset, str], None], value: str, named: str
) -> None:
    ds = ct_dataset(ConvolutionKernel=f"B30f {named}", SeriesDescription=f"Lung {named}")
    put(ds, value)
    out = cleaned(tmp_path, ds, profile=HIPAA)
    assert out.ConvolutionKernel == "B30f"
    assert out.SeriesDescription == "Lung"


@pytest.mark.parametrize(
    ("put", "value"),
    [
        (with_person, "Radiologist"),
        (sequence("InstitutionCodeSequence"), "Hospital"),
        (sequence("InstitutionalDepartmentTypeCodeSequence"), "Chest radiology"),
        (sequence("RequestingServiceCodeSequence"), "Chest radiology"),
        (attribute("ClinicalTrialSiteName"), "Lung"),
        (attribute("ClinicalTrialSponsorName"), "Siemens Healthineers"),
        (attribute("CurrentPatientLocation"), "Chest radiology"),
        (attribute("PatientComments"), "Patient: lung and hospital, radiologist: none"),
        (attribute("StudyDescription"), "MR Vibe axial"),  # a modality, no title
        (attribute("InstitutionName"), "PET MRI Hospital"),
    ],
)
def test_ordinary_words_are_not_searched_for(
    tmp_path: Path, put: Callable[[Dataset, str], None], value: str
) -> None:
    ds = ct_dataset()
    put(ds, value)
    seeds = seeds_of(tmp_path, ds)
    for word in (
        "lung",
        "Hospital",
        "chest radiology",
        "Siemens",
        "radiologist",
        "Vibe",
        "PET MRI",
    ):
        assert not seeds.found_in(word)


def test_what_an_option_keeps_is_not_searched_for(tmp_path: Path) -> None:
    ds = ct_dataset(PerformedProcedureStepDescription="lung")
    ds.ScheduledStationGeographicLocationCodeSequence = Sequence([code("Room Elmhurst")])
    path = write(tmp_path / "a.dcm", ds)
    parsed = parse_file(BytesSource(path.read_bytes()))
    found = [
        collect_seeds(parsed.elements, load_rules(), profile).found_in("Elmhurst")
        for profile in (HIPAA, load_profile("research_dates"))
    ]
    assert found == [True, False]


@pytest.mark.parametrize("profile", [HIPAA, GDPR, RESEARCH], ids=lambda p: p.name)
def test_the_station_that_sent_a_file_is_gone_from_its_texts(
    tmp_path: Path, profile: object
) -> None:
    ds = ct_dataset(ConvolutionKernel="B30f MERCYGEN_CT1 Mercygen")
    result = run(titled(tmp_path, ds, "MERCYGEN_CT1"), tmp_path / "out", profile=profile)  # type: ignore[arg-type]
    assert dcmread(result.path).ConvolutionKernel == "B30f"


@pytest.mark.parametrize(
    "title",
    [
        "STORESCP",
        "ANY-SCP",
        "DCM4CHEE",
        "ORTHANC",
        "PACS01",
        "CT1",
        "T2",
        "SIEMENS",
        "LUNG",
        "PACS_AE",
    ],
)
def test_the_title_of_a_product_is_not_searched_for(tmp_path: Path, title: str) -> None:
    seeds = seeds_of(tmp_path, ct_dataset(), title=title)
    for word in (title, "storescp", "any", "scp", "pacs", "orthanc", "CT1", "T2", "lung", "PACS1"):
        assert not seeds.found_in(word)


def test_a_title_with_a_number_is_searched_for_whole(tmp_path: Path) -> None:
    seeds = seeds_of(tmp_path, ct_dataset(), title="CT_40221")
    assert seeds.found_in("on ct_40221")
    assert not seeds.found_in("CT 512")


@pytest.mark.parametrize("vr", ["LO", "SH", "UN"])
def test_a_name_in_a_private_attribute_is_gone_from_the_texts(tmp_path: Path, vr: str) -> None:
    ds = ct_dataset(ConvolutionKernel="B30f Okonkwo")
    block = ds.private_block(0x0099, "ACME", create=True)
    block.add_new(1, vr, b"Okonkwo^Lung" if vr == "UN" else "Okonkwo^Lung")
    out = cleaned(tmp_path, ds, profile=HIPAA)
    assert out.ConvolutionKernel == "B30f"


@pytest.mark.parametrize("value", [b"B30f^2", b"\0\1^Okonkwo", b"^", b"a^b" * 40, b"Lung^Chest"])
def test_other_private_bytes_name_nobody(tmp_path: Path, value: bytes) -> None:
    ds = ct_dataset()
    ds.private_block(0x0099, "ACME", create=True).add_new(1, "UN", value)
    seeds = seeds_of(tmp_path, ds)
    assert not any(seeds.found_in(word) for word in ("B30f", "Okonkwo", "lung", "chest"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Patient: Okonkwo Rosalba, lung", {"okonkwo", "rosalba"}),
        ("Dr. Okonkwo and Prof Wexholm", {"okonkwo", "wexholm"}),
        ("DR Okonkwo", set()),
        ("MS Vibe", set()),
        ("Frau Wexholm hat", {"wexholm"}),
        ("read by van Wexholm", {"wexholm"}),
        ("name: lung, id: 4711", set()),
        ("nothing", set()),
    ],
)
def test_a_label_tells_of_names_that_are_no_ordinary_words(text: str, names: set[str]) -> None:
    found = set(announced_names(text))
    assert names <= found
    assert not found & {"lung", "4711", "vibe", "dr", "van"}
    if not names:
        assert not found
    assert set(announced_names("chest " * 20 + text)) == found  # long texts are not remembered


@pytest.mark.parametrize("found", ["Mueller hip", "Jürgen", "Jurgen", "Müller"])
def test_a_name_in_utf8_that_its_character_set_misreads_is_found(
    tmp_path: Path, found: str
) -> None:
    ds = ct_dataset(SpecificCharacterSet="ISO_IR 100")
    ds.PatientName = "Müller^Jürgen".encode().decode("latin-1")
    assert seeds_of(tmp_path, ds).found_in(found)


@pytest.mark.parametrize("vr", ["OB", "UN", "LO", "UT"])
@pytest.mark.parametrize("tag", [0x00100020, 0x00080080])
def test_an_identifier_is_found_however_it_is_encoded(tmp_path: Path, tag: int, vr: str) -> None:
    ds = ct_dataset()
    del ds[tag]
    path = write(tmp_path / "a.dcm", ds)
    parsed = parse_file(BytesSource(path.read_bytes()))
    seeds = collect_seeds([Element(tag, vr, b"ZORBID")], load_rules(), HIPAA, parsed.meta)
    assert seeds.found_in("ZORBID 4")


def test_a_name_in_an_item_of_unknown_representation_is_found() -> None:
    name = b"\x10\0\x10\0\x0e\0\0\0Zorbatz^Anton "
    value = b"\xfe\xff\0\xe0" + len(name).to_bytes(4, "little") + name
    seeds = collect_seeds([Element(0x00711001, "UN", value)], load_rules(), HIPAA)
    assert seeds.found_in("Zorbatz")
