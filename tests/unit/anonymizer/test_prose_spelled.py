"""Names and numbers letter by letter, broken names, labelled numbers, addresses, high ages."""

from __future__ import annotations

import re

import pytest

from pleura.anonymizer.prose import MAX_WORDS, clean_prose
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.text import Seeds

TERMS = load_rules().defined_terms
BOTH = pytest.mark.parametrize("strict", [False, True])


def left_of(text: str, *names: str, strict: bool = True) -> str:
    seeds = Seeds(terms=TERMS)
    for name in names:
        seeds.add_name(name)
    return clean_prose(text, seeds, strict=strict, terms=TERMS).text


@pytest.mark.parametrize(
    "spelled",
    [
        "M e i e r n a g e l", "M.e.i.e.r", "M  e  i  e  r", "M-e-i-e-r", "M/e/i/e/r",
        "0 1 7 1 5 5 5 0 1 9 9", "5 5 0 0 0 9", "5-5-0-0-9",
    ],
)  # fmt: skip
def test_what_is_written_letter_by_letter_goes(spelled: str) -> None:
    assert left_of(f"chest {spelled} left") == "chest left"


@pytest.mark.parametrize(
    "text",
    [
        "T 1 2 N 0 M 0", "p T 2 N 1 M 0", "L R", "R L A P", "A P R L H F", "1 2 3 4 5 6", "C 3 4",
        "0 2 4 6 8", "a b c d e f", "1 0 0 0 1 0", "segments 1, 2, 3, 5 and 8", "l u n g",
        "p.r.n. and q.d.",
    ],
)  # fmt: skip
def test_rows_that_count_or_tell_sides_stay(text: str) -> None:
    assert left_of(text) == text


@BOTH
@pytest.mark.parametrize("mark", ["/", "  ", ", ", "|", " ", "...", "*"])
def test_the_header_s_own_name_goes_however_it_is_spaced(mark: str, strict: bool) -> None:
    spelled = mark.join("Wexholm")
    for text in (f"chest {spelled} left", f"chest x {spelled} {spelled} left"):
        left = left_of(text, "Wexholm^Ilka", strict=strict)
        assert re.findall(r"\w{2,}", left) == ["chest", "left"]
        assert not re.search(r"[WEHOLM]", left)


@BOTH
@pytest.mark.parametrize("end", ["-\r\n", "-\n", "\r\n", "- \n  ", "-", " "])
def test_a_name_broken_in_two_goes(end: str, strict: bool) -> None:
    assert left_of(f"chest Wood{end}ward left", "Woodward^Ilka", strict=strict) == "chest left"


def test_words_that_make_no_name_together_stay() -> None:
    assert left_of("wood-\r\nward", "Woodwork^Ilka") == "wood-\r\nward"


@BOTH
@pytest.mark.parametrize(
    "number",
    [
        "Fall-Nr. 4711", "Fallnr 4711", "Pat.-Nr. 812", "Röntgennummer 4711/20", "Durchwahl 4711",
        "DECT 4711", "Piepser 812", "Akte 812/20", "case no 4711", "chart 812", "PO Box 4711",
        "Postfach 12 34", "pager 812 bleep 4711", "DECT 4 7 1 1", "MRN 5 5 0",
    ],
)  # fmt: skip
def test_a_number_behind_its_label_goes(number: str, strict: bool) -> None:
    left = left_of(f"chest {number}, 5 mm left", strict=strict)
    assert not re.search(r"\d", left.replace("5 mm", ""))
    assert left.endswith("5 mm left")


@BOTH
@pytest.mark.parametrize(
    "address",
    ["123 N Main St Apt 4", "12 The Mews", "12 Oak Ave Apt 4", "5 N. Elm Dr", "7 Old Oak Grove"],
)
def test_an_address_goes(address: str, strict: bool) -> None:
    assert left_of(f"chest; {address}", strict=strict) == "chest;"


@BOTH
@pytest.mark.parametrize(
    "age",
    [
        "Pt is 97", "92 J. alt", "92J alt", "104a m", "F97 w cough", "woman (95)", "(95) male",
        "95 jr.", "97, m", "M/97", "97-jg.", "patient, 97,", "he was 101",
    ],
)  # fmt: skip
def test_an_age_above_89_goes_however_short_it_is_written(age: str, strict: bool) -> None:
    assert not re.search(r"\d", left_of(f"chest {age} left", strict=strict))


@pytest.mark.parametrize(
    "text",
    [
        "97 %", "male 97 %", "95 mm", "man with 95 mm mass", "woman, 110 ml contrast", "kV 97",
        "patient at 95 bpm", "120 kV 97 mAs", "male 120 kVp", "F95 with contrast", "95 J shock",
        "man 92 slices", "patient 1/97", "she was 45", "male 95.5",
    ],
)  # fmt: skip
def test_figures_above_89_that_are_no_age_stay(text: str) -> None:
    assert left_of(text, strict=False) == text


@pytest.mark.parametrize("unit", ["1 ", "lung ", "1-"])
@pytest.mark.timeout(20)
def test_a_text_without_end_is_emptied_at_once(unit: str) -> None:
    cleaned = clean_prose(unit * 2_000_000, Seeds(), strict=True, terms=TERMS)
    assert (cleaned.text, cleaned.removed_words) == ("", 2_000_000)


def test_marks_without_end_are_emptied_and_told() -> None:
    cleaned = clean_prose("- " * 3_000_000, Seeds(), strict=False, terms=TERMS)
    assert (cleaned.text, cleaned.removed_words) == ("", 1)


def test_a_text_as_long_as_a_book_is_cleaned() -> None:
    assert left_of("lung Wexholm\n" * (MAX_WORDS // 20)).startswith("lung")
