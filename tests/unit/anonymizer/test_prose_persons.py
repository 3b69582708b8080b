"""A name that is an ordinary word goes where a title, a label or capitals tell that it is one."""

from __future__ import annotations

import re

import pytest

from pleura.anonymizer.prose import announced_names, clean_prose
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.text import Seeds

TERMS = load_rules().defined_terms
WORD = re.compile(r"[^\W_]+")
# What is in braces goes; every other word that strict cleaning knows stays.
TITLED = [
    "Dr. {J. White} informed", "Dr. {K. H. Richardson}", "Dr. med. {K. Winter}",
    "Mr. {J. R. King} seen", "Dr. {J White}", "Dr. {J.R.White} seen", "Herr {K.-H. Lang}",
    "signed by {J. White}", "Radiologist: {J. White}", "Patient: {H. Winter}", "nurse {J. White}",
    "Frau {Iris Winter} seen", "Dr. {Iris Fuchs-Horn} seen", "Dr. {Mayer-Fuchs} seen",
    "Dr. {Mayer-\r\nFuchs} seen", "Dr. med. univ. {Lang}", "Prof. {h.c. Lang}",
    "Dr. med. habil. {Lang}", "Dipl.-Med. {Lang} seen", "Priv.-Doz. {Lang} seen",
    "Dr. {Iris} von {Lang} seen", "Dr. {O'White} seen", "Dr. {Lang} und {Winter} informiert",
    "Drs. {White} and {Brown} informed", "Dr. {White}/{Brown} informed", "Dres. {Lang}, {Winter}",
    "Dr. {White} & {Brown} informed", "Dr. {White}, {Brown} and {King} informed",
    "Patient: {Winter, Iris}", "Name: {King, Iris}", "PATIENT: {WINTER, IRIS}",
    "DR. {J. WHITE} INFORMED", "DR {J WHITE} INFORMED", "DR. {IRIS WHITE} INFORMED",
    "FRAU {ILKA WINTER}", "dr. {j. white} informed", "Dr. {Wexholm}, {vandrel} seen",
    "DRS. {WHITE} AND {BROWN}", "dr. {mayer-fuchs} informed", "Dr. {K. Page}, Dr. {L. Sharp}",
    "Mr. and Mrs. {White} seen", "Dr. {W e i s s b u r g e r} informed",
]  # fmt: skip
LABELLED = [
    "seen Hr. {Lang} today", "Hrn. {Winter} informed", "Fr. {Fuchs} seen", "Fam. {Winter} informed",
    "Hr {Lang} seen", "OA {Lang} informed", "Oberarzt {Fuchs} informed", "PD {Horn} seen",
    "Assistenzarzt {Winter} seen", "Zuweiser: {Lang}", "Hausarzt: {Horn}", "MTRA: {Winter}",
    "Visum: {Mayer}", "Diktat: {Mayer}", "Mutter: {Winter}", "Ehefrau {Iris Winter} informed",
    "signed: {White}", "cc: {White}", "Consultant: {White}", "radiographer: {White}",
    "radiographer {White} called", "nurse {White} called", "{White} MD", "{J. Brown}, MD reviewed",
    "{Iris White}, MD", "GP {White}", "d/w {White}", "called to {White} at noon",
    "discussed with {Richardson} and {Murray}", "the patient {Vladimir Navarro} was seen",
    "Befund an Kollege {Mayer}", "Name {White}, chest", "Patient is {White, Iris}",
]  # fmt: skip
HARMLESS = [
    "Dr. {Fuchs} informed", "Patient: {right} lung clear", "Patient: {Right} lung clear",
    "Dr. {Fuchs}. No change in the lungs", "Dr. {Fuchs}, Thorax normal", "Dr. {Fuchs} Befund",
    "MR {L} SPINE", "MR {C}-SPINE", "PD axial", "OA of the knee", "OA Knee left", "HR 95 normal",
    "8 Fr. Catheter in place", "Attending: {Lungs} are clear", "Consultant Report: normal",
    "Patient Lungs clear", "patient CT normal", "nurse informed", "discussed with Surgery",
    "CC: Cough and fever", "100 cc: given", "FA, MD ADC", "Chest CT, MD to review", "son: healthy",
    "patient {R}. lung clear", "Dr. {White} a known surgeon", "Dr. {White} and the team informed",
    "seen by Radiology", "read by {the} Radiologist", "Mr. {King} with 120 kV",
    "DR {FUCHS} INFORMED", "DR {FUCHS} WILL CALL", "DR {WEXHOLM} CHEST CLEAR", "Protocol Name Lung",
]  # fmt: skip


def left_of(text: str, *, strict: bool = True) -> list[str]:
    return WORD.findall(clean_prose(text, Seeds(terms=TERMS), strict=strict, terms=TERMS).text)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("frame", TITLED + LABELLED)
def test_a_name_that_is_an_ordinary_word_goes(frame: str, strict: bool) -> None:
    left = left_of(re.sub(r"[{}]", "", frame), strict=strict)
    secret = {w for part in re.findall(r"\{(.*?)\}", frame, re.S) for w in WORD.findall(part)}
    assert not secret & set(left), left


@pytest.mark.parametrize("frame", HARMLESS)
def test_words_that_are_no_name_there_stay(frame: str) -> None:
    wanted = WORD.findall(re.sub(r"\{.*?\}", " ", frame))
    assert left_of(re.sub(r"[{}]", "", frame), strict=False) == wanted


def test_words_that_everybody_knows_become_no_seed() -> None:
    assert announced_names("Dr. Iris Fuchs-Horn and Dr. Wexholm, nurse White") == ("wexholm",)
