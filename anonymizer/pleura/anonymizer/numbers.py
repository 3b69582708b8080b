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
    def _joined(self) -> frozenset[str]:
        """Identifiers and days as values beside each other spell them."""
        found = {int(n) for n in self._seeds.numbers if n.isdecimal()}
        return frozenset(str(n) for n in found if n >= _LONG)

    @cached_property
    def _years(self) -> frozenset[str]:
        return frozenset(year for year, _, _ in self._seeds.days if len(year) == 4)

    @cached_property
    def _needles(self) -> tuple[bytes, ...]:
        """What the digits of a text must hold before its values are looked at one by one."""
        spelled = {str(n) for n in self._long | self._short}
        spelled |= {f"{n:06d}" for n in self._seeds.integers if n < _LONG}
        return tuple(text.encode("ascii") for text in spelled)

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
        digits = raw.translate(None, _BESIDE_DIGITS)
        if len(digits) < 4:
            return False
        is_plain = b"E" not in raw and b"e" not in raw
        if is_plain and not any(needle in digits for needle in self._needles):
            if raw.count(b"\\") < 2:
                return False
            if not any(year.encode("ascii") in digits for year in self._years):
                return False
        parts = [part for part in raw.split(b"\\") if part.strip()]
        if any(self._seeds.equals_number(part.decode("ascii")) for part in parts):
            return True
        return self._holds(tag, [abs(float(part)) for part in parts], self._scaled, "DS")

    def in_binary(self, tag: int, vr: str, raw: bytes) -> bool:
        """Return whether binary numbers are one; the byte order is not known, so in both."""
        if len(raw) < 4 and (not self._short or not _may_be_short(tag, vr)):
            return False
        count = len(raw) // WIDTHS[vr]
        if vr in ("US", "SS") and count > _FEW:
            return False  # five digits at most
        scaled = self._scaled if vr == "FD" and count <= _FEW else frozenset[float]()
        if vr == "FL":
            scaled = self._rounded if count <= _FEW else self._rounded_long
        for order in "<>":
            found = struct.unpack(f"{order}{count}{CODES[vr]}", raw)
            if self._holds(tag, [abs(n) for n in found], scaled, vr):
                return True
        return False

    def _holds(self, tag: int, values: Sequence[float], scaled: frozenset[float], vr: str) -> bool:
        if not self._long.isdisjoint(values):
            return True
        if vr in _FRACTIONS and any(_LONG <= n < 1e18 and int(n) in self._long for n in values):
            return True
        if len(values) > _FEW:
            return vr == "FL" and not scaled.isdisjoint(values)
        if not scaled.isdisjoint(values):
            return True
        if len(values) <= _SINGLE:
            found = self._short.intersection(values)
            if any(_may_be_short(tag, vr) and _is_odd(int(n), tag) for n in found):
                return True
        return len(values) > 1 and self._is_spread(values)

    def _is_spread(self, values: Sequence[float]) -> bool:
        """Return whether values beside each other are an identifier or a day together."""
        if any(not n < 1e18 or n != int(n) for n in values):
            return False
        texts = [str(int(n)) for n in values]
        for one, two, three in zip(texts, texts[1:], texts[2:], strict=False):
            for year, month, day in ((one, two, three), (three, two, one), (three, one, two)):
                if year in self._years and (year, int(month), int(day)) in self._seeds.days:
                    return True
        whole = "".join(texts)
        if not any(text in whole for text in self._joined):
            return False
        runs = [texts[i:j] for i in range(len(texts)) for j in range(i + 2, len(texts) + 1)]
        return any(
            "".join(run) in self._joined
            and (min(map(len, run)) > 1 or sum(map(len, run)) >= _MIN_SPREAD)
            for run in runs
        )


def _as_single(number: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", number))[0]) if number < 1e30 else number


@lru_cache(maxsize=8192)
def _may_be_short(tag: int, vr: str) -> bool:
    """Return whether an identifier of four or five digits is looked for in an attribute.

    Sizes and values of pixels have that many digits, so a binary one of group 0028 never is one.
    """
    return not (tag >> 16 == 0x0028 and vr in ("US", "SS"))


@lru_cache(maxsize=8192)
def _counts(tag: int) -> bool:
    entry = DicomDictionary.get(tag)
    return entry is not None and _COUNTING.search(entry[4]) is not None


def _is_odd(number: int, tag: int) -> bool:
    """Return whether a number of four digits is not what a device sets or a file counts by."""
    if number >= 10_000:
        return True
    is_round = number % 10 == 0 or not number & (number - 1) or not number & (number + 1)
    return not is_round and not _counts(tag)
