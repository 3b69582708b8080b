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
from pleura.anonymizer.months import ALL, ROMAN

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
# What stands between the groups of a date: 31. 01. 2020, 11 / 12 / 1950, (11)(12)(1950).
_BETWEEN: Final = re.compile(r"[\W_]{1,6}")
# One word between them: 11 grudnia 1950, 11 de diciembre de 1950, 11.XII.1950, D11 M12 Y1950.
_WORDED: Final = re.compile(
    r"(?:(?:st|nd|rd|th|er|e|a|o)(?=[\W_]))?[\W_]{0,4}(?:(?:of|de|del|di|van|the)\s)?"
    r"(?P<word>[^\W\d_][^\s\d,;:/()_-]{0,15}?)(?:\s(?:of|de|del|di|van|do|anno))?[\W_]{0,4}"
)
_LONGEST_GAP: Final = 36
_ROMAN_GAP: Final = re.compile(r"\s?[\W_]\s?(?P<word>[ivx]{1,4})\s?[\W_]\s?")
_SPACE: Final = re.compile(r"(?:st|nd|rd|th)?[\s.,]{1,3}")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_WEEK: Final = re.compile(r"[\W_]?w")
_BUDDHIST_YEARS: Final = 543
_MIN_WORD: Final = 3  # letters of a word that is a month only because a day and year are beside it
_LONGEST_BESIDE: Final = 10
_ANY_YEAR: Final = r"(?:1[89]|20|2[45])\d\d"
_DAY_BEFORE: Final = re.compile(r"(?<![\d.,/+-])(\d{1,2})(?:st|nd|rd|th|\.)?[\s.,/_-]{1,3}\Z")
_DAY_AFTER: Final = re.compile(r"[\s.,/_-]{1,3}(\d{1,2})(?![\d/]|[.,]\d)")
_YEAR_AFTER: Final = re.compile(rf"(?:st|nd|rd|th)?[\s.,/_-]{{1,3}}{_ANY_YEAR}(?![\d]|[.,]\d)")
_YEAR_BEFORE: Final = re.compile(rf"(?<![\d.,]){_ANY_YEAR}[\s.,/_-]{{1,3}}\Z")
# Between figures these tell of sizes and times.
_MEASURES: Final = frozenset(["x", "mm", "cm", "ms", "kv", "ma", "mas", "hu", "hz", "mhz", "sec"])

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


def spelled(day: date) -> tuple[Spelled, Spelled, Spelled]:
    """Return a day with its year in full, in short and by the Buddhist count (Thailand)."""
    year = f"{day.year:04d}"
    rest = (day.month, day.day)
    return (year, *rest), (year[2:], *rest), (f"{day.year + _BUDDHIST_YEARS:04d}", *rest)


def spans_of_days(folded: str, days: Set[Spelled]) -> Iterator[tuple[int, int]]:
    """Yield where a folded text has one of the days: its groups of digits in any order.

    One word between them is a month, whatever it is. The engine and the residual scan ask the
    same question here, so that neither refuses what the other keeps.
    """
    groups = [m.span() for m in _DIGITS.finditer(folded)] if days else []
    if len(groups) < 2:
        return
    figures = [_figures(folded, group) for group in groups]
    years = _years_of(days)
    may_be_year = [group in years for group in figures]
    for at, (first, second) in enumerate(pairwise(groups)):
        gap = folded[first[1] : second[0]]
        if len(gap) > _LONGEST_GAP or not any(may_be_year[at : at + 3]):
            continue
        a, b = figures[at : at + 2]
        is_joined = _BETWEEN.fullmatch(gap) is not None
        if _is_day_of_two(a, gap, b, days, is_joined=is_joined):
            yield first[0], second[1]
        if at + 2 == len(groups) or not (is_joined or _is_worded(gap)):
            continue
        third = groups[at + 2]
        between = folded[second[1] : third[0]]
        if _is_day_of_three((a, b, figures[at + 2]), gap, between, days):
            yield first[0], third[1]


def day_beside(folded: str, word: tuple[int, int]) -> tuple[int, int] | None:
    """Return the day of a date whose month is a word nobody knows, or None.

    11 xyz 1950, xyz 11, 1950 or 1950. xyz 11: one or two digits beside the word and a year.
    """
    start, end = word
    before = _DAY_BEFORE.search(folded, max(0, start - _LONGEST_BESIDE), start)
    if before is not None and _YEAR_AFTER.match(folded, end):
        return before.span(1)
    after = _DAY_AFTER.match(folded, end)
    if after is None:
        return None
    has_year = _YEAR_AFTER.match(folded, after.end(1)) or _YEAR_BEFORE.search(
        folded, max(0, start - _LONGEST_BESIDE), start
    )
    return after.span(1) if has_year else None


