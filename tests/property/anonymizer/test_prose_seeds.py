"""No part of a name survives cleaning, in any script."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pleura.anonymizer.prose import clean_prose
from pleura.anonymizer.text import Seeds, words

ALPHABETS = (
    "abcdfgjkpvwxz", "äöüéñçßø", "абвгджзк", "αβγδθλςσ", "ابتثجحخ", "אבגדהוזם", "กขคงจฉัิุ",
    "山田太郎王金", "やまだたろがぱ", "ヤマダガパ", "김이박최강홍", "ｓｍｉｔｈ",
)  # fmt: skip
PARTS = st.sampled_from(ALPHABETS).flatmap(lambda a: st.text(a, min_size=2, max_size=8))
JOINS = st.sampled_from((" ", "^", "-", ", ", "", "_", "/", "'", ". "))
FILLERS = st.sampled_from(("CT chest", "5mm", "肺", "흉부", "грудь", "ปอด", "", "B70f"))


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=4), JOINS, FILLERS, FILLERS, st.booleans())
def test_no_seed_survives(
    parts: list[str], join: str, before: str, after: str, strict: bool
) -> None:
    seeds = Seeds()
    seeds.add_name("^".join(parts))
    text = f"{before} {join.join(parts)} {after} {parts[0].upper()}"
    left = clean_prose(text, seeds, strict=strict, terms=frozenset()).text
    assert not seeds.found_in(left)
    survivors = {w for p in parts for w in words(p) if len(w) >= 2} & set(words(left))
    assert not survivors
