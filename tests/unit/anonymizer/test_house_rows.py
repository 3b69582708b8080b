"""Pleura's own rows: what Table E.1-1 has no row for and still tells of a person, order or site."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.datadict import dictionary_keyword, dictionary_VR
from pydicom.sequence import Sequence

from pleura.anonymizer.profile import Profile
from pleura.anonymizer.rules import load_rules
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, cleaned
from tests.builders.identified import ct_dataset, item

PROFILES = pytest.mark.parametrize("profile", [GDPR, HIPAA, RESEARCH])
NUMBERS = {
    0x00102295: "BR-4455", 0x00181801: "CLOCK-12", 0x00189186: "BELT-31", 0x00280061: "COMPR-9",
    0x00401006: "PO-7712", 0x00401007: "FO/H20-47", 0x00402006: "PR-7713X",
    0x00402007: "FR-7714X", 0x0044000A: "LOT-8841", 0x00440012: "PUMP-77", 0x00540400: "IM-4455",
    0x00720008: "Wendelin Team", 0x00720010: "Ward Nine", 0x00820016: "AS-4471",
    0x01000426: "CERT-4512", 0x20000050: "Film of Q", 0x21000010: "PJ-7712",
    0x21100030: "PRT-WARD9", 0x21100099: "PQ-7712", 0x300A00DC: "BOL-7712", 0x300A00E5: "CMP-7712",
    0x300A00F9: "BAR-7712", 0x300A0354: "BAR-7713", 0x300A0355: "BAR-7714",
    0x40080103: "TAPE-7712", 0x00401008: "VIP-7712",
}  # fmt: skip
NO_SEEDS = (
    0x00280061, 0x00720008, 0x00720010, 0x00540400, 0x00820016, 0x20000050, 0x21100030,
    0x300A00DC, 0x300A00E5, 0x300A00F9, 0x300A0354, 0x300A0355, 0x40080103, 0x00401008, 0x00181801,
)  # fmt: skip
COMMENTS = (
    0x00189908, 0x0018990A, 0x00287007, 0x0028702A, 0x00380102, 0x00400255, 0x00401060,
    0x0040A492, 0x00440011, 0x0074140B, 0x30040006, 0x300600C8,
)  # fmt: skip
CODES = (
    0x00321031, 0x00321034, 0x00380044, 0x0040A028, 0x0040A066, 0x0040A068, 0x0040A070,
    0x0040A076, 0x0040A085, 0x0072000E, 0x40080117,
)  # fmt: skip


@PROFILES
def test_numbers_of_orders_devices_and_jobs_go(tmp_path: Path, profile: Profile) -> None:
    ds = ct_dataset()
    for tag, value in NUMBERS.items():
        ds.add_new(tag, dictionary_VR(tag), value)
    after = cleaned(tmp_path, ds, profile=profile)
    assert not [dictionary_keyword(tag) for tag in NUMBERS if tag in after]


@pytest.mark.parametrize("tag", sorted(NUMBERS.keys() - set(NO_SEEDS)))
def test_a_number_of_an_order_or_device_is_searched_for_elsewhere(tmp_path: Path, tag: int) -> None:
    ds = ct_dataset(ConvolutionKernel=NUMBERS[tag], FilterType=f"of {NUMBERS[tag]}")
    ds.add_new(tag, dictionary_VR(tag), NUMBERS[tag])
    after = cleaned(tmp_path, ds)
    assert NUMBERS[tag] not in str(after)
    assert after.FilterType == "of"


@PROFILES
@pytest.mark.parametrize("tag", COMMENTS)
def test_a_comment_without_a_row_loses_its_names_only(
    tmp_path: Path, profile: Profile, tag: int
) -> None:
    rules = load_rules()
    is_cut = profile is GDPR and tag >> 16 not in rules.minimal_groups
    assert rules.resolve(tag, dictionary_VR(tag), profile) == ("X" if is_cut else "C")
    ds = ct_dataset()
    ds.add_new(tag, dictionary_VR(tag), "chest of Ludmilla, Tarquinius")
    after = cleaned(tmp_path, ds, profile=profile)
    assert tag not in after if is_cut else after[tag].value == "chest of"


@PROFILES
def test_codes_that_name_people_and_what_ails_them_go(tmp_path: Path, profile: Profile) -> None:
    code = item(CodeValue="ZW-1", CodingSchemeDesignator="99WEND", CodeMeaning="Zweistein")
    ds = ct_dataset()
    for tag in CODES:
        ds.add_new(tag, "SQ", Sequence([code]))
    after = cleaned(tmp_path, ds, profile=profile)
    assert not [dictionary_keyword(tag) for tag in CODES if tag in after]


def test_the_body_mass_index_stays_only_with_other_characteristics(tmp_path: Path) -> None:
    ds = ct_dataset(PatientBodyMassIndex="41.3")
    assert "PatientBodyMassIndex" not in cleaned(tmp_path / "a", ds, profile=GDPR)
    assert "PatientBodyMassIndex" not in cleaned(tmp_path / "b", ds, profile=HIPAA)
    assert cleaned(tmp_path / "c", ds, profile=RESEARCH).PatientBodyMassIndex == 41.3