def _years_of(days: Set[Spelled]) -> set[str]:
    """Return the years as the days spell them, and those a week of one may belong to."""
    years = {year for year, _, _ in days}
    full = {int(year) for year in years if len(year) == 4}
    return years | {f"{year + step:04d}" for year in full for step in (-1, 1)}


def _figures(folded: str, span: tuple[int, int]) -> str:
    """Return a group of digits of any script in ASCII."""
    group = folded[slice(*span)]
    return group if group.isascii() else "".join(str(int(digit)) for digit in group)


def _is_day_of_two(a: str, gap: str, b: str, days: Set[Spelled], *, is_joined: bool) -> bool:
    sizes = len(a), len(b)
    if is_joined and sizes == (4, 4):  # 1950 1211
        return any(reading in days for reading in _halves(a, b))
    if is_joined and sizes == (4, 3):  # 1950-345
        return _is_day_of_year(a, int(b), days)
    if sizes == (4, 3) and _WEEK.fullmatch(gap):  # 1950w501
        return _is_week_day(a, b[:2], b[2:], days)
    year, day = (a, b) if len(a) > len(b) else (b, a)
    if len(day) > 2 or len(year) not in (2, 4):
        return False
    if len(year) == 4 and year is b and _SPACE.fullmatch(gap):
        return _has(days, year, int(day))  # whatever stands before: grudnia 11, 1950
    if is_joined or (word := _month_between(gap, year)) is None:
        return False
    if len(year) == 4:
        return _has(days, year, int(day), ROMAN.get(word, 0))
    return any(_has(days, y, int(d), ROMAN.get(word, 0)) for y, d in ((a, b), (b, a)))


def _month_between(gap: str, year: str) -> str | None:
    """Return the word between a day and a year that may be its month: any, or a known one."""
    match = _ROMAN_GAP.fullmatch(gap)
    if match is not None and match["word"] in ROMAN:
        return match["word"] if len(year) == 4 or not gap[0].isspace() else None
    match = _WORDED.fullmatch(gap)
    word = match["word"].rstrip(".'’") if match else ""
    if len(year) == 4 and len(word) >= _MIN_WORD and word not in _MEASURES:
        return word
    return next((word for word in _LETTERS.findall(gap) if word in ALL), None)


def _is_day_of_three(
    groups: tuple[str, str, str], first: str, second: str, days: Set[Spelled]
) -> bool:
    if _BETWEEN.fullmatch(first) and _BETWEEN.fullmatch(second):
        return any(reading in days for reading in _readings(groups))
    a, b, c = groups
    if len(a) == 4 and len(b) == 2 and len(c) == 1 and _WEEK.fullmatch(first):
        return _is_week_day(a, b, c, days)
    if not (_is_labelled(first) and _is_labelled(second)):
        return False
    orders = ((c, b, a), (c, a, b), (a, b, c), (a, c, b))
    return any(
        len(year) == 4 and max(len(month), len(day)) <= 2 and (year, int(month), int(day)) in days
        for year, month, day in orders
    )


def _is_labelled(gap: str) -> bool:
    return len(gap) <= _LONGEST_GAP and (_BETWEEN.fullmatch(gap) is not None or _is_worded(gap))


def _is_worded(gap: str) -> bool:
    match = _WORDED.fullmatch(gap)
    return match is not None and match["word"] not in _MEASURES


def _has(days: Set[Spelled], year: str, day: int, month: int = 0) -> bool:
    """Return whether one of the days is this day of the year, of any month unless one is told."""
    months = (month,) if month else range(1, 13)
    return any((year, m, day) in days for m in months)


def _is_day_of_year(year: str, number: int, days: Set[Spelled]) -> bool:
    if not (1 <= number <= 366 and date.min.year <= int(year) <= date.max.year - 1):
        return False
    day = date(int(year), 1, 1) + timedelta(days=number - 1)
    return (year, day.month, day.day) in days


def _is_week_day(year: str, week: str, weekday: str, days: Set[Spelled]) -> bool:
    try:
        day = date.fromisocalendar(int(year), int(week), int(weekday))
    except ValueError:
        return False
    return (f"{day.year:04d}", day.month, day.day) in days


def _readings(groups: tuple[str, str, str]) -> Iterator[Spelled]:
    if max(map(len, groups)) <= 4:
        for year, month, day in permutations(groups):
            if len(month) <= 2 and len(day) <= 2:
                yield year, int(month), int(day)


def _halves(a: str, b: str) -> Iterator[Spelled]:
    for year, rest in ((a, b), (b, a)):
        yield year, int(rest[:2]), int(rest[2:])
        yield year, int(rest[2:]), int(rest[:2])
