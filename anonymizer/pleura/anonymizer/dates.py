"""Dates and times: parsing what scanners write, and shifting it by whole days.

Everything returns None for a value it cannot read; the caller removes that value and counts
it. A shift never invents precision: a month stays a month and a year a year.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Final

_DA: Final = re.compile(r"(\d{4})(?:(\d{2})(\d{2})|\.(\d{2})\.(\d{2})|-(\d{1,2})-(\d{1,2}))")
_TM: Final = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(\.\d{1,6})?)?)?")
_DT: Final = re.compile(
    r"(\d{4})(?:(\d{2})(?:(\d{2})((?:\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?))?)?([+-]\d{4}|[&+-].*)?"
)
_OFFSET: Final = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d")
_AS: Final = re.compile(r"(\d{3})([DWMY])")


def parse_date(value: str) -> date | None:
    """Return the day of a DA value: YYYYMMDD, YYYY.MM.DD (retired) or YYYY-M-D."""
    match = _DA.fullmatch(value.strip(" \0"))
    if match is None:
        return None
    year, month, day = (int(part) for part in match.groups() if part is not None)
    try:
        return date(year, month, day)
    except ValueError:
        return None


def shift_date(value: str, days: int) -> str | None:
    """Return the DA value moved by `days`, as YYYYMMDD."""
    day = parse_date(value)
    return _moved(day, days) if day else None


def _moved(day: date, days: int) -> str | None:
    try:
        moved = day + timedelta(days=days)
    except OverflowError:
        return None
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"


def parse_time(value: str) -> str | None:
    """Return a TM value without colons (a retired form), or None if it is no time."""
    match = _TM.fullmatch(value.strip(" \0"))
    if match is None:
        return None
    hour, minute, second, fraction = match.groups(default="")
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:
        return None
    return hour + minute + second + fraction


def shift_datetime(value: str, days: int) -> str | None:
    """Return the DT value moved by `days` with the precision it had.

    A year or a month moves by its middle. An offset that is none is dropped.
    """
    match = _DT.fullmatch(value.strip(" \0"))
    if match is None:
        return None
    year, month, day, clock, offset = match.groups(default="")
    if clock and parse_time(clock) is None:
        return None
    try:
        start = date(int(year), int(month or 7), int(day or (15 if month else 2)))
    except ValueError:
        return None
    moved = _moved(start, days)
    if moved is None:
        return None
    kept = moved[: len(year + month + day)] + clock
    return kept + offset if _OFFSET.fullmatch(offset) else kept


def cap_age(value: str) -> str | None:
    """Return an AS value, ages above 89 years as `090Y` (HIPAA 164.514(b)(2)(i)(C))."""
    match = _AS.fullmatch(value.strip(" \0"))
    if match is None:
        return None
    days = int(match[1]) * {"D": 1, "W": 7, "M": 30, "Y": 365}[match[2]]
    return "090Y" if days >= 90 * 365 else match[0]
