"""Code strings hold terms, those of makers too, and no names, numbers or dates."""

from __future__ import annotations

from pathlib import Path

import pytest

from pleura.anonymizer.code_strings import names_nobody
from pleura.anonymizer.profile import Profile
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, cleaned
from tests.builders.identified import ct_dataset

NAMING = [
    "PROF MEIERNAGEL", "PROF_MEIERNAGEL", "H MEIERNAGEL", "MEIERNAGEL H", "MEIERNAGEL", "H TRAN",
    "MR TRAN", "MS_TRAN", "CHEST MEIERNAGEL", "CHEST_MEIERNAGEL", "HERR KOHN", "ARMSTRONG",
    "0171 5550 199", "0171_5550_199", "05 MAR 2019", "05_MAR_2019", "2019_03_05", "2019 03 05",
    "11 DEC 1950", "11 XII 1950", "11_GRUDNIA_1950", "12 ELM STREET", "95 Y",
]  # fmt: skip
TERMS = [
    "CHEST_PA", "TSPINE", "CT_SOM5 SPI", "CSA MPR", "CSAPARALLEL", "PHASE MAP", "T2_STAR_UNI",
    "M_FFE", "FFE M", "VXTL STATE", "SCREEN SAVE", "GSI MONO 70", "0001", "BIPLANE A", "1500",
    "MR HEAD", "MR_HEAD", "CT MR FUSION", "MARKER 1", "DECAY 2", "SEPTUM 3", "T2 STAR", "AXIAL 3D",
    "HEADNECK", "NECKCHESTABDPELV", "UPPERLEG", "CORONARYARTERY", "CIRCLEOFWILLIS", "LSSPINE",
    "ISO_10918_1", "ISO_14495_1", "ISO 2022 IR 149", "PET_20_STEP", "REL_ELEC_DENSITY",
    "SCHAEDEL", "OBERSCHENKEL", "GENOU", "RODILLA", "HELICAL_CT", "FC_SLICE_AX_GEMS", "POLYLINE",
    "CARDRESP_GATED", "CLOSEDPLANAR_XOR", "35CMX35CM", "TRACEW", "DIS2D", "VMI_50", "SPRING LUT",
]  # fmt: skip


@pytest.mark.parametrize("code", NAMING)
def test_a_code_that_may_name_somebody_goes(code: str) -> None:
    assert not names_nobody(code)


@pytest.mark.parametrize("code", TERMS)
@pytest.mark.parametrize("is_image_type", [False, True])
def test_terms_of_makers_stay(code: str, is_image_type: bool) -> None:
    assert names_nobody(code, is_image_type=is_image_type)


def test_an_image_type_may_be_a_word_nobody_knows_but_no_name_with_an_initial() -> None:
    assert names_nobody("ZORBOMATIC", is_image_type=True)
    for code in ("H MEIERNAGEL", "DR_TRAN", "ILSKA WEXHOLM", "05 MAR 2019", "0171 5550 199"):
        assert not names_nobody(code, is_image_type=True)


@pytest.mark.parametrize("profile", [HIPAA, GDPR, RESEARCH], ids=lambda p: p.name)
@pytest.mark.parametrize("code", [*NAMING, "DEC 11 1950"])
def test_a_file_keeps_no_such_code(tmp_path: Path, profile: Profile, code: str) -> None:
    ds = ct_dataset(PatientBirthDate="19501211", BodyPartExamined=code)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI", "H MEIERNAGEL"]
    out = cleaned(tmp_path, ds, profile=profile)
    assert "BodyPartExamined" not in out
    assert list(out.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI", ""]


@pytest.mark.parametrize("profile", [HIPAA, GDPR, RESEARCH], ids=lambda p: p.name)
def test_a_file_keeps_terms(tmp_path: Path, profile: Profile) -> None:
    kinds = ["DERIVED", "SECONDARY", "AXIAL", "CSAPARALLEL", "T2_STAR_UNI"]
    out = cleaned(
        tmp_path, ct_dataset(ImageType=kinds, BodyPartExamined="CHEST_PA"), profile=profile
    )
    assert list(out.ImageType) == kinds
    assert out.BodyPartExamined == "CHEST_PA"


def test_an_option_that_keeps_a_code_keeps_words_nobody_knows(tmp_path: Path) -> None:
    ds = ct_dataset(SmokingStatus="ZORBOMATIC", PatientSex="QUIBBLE")
    out = cleaned(tmp_path, ds, profile=RESEARCH)
    assert (out.SmokingStatus, out.PatientSex) == ("ZORBOMATIC", "QUIBBLE")
    assert "SmokingStatus" not in cleaned(tmp_path, ds, profile=HIPAA)
