"""Dates and times: parsing what scanners write, and shifting it.

Everything returns None for a value it cannot read; the caller removes that value and counts
it. A shift never invents precision: a month stays a month and a year a year. Whole days move
as such; with `seconds` a time of day moves too and carries its date over midnight.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from itertools import pairwise, permutations
from typing import Final

from pleura.anonymizer.errors import RulesDamaged

_DA: Final = re.compile(r"(\d{4})(?:(\d{2})(\d{2})|\.(\d{2})\.(\d{2})|-(\d{1,2})-(\d{1,2}))")
_TM: Final = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(\.\d{1,6})?)?)?")
_DT: Final = re.compile(
    r"(\d{4})(?:(\d{2})(?:(\d{2})((?:\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?))?)?([+-]\d{4}|[&+-].*)?"
)
_OFFSET: Final = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d")
_DAY: Final = re.compile(r"(\d{4})[.-]?(\d{1,2})[.-]?(\d{1,2})")
_DAY_S: Final = 86_400
_EMPTY: Final = " \0\\"
_AS: Final = re.compile(r"(\d{3})([DWMY])")
_DIGITS: Final = re.compile(r"\d+")
# What stands between the groups of a date: 31. 01. 2020, 11 / 12 / 1950, 31_01_2020.
_BETWEEN: Final = re.compile(r"\s{1,3}|\s{0,3}[-./,:·|_'’\\]{1,2}\s{0,3}")
_LONGEST_GAP: Final = 8

Spelled = tuple[str, int, int]
"""A day as texts spell it: the year's two or four digits, month, day."""


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


def parse_day(text: str) -> date | None:
    """Return the day a DA or DT value begins with, in any spelling scanners write."""
    match = _DAY.match(text.strip(" \0"))
    try:
        return date(int(match[1]), int(match[2]), int(match[3])) if match else None
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


def year_of_date(value: str) -> str | None:
    """Return a DA value as the first of January of its year, YYYY0101.

    Of a date HIPAA 164.514(b)(2)(i)(C) lets only the year stay.
    """
    day = parse_date(value)
    return f"{day.year:04d}0101" if day else None


def year_of_datetime(value: str) -> str | None:
    """Return the year of a DT value: a DT may be that short, so no day is invented."""
    moved = shift_datetime(value, 0)
    return moved[:4] if moved else None


