"""The ten scores: counting, consistency over all pairs, and the rules common to all scorers."""

from __future__ import annotations

from datetime import date

import pytest

from pleura.anonymizer.scoring import (
    NAMES,
    REMOVED,
    OneToOne,
    Ratio,
    Tally,
    day_of,
    must_be_same,
    must_be_there,
    must_have_value,
    scores_to_json,
    total,
)


def test_a_miss_is_required_and_not_correct_and_kept_with_its_attribute() -> None:
    tally = Tally()
    tally.note("uid_changed", True, 0x0020000D)
    tally.note("uid_changed", False, 0x0020000E)
    ratio = tally.ratios()["uid_changed"]
    assert (ratio, ratio.missed, ratio.share) == (Ratio(1, 2), 1, 0.5)
    assert dict(tally.lost) == {("uid_changed", 0x0020000E): 1}


def test_all_ten_are_told_even_where_nothing_was_asked() -> None:
    ratios = Tally().ratios()
    assert tuple(ratios) == NAMES
    assert len(NAMES) == 10
    assert set(REMOVED) < set(NAMES)
    assert all(ratio == Ratio(0, 0) and ratio.share == 1.0 for ratio in ratios.values())
    assert scores_to_json(ratios)["all"] == [0, 0]


def test_in_all_is_the_sum_and_not_the_mean() -> None:
    assert total([Ratio(1, 1), Ratio(0, 3)]) == Ratio(1, 4)


@pytest.mark.parametrize(
    ("pairs", "agreed"),
    [
        ([("a", "x"), ("a", "x"), ("b", "y")], [True, True, True]),
        ([("a", "x"), ("a", "y")], [True, False]),  # one becomes two
        ([("a", "x"), ("b", "x")], [True, False]),  # two become one
        ([("a", ""), ("a", "x")], [False, True]),
    ],
)
def test_old_and_new_have_to_belong_to_each_other_alone(
    pairs: list[tuple[str, str]], agreed: list[bool]
) -> None:
    both = OneToOne()
    assert [both.agrees(old, new) for old, new in pairs] == agreed


def test_a_patient_who_keeps_the_old_id_is_wrong_however_consistent() -> None:
    tally = Tally()
    tally.note_patient("a", "a", is_changed=False)
    tally.note_patient("b", "P1", is_changed=True)
    assert tally.ratios()["patid_consistent"] == Ratio(1, 2)


def test_a_uid_that_becomes_two_is_lost_at_the_attribute_that_disagrees() -> None:
    tally = Tally()
    tally.note_uid("1.2", "2.25.1", 0x0020000D)
    tally.note_uid("1.2", "2.25.2", 0x00081155)
    assert tally.ratios()["uid_consistent"] == Ratio(1, 2)
    assert dict(tally.lost) == {("uid_consistent", 0x00081155): 1}


def shifted(*moves: tuple[str, str], carries_midnight: bool = False) -> Ratio:
    tally = Tally(carries_midnight=carries_midnight)
    for before, after in moves:
        tally.note("date_shifted", True)
        tally.note_shift("P1", before, after)
    return tally.ratios()["date_shifted"]


def test_a_date_that_moved_unlike_most_of_its_patients_is_wrong() -> None:
    ten, eleven = ("20200101", "20200111"), ("20200201", "20200212")
    assert shifted(ten, ten, eleven) == Ratio(2, 3)
    assert shifted(ten, ten, eleven, carries_midnight=True) == Ratio(3, 3)
    assert shifted(ten, ten, ("20200201", "20200213"), carries_midnight=True) == Ratio(2, 3)


def test_patients_move_by_themselves_and_a_dummy_or_no_date_says_nothing() -> None:
    ten = ("20200101", "20200111")
    assert shifted(ten, ("20200101", "19000101"), ("someday", "20200101")) == Ratio(3, 3)
    tally = Tally()
    for patient, days in (("P1", "20200111"), ("P2", "20200131")):
        tally.note("date_shifted", True)
        tally.note_shift(patient, "20200101", days)
    assert tally.ratios()["date_shifted"] == Ratio(2, 2)


def test_what_must_stay_follows_from_type_and_table() -> None:
    assert [must_be_there(kind, "") for kind in ("1", "1C", "2", "2C", "3", None)] == [
        True, False, True, False, False, False,
    ]  # fmt: skip
    assert [must_be_there("3", basic) for basic in ("D", "U", "Z", "X", "X/Z")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert [must_have_value("2", basic) for basic in ("D", "U", "Z")] == [True, True, False]
    assert must_have_value("1", "")
    assert [must_be_same(kind, "CS") for kind in ("1", "2C", "3", None)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert not must_be_same("1", "PN")


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20200131", date(2020, 1, 31)),
        ("2020.01.31", date(2020, 1, 31)),
        ("2020-1-31", date(2020, 1, 31)),
        ("20200131101500.5+0100", date(2020, 1, 31)),
        ("2020", None),
        ("20201341", None),
        ("someday", None),
    ],
)
def test_days_are_read_in_every_spelling(text: str, day: date | None) -> None:
    assert day_of(text) == day
