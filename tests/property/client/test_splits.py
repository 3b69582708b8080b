"""Splits: a patient's part follows from seed and pseudonym alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pleura.client.data.splits import split_of, split_patients

NAMES = st.lists(st.text(min_size=1, max_size=20), unique=True, max_size=30)


@given(NAMES, st.integers(0, 2**53 - 1), st.randoms())
def test_order_and_company_do_not_matter(names: list[str], seed: int, rng: object) -> None:
    shuffled = list(names)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    everyone = split_patients(shuffled, seed)
    assert everyone == {name: split_of(name, seed) for name in names}
    assert split_patients(names[:3], seed) == {name: everyone[name] for name in names[:3]}


def test_fractions_are_seventy_ten_twenty() -> None:
    parts = [split_of(f"patient{number}", 5) for number in range(20_000)]
    shares = {part: parts.count(part) / len(parts) for part in ("train", "val", "test")}
    assert abs(shares["train"] - 0.7) < 0.012
    assert abs(shares["val"] - 0.1) < 0.012
    assert abs(shares["test"] - 0.2) < 0.012


def test_seed_changes_the_parts() -> None:
    names = [f"patient{number}" for number in range(200)]
    assert split_patients(names, 1) != split_patients(names, 2)


def test_split_is_pinned() -> None:
    parts = [split_of(f"patient{number}", 7) for number in range(8)]
    assert parts == [*["train"] * 5, "test", *["train"] * 2]
