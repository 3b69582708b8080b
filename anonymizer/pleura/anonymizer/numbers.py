"""Numbers: whether numeric values are an identifier or a day of the header.

They are compared as numbers, not as they are written: 1.9501211E7, 19501211.5 and 1950.1211 are
one day, and so are three values beside each other. Identifiers of four or five digits may be a
measurement, so they count only where an element has few values and counts nothing. Pure.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Final

from pydicom._dicom_dict import DicomDictionary

from pleura.anonymizer.characters import foreign_names
from pleura.anonymizer.text import Seeds

WIDTHS: Final = {
    **dict.fromkeys(("US", "SS"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "AT"), 4),
    **dict.fromkeys(("FD", "SV", "UV"), 8),
}
CODES: Final = {
    "US": "H", "SS": "h", "UL": "I", "SL": "i", "AT": "I", "FL": "f", "FD": "d", "SV": "q",
    "UV": "Q",
}  # fmt: skip
_PART: Final = rb" *(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)? *)?"
_LAWFUL: Final = re.compile(_PART + rb"(?:\\" + _PART + rb")*")
_FRACTIONS: Final = frozenset({"DS", "FL", "FD"})
_BESIDE_DIGITS: Final = b" +-.\\eE"
_LONG: Final = 100_000  # six digits
_SHORT: Final = 1_000
_HUGE: Final = 1e18  # no number that is larger, or none, is looked at as an integer
_NONE: Final = frozenset[float]()
_MIN_FRACTION: Final = 7  # digits of an identifier that is found whatever its decimal point
_FEW: Final = 16  # values of an element that are read together
_SINGLE: Final = 4  # values of an element in which an identifier may have four or five digits
_MIN_SPREAD: Final = 8  # digits of an identifier whose values may have one each
_COUNTING: Final = re.compile(r"Number|Index|Indices|Count|FrameList")
_RANGE: Final = re.compile(r"(\d+)(?:-(\d*)(n?))?")


def is_lawful(raw: bytes) -> bool:
    """Return whether a DS or IS value is numbers or empty values and nothing else."""
    return _LAWFUL.fullmatch(raw) is not None


@lru_cache(maxsize=8192)
def allows(tag: int, count: int) -> bool:
    """Return whether the dictionary's multiplicity lets an attribute have so many values."""
    entry = DicomDictionary.get(tag)
    match = _RANGE.fullmatch(entry[1]) if entry else None
    if match is None or not count:
        return True
    low, high, is_open = int(match[1]), match[2], bool(match[3])
    if high is None:
        return count == low
    if is_open:  # `1-n`, or `2-2n` for pairs
        return count >= low and count % int(high or 1) == 0
    return low <= count <= int(high)


