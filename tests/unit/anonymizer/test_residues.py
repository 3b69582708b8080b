"""Residues: which tokens of an input an output still holds."""

from __future__ import annotations

import pytest

from pleura.anonymizer.leaves import Leaf
from pleura.anonymizer.residues import Expectation, collect, tokens_left

EXPECTED = Expectation(
    pseudonym="PAAAAAAAAAAAAAAAA",
    shift_days=None,
    retained=frozenset({0x00181000}),
    identifying=frozenset({0x00100020, 0x00080050, 0x00181000}),
    defined_terms=frozenset({"CHEST"}),
    authored=frozenset({"YES"}),
)


def leaf(tag: int, vr: str, text: str) -> Leaf:
    return Leaf(tag, vr, text.encode(), ("ISO_IR 192",), 0)


SOURCE = (
    leaf(0x00100010, "PN", "Quibbleworth^Yes"),
    leaf(0x00100020, "LO", "MRN-7733"),
    leaf(0x00080050, "SH", "4455667"),
    leaf(0x00080020, "DA", "20200131"),
    leaf(0x00181000, "LO", "SN-1234"),
)


def left(vr: str, text: str, tag: int = 0x00204000) -> set[str]:
    return set(tokens_left([leaf(tag, vr, text)], collect(SOURCE, EXPECTED), EXPECTED))


def test_names_ids_and_dates_are_tokens_and_what_an_option_keeps_is_none() -> None:
    found = collect(SOURCE, EXPECTED)
    assert found.words == {"quibbleworth", "yes"}
    assert found.numbers == {"4455667", "20200131", "31012020", "01312020"}
    assert {"mrn-7733", "2020-01-31"} < found.phrases
    assert "sn-1234" not in found.phrases


@pytest.mark.parametrize(
    ("vr", "text", "found"),
    [
        ("LT", "seen by QUIBBLEWORTH, 4455667", {"quibbleworth", "4455667"}),
        ("LT", "born 31.01.2020 or 20200131", {"31.01.2020", "20200131"}),
        ("PN", "Quibbleworth^A", {"quibbleworth"}),
        ("LO", "amrn-7733x", {"mrn-7733"}),
        ("IS", "4455667", {"4455667"}),
        ("LT", "14455667", set()),  # a longer number is another
        ("CS", "YES", set()),  # what the engine writes itself
        ("LO", EXPECTED.pseudonym, set()),
        ("DA", "20200131", set()),  # compared as a value
        ("LT", "no finding", set()),
    ],
)
def test_each_token_is_found_in_the_text_that_holds_it(vr: str, text: str, found: set[str]) -> None:
    assert left(vr, text) == found


def test_retained_attributes_and_file_meta_are_not_searched() -> None:
    assert left("LO", "Quibbleworth", 0x00181000) == left("UI", "Quibbleworth", 0x00020003) == set()
