"""The rule table has as many rows of each code as the editions it claims."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files

import pytest

from pleura.anonymizer.rules import Part15, Row

BASE = {
    "X": 384, "D": 92, "U": 54, "Z": 42, "X/D": 22, "X/Z": 11, "X/Z/D": 8, "Z/D": 6, "X/Z/U*": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    path = files("pleura.anonymizer") / "tables" / "part15.json"
    return Part15.model_validate(json.loads(path.read_bytes())).rows


def test_counts_of_edition_2024e(rows: dict[str, Row]) -> None:
    counts = Counter(row.basic for row in rows.values() if row.edition == "2024e")
    assert counts == BASE
    assert counts.total() == 621


def test_counts_of_edition_2026c(rows: dict[str, Row]) -> None:
    counts = Counter(row.basic for row in rows.values() if row.edition != "house")
    assert counts == BASE | {"X": 416, "D": 93, "U": 55, "X/D": 23}
    assert counts.total() == 656


def test_counts_of_options(rows: dict[str, Row]) -> None:
    published = [row for row in rows.values() if row.edition != "house"]
    counts = Counter(pair for row in published for pair in row.options.items())
    assert counts == {
        ("modified_dates", "C"): 165, ("full_dates", "K"): 165, ("descriptors", "C"): 125,
        ("uids", "K"): 59, ("device", "K"): 46, ("device", "C"): 11, ("institution", "K"): 10,
        ("patient_chars", "K"): 9, ("patient_chars", "C"): 4, ("structured", "C"): 3,
        ("graphics", "C"): 4, ("safe_private", "C"): 1,
    }  # fmt: skip


def test_only_the_masks_are_no_tag(rows: dict[str, Row]) -> None:
    masks = {key for key in rows if not all(c in "0123456789ABCDEF" for c in key)}
    assert masks == {"50XXXXXX", "60XX3000", "60XX4000", "PRIVATE"}