class NumberSeeds:
    """The identifiers and days of one header, as numbers; derived from `Seeds` when needed."""

    def __init__(self, seeds: Seeds) -> None:
        self._seeds = seeds

    @cached_property
    def _long(self) -> frozenset[int]:
        return frozenset(n for n in self._seeds.integers if n >= _LONG)

    @cached_property
    def _short(self) -> frozenset[int]:
        found = {int(n) for n in self._seeds.numbers if n.isdecimal()}
        return frozenset(n for n in found if _SHORT <= n < _LONG)

    @cached_property
    def _joined(self) -> tuple[str, ...]:
        """Identifiers and days as values beside each other spell them."""
        found = {int(n) for n in self._seeds.numbers if n.isdecimal()}
        return tuple(str(n) for n in found if n >= _LONG)

    @cached_property
    def _years(self) -> tuple[str, ...]:
        return tuple({year for year, _, _ in self._seeds.days if len(year) == 4})

    @cached_property
    def _needles(self) -> tuple[str, ...]:
        """What the digits of a text must hold before its values are looked at one by one."""
        spelled = {str(n) for n in self._long | self._short}
        spelled |= {f"{n:06d}" for n in self._seeds.integers if 0 < n < _LONG}
        return tuple(spelled)

    @cached_property
    def _scaled(self) -> frozenset[float]:
        """Long identifiers with a decimal point anywhere."""
        long = [n for n in self._long if len(str(n).rstrip("0")) >= _MIN_FRACTION]
        return frozenset(n / 10**k for n in long for k in range(len(str(n)) + 1))

    @cached_property
    def _rounded(self) -> frozenset[float]:
        """The same as a number of 32 bits holds them."""
        return frozenset(map(_as_single, self._scaled))

    @cached_property
    def _rounded_long(self) -> frozenset[float]:
        return frozenset(map(_as_single, self._long))

    @cached_property
    def foreign(self) -> frozenset[str]:
        """Names in letters that are not ASCII's."""
        return foreign_names(self._seeds)

    def in_text(self, tag: int, raw: bytes) -> bool:
        """Return whether a lawful DS or IS value is an identifier or a day of the header."""
        digits = raw.translate(None, _BESIDE_DIGITS).decode("ascii")
        if len(digits) < 4:
            return False
        is_plain = b"E" not in raw and b"e" not in raw
        # Of a day in three values only the year has four digits in every case.
        if is_plain and not (
            _has_any(self._needles, digits)
            or (raw.count(b"\\") > 1 and _has_any(self._years, digits))
        ):
            return False
        parts = [part for part in raw.split(b"\\") if part.strip()]
        if any(self._seeds.equals_number(part.decode("ascii")) for part in parts):
            return True
        scaled = self._scaled if len(parts) <= _FEW else _NONE
        return self._holds(tag, [abs(float(part)) for part in parts], scaled, "DS")

    def in_binary(self, tag: int, vr: str, raw: bytes) -> bool:
        """Return whether binary numbers are one; the byte order is not known, so in both."""
        if len(raw) < 4 and (not self._short or _is_of_pixels(tag, vr)):
            return False
        count = len(raw) // WIDTHS[vr]
        if vr in ("US", "SS") and count > _FEW:
            return False  # five digits at most
        scaled = self._scaled if vr == "FD" and count <= _FEW else _NONE
        if vr == "FL":
            scaled = self._rounded if count <= _FEW else self._rounded_long
        for order in "<>":
            found = struct.unpack(f"{order}{count}{CODES[vr]}", raw)
            if count == 1:
                if self._is_one(tag, abs(found[0]), scaled, vr):
                    return True
            elif self._holds(tag, [abs(n) for n in found], scaled, vr):
                return True
        return False

    def _is_one(self, tag: int, value: float, scaled: frozenset[float], vr: str) -> bool:
        """Return whether one value alone is an identifier or a day."""
        if value in self._long or value in scaled:
            return True
        if vr in _FRACTIONS and _LONG <= value < _HUGE and int(value) in self._long:
            return True
        return value in self._short and _may_be_short(tag, vr, int(value))

    def _holds(self, tag: int, values: Sequence[float], scaled: frozenset[float], vr: str) -> bool:
        """Return whether values are one, each alone or a few together."""
        if not self._long.isdisjoint(values) or not scaled.isdisjoint(values):
            return True
        if vr in _FRACTIONS and any(_LONG <= n < _HUGE and int(n) in self._long for n in values):
            return True
        if len(values) > _FEW:
            return False
        if len(values) <= _SINGLE:
            short = self._short.intersection(values)
            if any(_may_be_short(tag, vr, int(n)) for n in short):
                return True
        return len(values) > 1 and self._is_spread(values)

    def _is_spread(self, values: Sequence[float]) -> bool:
        """Return whether values beside each other are an identifier or a day together."""
        if len(values) < _MIN_SPREAD and max(values) < 1000 and sum(n >= 10 for n in values) < 2:
            return False
        if any(not n < _HUGE or n != int(n) for n in values):
            return False
        texts = [str(int(n)) for n in values]
        for one, two, three in zip(texts, texts[1:], texts[2:], strict=False):
            for year, month, day in ((one, two, three), (three, two, one), (three, one, two)):
                if year in self._years and (year, int(month), int(day)) in self._seeds.days:
                    return True
        whole = "".join(texts)
        if not _has_any(self._joined, whole):
            return False
        runs = [texts[i:j] for i in range(len(texts)) for j in range(i + 2, len(texts) + 1)]
        return any(
            "".join(run) in self._joined
            and (min(map(len, run)) > 1 or sum(map(len, run)) >= _MIN_SPREAD)
            for run in runs
        )


def _as_single(number: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", number))[0]) if number < 1e30 else number


def _has_any(needles: Sequence[str], text: str) -> bool:
    for needle in needles:  # noqa: SIM110  a generator takes twice the time
        if needle in text:
            return True
    return False


def _is_of_pixels(tag: int, vr: str) -> bool:
    """Return whether an attribute is a size or a value of pixels: they have as many digits."""
    return tag >> 16 == 0x0028 and vr in ("US", "SS")


@lru_cache(maxsize=8192)
def _counts(tag: int) -> bool:
    entry = DicomDictionary.get(tag)
    return entry is not None and _COUNTING.search(entry[4]) is not None


def _may_be_short(tag: int, vr: str, number: int) -> bool:
    """Return whether a number of four or five digits is an identifier and nothing else.

    One of four digits may be what a device is set to, or what a file counts by.
    """
    if _is_of_pixels(tag, vr):
        return False
    if number >= 10_000:
        return True
    is_round = number % 10 == 0 or not number & (number - 1) or not number & (number + 1)
    return not is_round and not _counts(tag)
