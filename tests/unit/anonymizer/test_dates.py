"""Dates and times as scanners write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.datadict import dictionary_VR

from pleura.anonymizer import dates as dates_module
from pleura.anonymizer.dates import (
    cap_age,
    date_time_pairs,
    parse_time,
    shift_date,
    shift_datetime,
    shift_moment,
    shift_pairs,
    year_of_date,
    year_of_datetime,
)
from pleura.anonymizer.errors import RulesDamaged


@pytest.mark.parametrize(
    ("value", "shifted"),
    [
        ("20200131", "20200113"),
        ("2020.01.31", "20200113"),
        ("2020-1-31", "20200113"),
        ("2020-1-5", "20191218"),
        ("1950.12.11 ", "19501123"),
        ("20200230", None),
        ("202001", None),
        ("20200131-20200201", None),
        ("00010101", None),
        ("today", None),
    ],
)
def test_a_date_moves_or_is_refused(value: str, shifted: str | None) -> None:
    assert shift_date(value, -18) == shifted


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("10", "10"),
        ("1015", "1015"),
        ("10:15:07", "101507"),
        ("101507.123456", "101507.123456"),
        ("235960", "235960"),
        ("25:99", None),
        ("1060", None),
        ("101561", None),
        ("noon", None),
    ],
)
def test_a_time_is_kept_or_refused(value: str, parsed: str | None) -> None:
    assert parse_time(value) == parsed


@pytest.mark.parametrize(
    ("value", "days", "shifted"),
    [
        ("20200131101500.5+0100", -18, "20200113101500.5+0100"),
        ("20200131101500&ZZXX", -18, "20200113101500"),
        ("20200131101500+9999", -18, "20200113101500"),
        ("202001311", -18, None),
        ("2020013110", 1, "2020020110"),
        ("2017", -18, "2017"),
        ("2017", 365, "2018"),
        ("201701", 20, "201702"),
        ("201701", -14, "201701"),
        ("20171340", 1, None),
        ("2020013125", 1, None),
        ("99991231", 5, None),
        ("", 1, None),
    ],
)
def test_a_datetime_moves_with_the_precision_it_had(
    value: str, days: int, shifted: str | None
) -> None:
    assert shift_datetime(value, days) == shifted


@pytest.mark.parametrize(
    ("value", "capped"),
    [("089Y", "089Y"), ("090Y", "090Y"), ("101Y", "090Y"), ("012W", "012W"), ("9Y", None)],
)
def test_ages_above_89_are_capped(value: str, capped: str | None) -> None:
    assert cap_age(value) == capped


@pytest.mark.parametrize(
    ("value", "year"),
    [("20200131", "20200101"), ("2020.12.31", "20200101"), ("2020-1-5", "20200101"),
     ("20200230", None), ("1950", None), ("soon", None)],
)  # fmt: skip
def test_of_a_date_the_year_is_left(value: str, year: str | None) -> None:
    assert year_of_date(value) == year


@pytest.mark.parametrize(
    ("value", "year"),
    [("20200131235959.5+0100", "2020"), ("2017", "2017"), ("201712", "2017"), ("20201399", None)],
)
def test_of_a_datetime_the_year_is_left(value: str, year: str | None) -> None:
    assert year_of_datetime(value) == year


@pytest.mark.parametrize(
    ("value", "seconds", "moved"),
    [
        ("20200131235959", 1, "20200202000000"),
        ("20200131235959.123456+0100", 2, "20200202000001.123456+0100"),
        ("20200131235960", 1, "20200202000000"),  # a leap second is the second before it
        ("202001312359", 60, "202002020000"),
        ("2020013123", 3600, "2020020200"),
        ("2020013110", 60, "2020020110"),
        ("20200131", 86_399, "20200201"),
        ("202001", 86_399, "202001"),
        ("2017", 86_399, "2017"),
        ("20200131256060", 1, None),
    ],
)
def test_a_datetime_moves_by_a_day_and_seconds_with_the_precision_it_had(
    value: str, seconds: int, moved: str | None
) -> None:
    assert shift_datetime(value, 1, seconds) == moved


def test_a_pair_carries_over_midnight_and_an_unreadable_one_is_refused() -> None:
    assert shift_moment("20200131", "235959.5", 1, 1) == ("20200202", "000000.5")
    assert shift_moment("2020-1-31", "10:15", 0, 60) == ("20200131", "1016")
    assert shift_moment("20200131", "25", 0, 60) is None
    assert shift_moment("20200231", "10", 0, 60) is None
    assert shift_moment("99991231", "2359", 0, 60) is None


STUDY_DATE, STUDY_TIME, SERIES_DATE, SERIES_TIME = 0x00080020, 0x00080030, 0x00080021, 0x00080031
CALIBRATED_ON, CALIBRATED_AT = 0x00181200, 0x00181201


def test_only_a_time_with_its_date_stays() -> None:
    moved = shift_pairs(
        {STUDY_DATE: "20200131", SERIES_DATE: "", CALIBRATED_ON: "20200101\\20200102"},
        {STUDY_TIME: "235959", SERIES_TIME: "10", CALIBRATED_AT: "10\\235959", 0x00181072: "1200"},
        1,
        1,
    )
    assert moved == {
        STUDY_DATE: "20200202",
        STUDY_TIME: "000000",
        SERIES_DATE: "",
        SERIES_TIME: None,
        CALIBRATED_ON: "20200102\\20200104",
        CALIBRATED_AT: "10\\000000",
        0x00181072: None,
    }


@pytest.mark.parametrize(
    ("days_of", "times_of", "moved"),
    [
        ({CALIBRATED_ON: "20200101\\20200102"}, {CALIBRATED_AT: "10"},
         {CALIBRATED_ON: "20200102\\20200103", CALIBRATED_AT: None}),
        ({STUDY_DATE: "20200101"}, {STUDY_TIME: "noon"},
         {STUDY_DATE: "20200102", STUDY_TIME: None}),
        ({STUDY_DATE: "today"}, {STUDY_TIME: "10"}, {STUDY_DATE: None, STUDY_TIME: None}),
        ({STUDY_DATE: "20200101"}, {STUDY_TIME: ""}, {STUDY_DATE: "20200102", STUDY_TIME: ""}),
    ],
)  # fmt: skip
def test_what_does_not_pair_up_moves_by_days_or_goes(
    days_of: dict[int, str], times_of: dict[int, str], moved: dict[int, str | None]
) -> None:
    assert shift_pairs(days_of, times_of, 1, 1) == moved


def test_the_table_pairs_dates_with_times() -> None:
    pairs = date_time_pairs()
    assert len(pairs) == 43
    assert {dictionary_VR(tag) for tag in pairs} == {"DA"}
    assert {dictionary_VR(tag) for tag in pairs.values()} == {"TM"}
    assert len(set(pairs.values())) == len(pairs)
    assert pairs[STUDY_DATE] == STUDY_TIME
    assert 0x00100030 not in pairs  # a birth date is in no profile


def test_a_damaged_table_of_pairs_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "pairs.json").write_text("[]")
    monkeypatch.setattr(dates_module, "files", lambda package: tmp_path)
    date_time_pairs.cache_clear()
    try:
        with pytest.raises(RulesDamaged):
            date_time_pairs()
    finally:
        date_time_pairs.cache_clear()
