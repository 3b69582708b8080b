"""A day goes with the word that strict cleaning takes for nothing it knows, beside a year."""

from __future__ import annotations

import pytest

from pleura.anonymizer.prose import clean_prose
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.text import Seeds

TERMS = load_rules().defined_terms


@pytest.mark.parametrize(
    "written", ["11 qwzember 1950", "11. qwzember 1950", "11th qwzember, 1950", "qwzember 11, 1950",
                "1950. qwzember 11.", "11-qwzember-1950"],
)  # fmt: skip
def test_the_day_goes_and_the_year_may_stay(written: str) -> None:
    left = clean_prose(f"chest {written} left", Seeds(), strict=True, terms=TERMS).text
    assert "11" not in left
    assert left.startswith("chest")
    assert left.endswith("left")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("11 qwzember chest", "11 chest"),
        ("11 chest 1950", "11 chest 1950"),
        ("1.5 qwzember 1950", "1.5 1950"),
        ("slice 111 qwzember 1950", "slice 111 1950"),
        ("grade 2 of 1950 cases", "grade 2 of 1950 cases"),
    ],
)
def test_other_figures_stay(text: str, left: str) -> None:
    assert clean_prose(text, Seeds(), strict=True, terms=TERMS).text == left