def shift_datetime(value: str, days: int, seconds: int = 0) -> str | None:
    """Return the DT value moved by `days` and `seconds` with the precision it had.

    A year or a month moves by its middle, by whole days. An offset that is none is dropped.
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
    carried, clock = _shift_clock(clock, seconds) if clock else (0, "")
    moved = _moved(start, days + carried)
    if moved is None:
        return None
    kept = moved[: len(year + month + day)] + clock
    return kept + offset if _OFFSET.fullmatch(offset) else kept


def _shift_clock(clock: str, seconds: int) -> tuple[int, str]:
    """Return the days carried and the time HH[MM[SS[.F]]], moved and cut back.

    A time without seconds moves by the middle of what it leaves open; a leap second is the
    second before it, for which every day has room.
    """
    if seconds == 0:
        return 0, clock
    whole, dot, fraction = clock.partition(".")
    hour, minute, second = int(whole[:2]), whole[2:4] or "30", whole[4:6] or "30"
    start = hour * 3600 + int(minute) * 60 + min(int(second), 59)
    days, left = divmod(start + seconds, _DAY_S)
    text = f"{left // 3600:02d}{left // 60 % 60:02d}{left % 60:02d}"
    return days, text[: len(whole)] + dot + fraction


def shift_moment(day: str, time: str, days: int, seconds: int) -> tuple[str, str] | None:
    """Return a DA and a TM value, a pair, moved together; the time carries over midnight."""
    start, clock = parse_date(day), parse_time(time)
    if start is None or clock is None:
        return None
    carried, clock = _shift_clock(clock, seconds)
    moved = _moved(start, days + carried)
    return None if moved is None else (moved, clock)


def shift_pairs(
    days_of: Mapping[int, str], times_of: Mapping[int, str], days: int, seconds: int
) -> dict[int, str | None]:
    """Return the DA and TM values of one data set or item, moved by days and seconds.

    Both map a tag to its value, parts joined by a backslash. A time whose date is not there,
    is empty or has another number of parts says nothing alone: None, the caller removes it.
    A date without a time moves by whole days.
    """
    moved: dict[int, str | None] = {
        tag: None if value.strip(_EMPTY) else "" for tag, value in times_of.items()
    }
    pairs = date_time_pairs()
    for tag, value in days_of.items():
        time_tag = pairs.get(tag, 0)
        time = times_of.get(time_tag, "")
        if value.strip(_EMPTY) and time.strip(_EMPTY):
            moved[tag], moved[time_tag] = _pair(value, time, days, seconds)
        else:
            moved[tag] = _each(value, days)
    return moved


def _pair(day: str, time: str, days: int, seconds: int) -> tuple[str | None, str | None]:
    dates, times = day.split("\\"), time.split("\\")
    if len(dates) != len(times):
        return _each(day, days), None
    both = [shift_moment(d, t, days, seconds) for d, t in zip(dates, times, strict=True)]
    known = [pair for pair in both if pair is not None]
    if len(known) < len(both):
        return _each(day, days), None
    return "\\".join(d for d, _ in known), "\\".join(t for _, t in known)


def _each(value: str, days: int) -> str | None:
    parts = [shift_date(part, days) if part.strip(" \0") else "" for part in value.split("\\")]
    known = [part for part in parts if part is not None]
    return "\\".join(known) if len(known) == len(parts) else None


@cache
def date_time_pairs() -> Mapping[int, int]:
    """Return `tables/pairs.json`: the tag of a DA to the tag of the TM of the same moment.

    Raises:
        RulesDamaged: the table is missing or has another shape.
    """
    try:
        text = (files("pleura.anonymizer") / "tables" / "pairs.json").read_text()
        return {int(day, 16): int(time, 16) for day, time in json.loads(text).items()}
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise RulesDamaged(type(exc).__name__) from None


def cap_age(value: str) -> str | None:
    """Return an AS value, ages above 89 years as `090Y` (HIPAA 164.514(b)(2)(i)(C))."""
    match = _AS.fullmatch(value.strip(" \0"))
    if match is None:
        return None
    days = int(match[1]) * {"D": 1, "W": 7, "M": 30, "Y": 365}[match[2]]
    return "090Y" if days >= 90 * 365 else match[0]


def spelled(day: date) -> tuple[Spelled, Spelled]:
    """Return a day with its year in full and in short, for `spans_of_days`."""
    year = f"{day.year:04d}"
    return (year, day.month, day.day), (year[2:], day.month, day.day)


def spans_of_days(folded: str, days: Set[Spelled]) -> Iterator[tuple[int, int]]:
    """Yield where a folded text has one of the days: its groups of digits in any order.

    The engine and the residual scan ask the same question here, so that neither refuses what
    the other keeps.
    """
    groups = [m.span() for m in _DIGITS.finditer(folded)] if days else []
    for at, (first, second) in enumerate(pairwise(groups)):
        if second[0] - first[1] > _LONGEST_GAP or not _is_joined(folded, first, second):
            continue
        a, b = folded[slice(*first)], folded[slice(*second)]
        if len(a) == len(b) == 4 and any(r in days for r in _halves(a, b)):  # 1950 1211
            yield first[0], second[1]
        if at + 2 < len(groups) and _is_joined(folded, second, groups[at + 2]):
            third = groups[at + 2]
            if any(r in days for r in _readings((a, b, folded[slice(*third)]))):
                yield first[0], third[1]


def _is_joined(folded: str, first: tuple[int, int], second: tuple[int, int]) -> bool:
    return _BETWEEN.fullmatch(folded, first[1], second[0]) is not None


def _readings(groups: tuple[str, str, str]) -> Iterator[Spelled]:
    if max(map(len, groups)) <= 4:
        for year, month, day in permutations(groups):
            if len(month) <= 2 and len(day) <= 2:
                yield year, int(month), int(day)


def _halves(a: str, b: str) -> Iterator[Spelled]:
    for year, rest in ((a, b), (b, a)):
        yield year, int(rest[:2]), int(rest[2:])
        yield year, int(rest[2:]), int(rest[:2])
