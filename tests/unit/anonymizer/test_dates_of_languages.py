"""Days and months are found in the languages and notations of patients, not of English alone."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from pleura.anonymizer.dates import spans_of_days, spelled
from pleura.anonymizer.leaves import Leaf
from pleura.anonymizer.months import NAMES, SHORT, any_of
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.prose import clean_prose
from pleura.anonymizer.residues import Expectation, collect, tokens_left
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.text import Seeds, fold
from pleura.anonymizer.vocabulary import is_known_word
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, cleaned
from tests.builders.identified import ct_dataset

TERMS = load_rules().defined_terms
BIRTH = date(1950, 12, 11)
# The header's 11 December 1950 where no pattern helps.
OF_HEADER = [
    "11.XII.1950", "11 XII 1950", "11-XII-50", "11.Ⅻ.1950", "1950.XII.11", "(11)(12)(1950)",
    "11;12;1950", "11*12*1950", "11=12=1950", "11~12~1950", "11+12+1950", "1950&12&11",
    "[11] [12] [1950]", "11 -- 12 -- 1950", "D11 M12 Y1950", "Tag 11 Monat 12 Jahr 1950",
    "d=11 m=12 y=1950", "11 grudnia 1950", "11 grudnia, 1950", "11 gru 50", "11 Aralık 1950",
    "11. prosince 1950", "11. joulukuuta 1950", "1950. december 11", "11 декабря 1950",
    "11 Δεκεμβρίου 1950", "11 ديسمبر 1950", "١١ ديسمبر ١٩٥٠", "11 ธันวาคม 2493", "11/12/2493",
    "11 de desembre de 1950", "11th of Christmonth 1950", "grudnia 11, 1950", "DEC 11 1950",
    "Dec the 11th, 1950",
    "the 11th day of December in 1950", "11/Dec/50", "11 dec. of 50",
    "1950年12月11日", "1950년 12월 11일", "1950-345", "1950.345", "1950-W50-1", "1950W501",
    "11 tháng 12 năm 1950", "11 दिसंबर 1950",
]  # fmt: skip
# Of no header.
WRITTEN = [
    "11.XII.1950", "11-XII-50", "3.IV.2019", "11 XII 1950", "2020-W05-5", "2020W055", "2020-W05",
    "11 grudnia 1950", "11 grudnia", "grudnia 1950", "11-gru-1950", "11.gru.50", "11 Aralık 1950",
    "11. prosince 1950", "prosince 1950", "11. joulukuuta 1950", "1950. december 11",
    "11 decembrie 1950", "11 noiembrie 1950", "11. prosinca 1950", "11 maj 1950", "11. desember",
    "5 marts 2019", "11 de dezembro de 1950", "5 de março", "set 2019", "11 set 2019",
    "11 декабря 1950", "декабрь 1950", "11 грудня 1950", "11 декември 1950", "11 дек 1950",
    "11 Δεκεμβρίου 1950", "11 בדצמבר 1950", "11 ديسمبر 1950", "١١ ديسمبر ١٩٥٠",
    "11 كانون الأول 1950", "11 آذر 1329", "11 tháng 12 năm 1950", "tháng 12/1950",
    "11 ธันวาคม 2493", "11ธันวาคม2493", "ธันวาคม 2493", "11 desember 1950", "11 Agustus 1950",
    "12 Marhc 2019", "3 Decmber 2019", "3 décembre", "3 Dez", "12 diciembre", "3 abril", "5 agosto",
    "1 fevereiro", "1 févr. 2019", "4 setiembre 2019", "4 septiembre", "3 augusztus", "2 maio",
    "3 de ene 2019", "1950년 12월 11일", "12月11日", "1950 年 12 月",
    "11 दिसंबर 1950", "11 დეკემბერი 1950",
]  # fmt: skip
HARMLESS = [
    "grade 2 of 1950 cases", "5 x 2019 pixels", "matrix 12 x 2048", "stage 2 ii and 3 iv", "2 sub",
    "3 set", "1 lip", "2 mac 4", "type II 2000", "grade III 12", "kernel v 12", "TE 12 TR 2000",
    "pro 2000", "2 led 40", "DLP 1950 mGy 12 cm", "window 345/1950", "12 images 1950",
    "3 marked", "2 separate nodules", "2 decreased", "5 margins", "2 septa", "3 main", "1 abrupt",
    "4 junctions", "2 decades", "3 dictated", "12 novel", "2 energy", "2 augmented",
    "10 µ 2000", "10 μm 2000", "共12层 2019", "1 β 2000", "3回目 2019",
]  # fmt: skip


def seeded() -> Seeds:
    seeds = Seeds()
    seeds.add_date(BIRTH)
    return seeds


@pytest.mark.parametrize("written", OF_HEADER)
def test_a_day_of_the_header_is_found_without_patterns(written: str) -> None:
    assert seeded().found_in(f"B30f {written}")
    cleaned = clean_prose(
        f"chest {written} left", seeded(), strict=False, terms=TERMS, patterns=False
    )
    assert not any(figure in fold(cleaned.text) for figure in ("11", "12", "50", "2493"))


@pytest.mark.parametrize("written", OF_HEADER)
def test_the_scan_finds_it_too(written: str) -> None:
    expected = Expectation("P", None, frozenset(), frozenset(), frozenset(), frozenset())
    residues = collect([Leaf(0x00100030, "DA", b"19501211", (), 0)], expected)
    leaf = Leaf(0x00181210, "SH", written.encode(), ("ISO_IR 192",), 0)
    assert tokens_left([leaf], residues, expected)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("written", WRITTEN)
def test_a_date_no_header_tells_of_goes(written: str, strict: bool) -> None:
    text = f"chest {written} left"
    assert clean_prose(text, Seeds(), strict=strict, terms=TERMS).text == "chest left"


@pytest.mark.parametrize("text", HARMLESS)
def test_figures_that_are_no_date_stay(text: str) -> None:
    assert clean_prose(text, Seeds(), strict=False, terms=TERMS).text == text


@pytest.mark.parametrize("text", HARMLESS)
def test_figures_beside_other_days_of_the_header_stay(text: str) -> None:
    seeds = Seeds()
    seeds.add_date(date(2020, 1, 31))
    assert clean_prose(text, seeds, strict=False, terms=TERMS).text == text


@pytest.mark.parametrize(
    "text",
    ["11 x 12 x 1950", "11 mm 1950", "11.XI.1950", "1950-346", "1950-W50-2", "11/12/2494",
     "TR 1950 TE 12", "1950 12 mm", "11.XII.51", "11 of 1950", "12 images of 1950"],
)  # fmt: skip
def test_other_figures_are_not_the_day(text: str) -> None:
    assert list(spans_of_days(fold(text), set(spelled(BIRTH)))) == []


def test_names_that_need_only_a_day_are_no_ordinary_words() -> None:
    of_reports = {"januar", "februar", "september", "oktober", "november"}
    assert {word for word in NAMES if is_known_word(word)} == {"majus", "marts"} | of_reports


def test_names_are_folded() -> None:
    assert all(fold(word) == word for word in NAMES | SHORT)


def test_a_shared_expression_is_of_these_words_only() -> None:
    words = ["mai", "maio", "mar", "a.b"]
    assert all(re.fullmatch(any_of(words), word) for word in words)
    assert not any(re.fullmatch(any_of(words), word) for word in ["ma", "maia", "axb", ""])


@pytest.mark.parametrize("row", ["11 grudnia ", "11 a ", "11 de ", "11 ديسمبر ", "(11)", "maj 11 "])
def test_long_rows_are_searched_at_once(row: str) -> None:
    text = row * 20_000
    assert list(spans_of_days(text, set(spelled(BIRTH)))) == []


@pytest.mark.parametrize("profile", [HIPAA, GDPR, RESEARCH], ids=lambda p: p.name)
def test_a_file_keeps_none_of_them_and_passes_the_scan(tmp_path: Path, profile: Profile) -> None:
    ds = ct_dataset(
        SpecificCharacterSet="ISO_IR 192",
        PatientBirthDate="19501211",
        ImageComments="chest 11.XII.1950; ur. 11 grudnia 1950; (11)(12)(1950); 11. joulukuuta 1950",
        WindowCenterWidthExplanation="11 grudnia 1950",
        ConvolutionKernel="B30f 11;12;1950",
    )
    out = cleaned(tmp_path, ds, profile=profile)
    assert out.ConvolutionKernel == "B30f"
    for text in (out.get("ImageComments", ""), out.get("WindowCenterWidthExplanation", "")):
        assert not any(figure in str(text) for figure in ("11", "12", "1950"))
