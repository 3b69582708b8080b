"""No text keeps the cleaner busy for ever, whatever names the header has."""

from __future__ import annotations

import pytest

from pleura.anonymizer.prose import announced_names, clean_prose
from pleura.anonymizer.text import Seeds

# The limit makes a hang a failure; each of them ends in well under a second.
pytestmark = pytest.mark.timeout(20)


def left_of(text: str, name: str) -> str:
    seeds = Seeds()
    seeds.add_name(name)
    return clean_prose(text, seeds, strict=False, terms=frozenset()).text


@pytest.mark.parametrize("name", ["XX^XXX", "Xx", "Xx^Xxx^Xxxx^Xxxxx"])
@pytest.mark.parametrize("count", [80, 100_000])
def test_a_word_made_of_a_name_again_and_again_goes_at_once(name: str, count: int) -> None:
    assert left_of(f"chest {'x' * count} left", name) == "chest left"


@pytest.mark.parametrize("count", [80, 100_000])
def test_a_word_that_is_almost_made_of_a_name_is_looked_through_at_once(count: int) -> None:
    text = f"chest {'x' * count}y left"
    assert left_of(text, "XX^XXX") == text


@pytest.mark.parametrize("title", ["mr. ", "prof. dr. ", "mr ", "van "])
def test_titles_without_end_announce_nobody(title: str) -> None:
    assert announced_names(f"dr. {title * 16_000}") == ()


def test_titles_without_end_announce_who_follows() -> None:
    assert announced_names(f"{'mr. ' * 16_000}Wexholm, chest") == ("wexholm",)
