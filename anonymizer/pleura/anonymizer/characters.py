"""Characters: whether the bytes of binary numbers are text in truth.

Letters are ordinary bytes of numbers too: 0.7 ends in `ffffff`, a table counts through the
alphabet. So a run of letters must be written like a word and vary; a word alone counts only where
the whole value is printable and makes no plausible number. What the header itself names counts
anywhere, in any encoding. Pure.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from typing import Final

from pleura.anonymizer.text import Seeds, fold, is_ideograph

_PRINTABLE: Final = re.compile(rb"[ -~]{3}|(?:[ -~]\0{1,3}){3}[ -~]")
_LETTERS: Final = re.compile(rb"[A-Za-z\xc3]{3}|(?:[A-Za-z]\0{1,3}){3}[A-Za-z]")
_RUN: Final = re.compile(rb"[ -~]{4,}")
_WIDE_RUN: Final = re.compile(
    rb"(?:[ -~]\0){4,}|(?:\0[ -~]){4,}|(?:[ -~]\0\0\0){4,}|(?:\0\0\0[ -~]){4,}"
)
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_SHORTEST: Final = 4
# The more numbers, the longer the word that is among them by chance: bytes, letters.
_SHORTEST_AMONG_NUMBERS: Final = ((128, 6), (1024, 8), (math.inf, 10))
_LONG: Final = 8
_MIN_VARIETY: Final = 3
_PLAUSIBLE: Final = (1e-9, 1e9)
_WIDE: Final = ("utf-16-le", "utf-16-be")
_FLOATS: Final = {"FL": "f", "FD": "d"}
_ENCODINGS: Final = (
    "utf-8", "utf-16-le", "utf-16-be", "latin-1", "cp1251", "koi8-r", "iso8859-5", "iso8859-7",
    "cp1253", "iso8859-6", "cp1256", "iso8859-8", "tis-620", "shift_jis", "euc_jp", "iso2022_jp",
    "euc_kr", "gb18030", "big5",
)  # fmt: skip


def foreign_names(seeds: Seeds) -> frozenset[str]:
    """Return the names in other letters that are long enough not to be there by chance."""
    return frozenset(
        name
        for name in seeds.tokens | seeds.phrases
        if not name.isascii() and len(name) >= (2 if is_ideograph(name[0]) else 4)
    )


def are_words(raw: bytes, vr: str) -> bool:
    """Return whether binary numbers are words in truth, whoever wrote them."""
    if len(raw) < 4 or not _LETTERS.search(raw):
        return False
    are_plausible = _are_plausible(raw, vr)
    shortest = next(letters for size, letters in _SHORTEST_AMONG_NUMBERS if len(raw) <= size)
    if any(_has_word(run, max(shortest, are_plausible * _LONG)) for run in _runs(raw)):
        return True
    return not are_plausible and _has_word(_printable(raw.rstrip(b" \0"), "utf-8"), _SHORTEST)


def hold_seed(raw: bytes, seeds: Seeds, foreign: frozenset[str]) -> bool:
    """Return whether the bytes of binary numbers hold what the header names somebody with.

    `foreign`: the names of `foreign_names`.
    """
    if len(raw) < 4:
        return False
    if foreign:
        encodings = _WIDE if raw.isascii() else _ENCODINGS
        if any(_holds(raw, encoding, foreign) for encoding in encodings):
            return True
    if not _PRINTABLE.search(raw):
        return False
    stripped = raw.rstrip(b" \0")
    whole = _printable(stripped, "utf-8") or _printable(stripped, "latin-1")
    if any(text and seeds.found_in(text) for text in (whole, *(_printable(raw, e) for e in _WIDE))):
        return True
    return any(len(set(run)) >= _MIN_VARIETY and seeds.found_in(run) for run in _runs(raw))


def _printable(raw: bytes, encoding: str) -> str:
    """Return the value as text if all of it is printable, else nothing."""
    try:
        text = raw.decode(encoding).rstrip(" \0")
    except UnicodeDecodeError:
        return ""
    return text if len(text) >= _MIN_VARIETY and " ".join(text.split()).isprintable() else ""


def _runs(raw: bytes) -> Iterator[str]:
    for match in _RUN.finditer(raw):
        yield match[0].decode("ascii")
    for match in _WIDE_RUN.finditer(raw):
        yield match[0].replace(b"\0", b"").decode("ascii")


def _has_word(text: str, shortest: int) -> bool:
    """Return whether letters in a row have the case of a word and do not repeat or count."""
    return any(
        len(word) >= shortest
        and (word[1:].islower() or word.isupper())
        and len(set(word.lower())) >= _MIN_VARIETY
        and min(len(set(word[::2])), len(set(word[1::2]))) > 1
        and list(word) not in (sorted(word), sorted(word, reverse=True))
        for word in _WORD.findall(text)
    )


def _are_plausible(raw: bytes, vr: str) -> bool:
    """Return whether floating point numbers have a size that something measured has."""
    code = _FLOATS.get(vr)
    if code is None:
        return False
    count = len(raw) // struct.calcsize(code)
    low, high = _PLAUSIBLE
    return any(
        all(not n or (math.isfinite(n) and low < abs(n) < high) for n in numbers)
        for numbers in (struct.unpack(f"{order}{count}{code}", raw) for order in "<>")
    )


def _holds(raw: bytes, encoding: str, names: frozenset[str]) -> bool:
    text = fold(raw.decode(encoding, "ignore"))
    return any(name in text for name in names)
