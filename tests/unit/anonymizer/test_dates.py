"""Dates and times as scanners write them."""

from __future__ import annotations

import pytest

from pleura.anonymizer.dates import cap_age, parse_time, shift_date, shift_datetime


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
