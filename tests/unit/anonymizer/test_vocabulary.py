"""An ordinary word that merely contains a name stays; a word that is or hides a name goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pleura.anonymizer.leaves import Leaf
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.prose import clean_prose
from pleura.anonymizer.residues import Expectation, collect, tokens_left
from pleura.anonymizer.text import Seeds
from pleura.anonymizer.vocabulary import holds, is_known_word, spans_of
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, cleaned
from tests.builders.identified import ct_dataset

PROFILES = pytest.mark.parametrize("profile", [HIPAA, GDPR, RESEARCH], ids=lambda p: p.name)
INSIDE = [
    ("Tran^Thi", "transverse"),
    ("Stan^Lee", "STANDARD"),
    ("Ross^Ay", "cross section"),
    ("Mark^Ay", "marker"),
    ("Thor^Ay", "thorax"),  # though the name is a word itself
    ("Long^Ay", "longitudinal"),
    ("Hand^Ay", "handle"),
]
WHOLE = [
    ("Tran^Thi", "TRAN"),
    ("Tran^Thi", "Tran3"),
    ("Tran^Thi", "TranThi"),
    ("Tran^Thi", "Tranchest"),
    ("Tran^Thi", "Tran's"),
    ("Smyth^Ay", "SmythThorax"),  # made by rule, and hence no ordinary word
    ("Smyth^Ay", "Smythgraphy"),
    ("Stan^Lee", "STANDARDX"),
    ("Park^Ay", "parking"),  # an inflection of a name that is a word itself
    ("Long^Ay", "LONGS"),
    ("Long^Ay", "longheart"),
    ("Katrijn^Kim", "KatrijnKim"),
]


def seeds_of(name: str) -> Seeds:
    seeds = Seeds()
    seeds.add_name(name)
    return seeds


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("name", "text"), INSIDE)
def test_a_word_that_merely_contains_a_name_stays(name: str, text: str, strict: bool) -> None:
    seeds = seeds_of(name)
    assert clean_prose(text, seeds, strict=strict, terms=frozenset()).text == text
    assert not seeds.found_in(text)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("name", "text"), WHOLE)
def test_a_word_that_is_a_name_or_unknown_goes(name: str, text: str, strict: bool) -> None:
    left = clean_prose(f"chest {text} left", seeds_of(name), strict=strict, terms=frozenset()).text
    assert left.removesuffix(" left") in ("chest", "chest 's")


def test_one_word_goes_and_the_next_one_stays() -> None:
    left = clean_prose("Tran transverse TRAN", seeds_of("Tran^Ay"), strict=False, terms=frozenset())
    assert (left.text, left.removed_words) == ("transverse", 2)


@pytest.mark.parametrize(
    ("folded", "phrase", "spans"),
    [
        ("transverse", "tran", []),
        ("tran transverse", "tran", [(0, 4)]),
        ("xtranx", "tran", [(0, 6)]),
        ("mercy generals", "mercy general", [(0, 14)]),  # several words: never inside one
        ("金山", "山", [(1, 2)]),
        ("aaaa" * 3, "aaaa", [(0, 12)]),
        ("", "tran", []),
    ],
)
def test_a_phrase_is_found_where_it_is_no_part_of_an_ordinary_word(
    folded: str, phrase: str, spans: list[tuple[int, int]]
) -> None:
    assert list(spans_of(folded, phrase)) == spans
    assert holds(folded, phrase) == bool(spans)


def test_a_name_in_an_endless_word_is_found_without_searching_for_hours() -> None:
    assert list(spans_of("anna" * 100_000, "anna")) == [(0, 400_000)]


def test_a_word_made_by_rule_is_known() -> None:
    assert is_known_word("smythgraphy")


@PROFILES
def test_kernel_and_descriptions_survive_names_inside_their_words(
    tmp_path: Path, profile: Profile
) -> None:
    ds = ct_dataset(
        PatientName="Tran^Stan",
        SeriesDescription="Transverse standard",
        ConvolutionKernel="STANDARD",
        ImageType=["ORIGINAL", "PRIMARY", "TRANSVERSE", "TRANX"],
    )
    out = cleaned(tmp_path, ds, profile=profile)  # the residual scan agrees, or it would refuse
    assert out.ConvolutionKernel == "STANDARD"
    assert out.SeriesDescription == "Transverse standard"
    assert list(out.ImageType) == ["ORIGINAL", "PRIMARY", "TRANSVERSE", ""]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("transverse", set()),
        ("seen by TRAN", {"tran"}),
        ("tranx", {"tran"}),
        ("trans", {"tran"}),
        ("TranChest", {"tran"}),
    ],
)
def test_the_scan_finds_what_the_engine_takes_out(text: str, found: set[str]) -> None:
    expected = Expectation("P", None, frozenset(), frozenset(), frozenset(), frozenset())
    residues = collect([Leaf(0x00100010, "PN", b"Tran^Thi", (), 0)], expected)
    leaf = Leaf(0x00204000, "LT", text.encode(), (), 0)
    assert set(tokens_left([leaf], residues, expected)) == found
