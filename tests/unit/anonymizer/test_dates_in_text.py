"""Days are found however a text writes them: those of the header, and those it does not tell."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pydicom.sequence import Sequence

from pleura.anonymizer.dates import spans_of_days, spelled
from pleura.anonymizer.leaves import Leaf
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.prose import clean_prose
from pleura.anonymizer.residues import Expectation, collect, tokens_left
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.text import Seeds, fold, has_pattern
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, cleaned
from tests.builders.identified import ct_dataset, item

TERMS = load_rules().defined_terms
BIRTH = date(1950, 12, 11)
WRITTEN = [
    "31. 01. 2020", "11 / 12 / 1950", "31–01–2020", "2020‑01‑31", "31,01,2020", "11·12·1950",
    "11•12•1950", "11|12|1950", "31_01_2020", "31 01 2020", "11∕12∕1950", "11 - 12 - 1950",
    "31. 01. 20", "11.12.'50", "11-12-’50", "1950 1211", "1211-1950", "31, 01, 2020",
    "12/1950", "5/2019", "12 / 2019", "01-2020", "2020-01", "2019/12", "04.2019", "12_1950",
    "May 1950", "Mai '50", "gennaio 1950", "maart 1950", "luglio 1950", "enero de 1950",
    "août 1950", "Dec.1950", "DEC1950", "december_1950", "2019-Dec", "Sept. 2019",
    "11 gennaio 1950", "11 maggio 1950", "11 giugno 1950", "11 luglio 1950", "11 settembre 1950",
    "11 ottobre 1950", "11 maart 1950", "11 mei 1950", "11. Jänner 1950", "1er janvier 1950",
    "1º de mayo de 1950", "3/Mar/2020", "1950 Dec 11", "1950, December the 11th",
]  # fmt: skip
HARMLESS = [
    "matrix 512/512 and 256 / 256", "ratio 1/2 or 3/4", "spacing 1.25 / 0.8 mm", "T1/T2 and T2 3D",
    "120 kV 100 mAs", "version 4.2 and syngo 2.1", "image 12/19 of 20", "TR 2000 TE 30",
    "TE/TR 30/2000", "position -12.5, 10.2, 1950.5", "window 40/400 and 350/50",
    "slices 10, 11, 12 and 1, 2, 3", "1.0 x 1.0 x 5.0 mm", "B30f 1.2000", "marked 2019 changes",
    "0.5 / 0.7 / 1.0 mm", "levels 1500/600", "40 - 60 keV", "b 50, 400, 2000",
]  # fmt: skip
# The header's 11 December 1950 where nothing but the header tells that it is a day.
OF_HEADER = [
    "11. 12. 1950", "11 / 12 / 50", "12-11-1950", "1950_12_11", "50 12 11", "11 1950 12",
    "11–12–1950", "1950 1211", "1112 1950", "11:12:1950", "11121950", "12111950", "11,\n12, 50",
]  # fmt: skip


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("written", WRITTEN)
def test_a_date_no_header_tells_of_goes(written: str, strict: bool) -> None:
    text = f"chest {written} left"
    assert clean_prose(text, Seeds(), strict=strict, terms=TERMS).text == "chest left"


@pytest.mark.parametrize("text", HARMLESS)
def test_figures_that_are_no_date_stay(text: str) -> None:
    assert clean_prose(text, Seeds(), strict=False, terms=TERMS).text == text


@pytest.mark.parametrize("written", OF_HEADER)
def test_a_day_of_the_header_is_found_in_any_order_and_with_any_separator(written: str) -> None:
    seeds = Seeds()
    seeds.add_date(BIRTH)
    assert seeds.found_in(f"B30f {written}")
    cleaned = clean_prose(f"chest {written} left", seeds, strict=False, terms=TERMS, patterns=False)
    assert cleaned.text == "chest left"


@pytest.mark.parametrize("written", OF_HEADER)
def test_the_scan_finds_the_same_spellings(written: str) -> None:
    expected = Expectation("P", None, frozenset(), frozenset(), frozenset(), frozenset())
    residues = collect([Leaf(0x00100030, "DA", b"19501211", (), 0)], expected)
    leaf = Leaf(0x00181210, "SH", written.encode(), ("ISO_IR 192",), 0)
    assert tokens_left([leaf], residues, expected)


@pytest.mark.parametrize(
    "text", ["11.12", "11 x 12 x 1950", "11 12 1951", "111 12 1950", "11 12 19500", "1 1 2 1950"]
)
def test_other_figures_are_not_the_day(text: str) -> None:
    assert list(spans_of_days(text, set(spelled(BIRTH)))) == []


def test_a_row_of_numbers_is_searched_at_once() -> None:
    assert list(spans_of_days("11 12 " * 100_000, set(spelled(BIRTH)))) == []


@pytest.mark.parametrize("dash", "‐‑‒–—―−－﹣")
def test_all_dashes_are_one(dash: str) -> None:
    assert fold(f"a{dash}b") == "a-b"


def test_a_private_text_with_a_spaced_date_has_a_pattern() -> None:
    assert has_pattern("31. 01. 2020")


@pytest.mark.parametrize("profile", [HIPAA, GDPR, RESEARCH], ids=lambda p: p.name)
def test_a_file_keeps_none_of_them_and_passes_the_scan(tmp_path: Path, profile: Profile) -> None:
    content = item(ValueType="TEXT", TextValue="seen 11 / 12 / 1950 and 31|01|2020")
    ds = ct_dataset(
        SpecificCharacterSet="ISO_IR 192",
        PatientBirthDate="19501211",
        StudyDate="20200131",
        ImageComments="chest 31. 01. 2020; 11 / 12 / 1950; 31–01–2020; 12/1950; May 1950",
        ConvolutionKernel="B30f 31. 01. 20",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "31_01_2020"],
    )
    ds.ContentSequence = Sequence([content])
    out = cleaned(tmp_path, ds, profile=profile)
    assert out.ConvolutionKernel == "B30f"
    assert list(out.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL", ""]
    for text in (out.get("ImageComments", ""), out.ContentSequence[0].TextValue):
        assert not any(figure in text for figure in ("31", "11", "12", "1950", "2020"))
