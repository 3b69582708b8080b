"""Text: character sets, the identifying words of a file, and patterns that give people away.

`Seeds` are the words and numbers the header itself names a person, order or place with. A
short text that holds a seed or a pattern is not cleaned word by word: it goes as a whole.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Final

from pydicom.charset import convert_encodings, decode_bytes, encode_string, python_encoding
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from pleura.anonymizer.dates import Spelled, spans_of_days, spelled
from pleura.anonymizer.patterns import DATES
from pleura.anonymizer.spelling import (
    APOSTROPHES,
    CONTROLS,
    LETTERS,
    name_forms,
    numbers_in,
    padded_forms,
    plain_letter,
    without_apostrophes,
    without_controls,
)
from pleura.anonymizer.vocabulary import holds

MIN_PHRASE: Final = 4

_MONTHS: Final = "janfebmaraprmayjunjulaugsepoctnovdec"
_PATTERNS: Final = re.compile(
    r"""
      \b(?:dr|prof|mr|mrs|ms|herr|frau|pt|patient|name|mrn|dob|ssn)\b\s*[:.=]?\s*\w  # labels
    | [\w.+-]+@[\w-]+\.\w+                                                # mail
    | \b(?:https?|ftp)://|\bwww\.                                         # address of a page
    | \d{5,}                                                              # long digit runs
    | \b\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b                                 # dates, UIDs, IPs
    | \b\d{1,2}\s(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)      # 31 Jan
    | \b\d{1,2}:\d{2}\b                                                   # times
    | \b\d{3}[-\s]\d{2}[-\s]\d{4}\b                                       # SSN
    | (?:\+|\b00)\d{1,3}[\s/-]?\d{2}|\b\d{2,4}[\s/-]\d{3,4}[\s/-]?\d{2,}  # phones
    """,
    re.IGNORECASE | re.VERBOSE,
)
_DIGITS: Final = re.compile(r"\d+")
_WORD: Final = re.compile(r"[^\W_]+")
_TWO_LETTERS: Final = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "ə": "a"}
)
# Character sets whose bytes may be UTF-8 by chance.
_MULTI_BYTE: Final = frozenset(
    [f"ISO 2022 IR {n}" for n in (13, 58, 87, 149, 159, 166)]
    + ["ISO_IR 13", "ISO_IR 166", "ISO_IR 192", "GB18030", "GBK"]
)
_C1: Final = re.compile(rb"[\x80-\x9f]")
_PADDING: Final = re.compile(r"\0+(?=\\|\Z)")
_BYTE_ORDER_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_WINDOWS: Final = {"100": "cp1252", "101": "cp1250", "148": "cp1254"}
_WIDE: Final = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
# Sets that hold plain letters in the bytes of others.
_HIDING: Final = ("iso2022_jp_2", "shift_jis", "gb18030", "euc_kr", "iso8859_11")
_FIRST_HIDING: Final = "\u0e00"
_ESCAPE: Final = re.compile(rb"\x1b[$(-/]{1,2}[@-Z]")
_PLAIN_RUN: Final = re.compile(rb"[ -~]{4,}")
_MIN_CODE: Final = 5  # letters and digits of an identifier that is found however it is spaced
_MIN_CODE_DIGITS: Final = 3
_MAKERS: Final = frozenset([
    "agfa", "aquilion", "bruker", "canon", "carestream", "corporation", "elekta", "esaote",
    "fuji", "fujifilm", "ge", "gems", "genesis", "healthcare", "healthineers", "hitachi",
    "hologic", "imaging", "kodak", "konica", "mec", "medical", "medtronic", "mindray", "minolta",
    "neusoft", "nmps", "nuctech", "philips", "samsung", "sectra", "shimadzu", "siemens", "signa",
    "systems", "toshiba", "uih", "united", "varian",
])  # fmt: skip


def known_character_set(terms: Sequence[str]) -> bool:
    """Return whether every term is a defined term of (0008,0005)."""
    return all(term in python_encoding for term in terms)


def decode_text(value: bytes, character_sets: Sequence[str], vr: str) -> str | None:
    """Return the text of a value, or None where its character set cannot read it.

    Nor is what has control characters no text may have, NUL but as padding among them (PS3.5
    6.1.3): UTF-16 would be read as single letters. UTF-8 in a file that says Latin is UTF-8.
    """
    if value.isascii():
        text = value.decode("ascii")
        if text.isprintable():
            return text
        if "\x1b" not in text:
            return text if _is_lawful(text) else None
    if not known_character_set(character_sets) or not set(character_sets) - {"", "ISO_IR 6"}:
        return None  # without a character set only ASCII is lawful (PS3.5 6.1.2.1)
    if value.startswith(_BYTE_ORDER_MARKS):
        return None
    left = None
    if not _MULTI_BYTE.intersection(character_sets):
        left = _as_utf_8(value) or _as_windows(value, character_sets)
    if left is None:
        left = _declared(value, character_sets, vr)
    return left if left is not None and _is_lawful(left) else None


def _declared(value: bytes, character_sets: Sequence[str], vr: str) -> str | None:
    delimiters = PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            encodings = convert_encodings(list(character_sets))
            text = decode_bytes(value, encodings, delimiters)
    except (UserWarning, UnicodeError, LookupError, ValueError):
        return None
    return None if "\ufffd" in text else text


def _as_utf_8(value: bytes) -> str | None:
    """Return bytes beyond ASCII as UTF-8 where they are that: other sets make such by chance."""
    try:
        return None if b"\x1b" in value else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _as_windows(value: bytes, character_sets: Sequence[str]) -> str | None:
    """Return Latin letters with the dashes and quotes of Windows, which no lawful value has."""
    if not _C1.search(value) or 4 * sum(byte > 0x7F for byte in value) > len(value):
        return None
    for term in character_sets:
        with suppress(UnicodeDecodeError, KeyError):
            return value.decode(_WINDOWS[term[-3:]])
    return None


def _is_lawful(text: str) -> bool:
    if text.isprintable():
        return True
    return CONTROLS.search(_PADDING.sub("", text)) is None and not _has_lane(text)


def _has_lane(text: str) -> bool:
    """Return whether every other letter is the same control: the first bytes of UTF-16.

    Of some scripts (Devanagari, Gujarati, Telugu, Malayalam) that is a tab or an end of line.
    """
    for lane in (text[::2], text[1::2]):
        if len(lane) > 2 and max(map(lane.count, "\t\n\f\r")) * 2 > len(lane):
            return True
    return False


def readings(value: bytes, character_sets: Sequence[str], vr: str) -> tuple[str, ...]:
    """Return every text a value may be meant as: declared, UTF-8, UTF-16, or byte by byte."""
    text = decode_text(value, character_sets, vr)
    if text is not None and text.isascii():
        return (text,)
    found = [text, _as_utf_8(value)]
    if text is None:
        latin = value.decode("latin-1")
        found += [latin, latin.replace("\0", " ")]
        if CONTROLS.search(latin):
            found += [value.decode(codec, "ignore") for codec in _WIDE]
    return tuple(dict.fromkeys(each for each in found if each is not None))


def encode_text(text: str, character_sets: Sequence[str], vr: str) -> bytes | None:
    """Return the text in its character set, or None where that does not read back the same.

    What was read as Windows letters against its character set is written so again.
    """
    if text.isascii():
        return text.encode("ascii")
    if not known_character_set(character_sets):
        return None
    for raw in _encoded(text, character_sets):
        if decode_text(raw, character_sets, vr) == text:
            return raw
    return None


def _encoded(text: str, character_sets: Sequence[str]) -> Iterator[bytes]:
    with suppress(UserWarning, UnicodeError, LookupError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("error")
        encodings = convert_encodings(list(character_sets))
        yield b"\\".join(encode_string(part, encodings) for part in text.split("\\"))
    for codec in _WINDOWS.values():
        with suppress(UnicodeError):
            yield text.encode(codec)


def fold(text: str) -> str:
    """Return text without case, accents, width variants, controls; dashes of all kinds are one.

    So are apostrophes, digits of all scripts, the two kinds of kana and Arabic letters alike.
    """
    if text.isascii():
        return without_controls(text.lower().replace("`", "'"))
    plain = unicodedata.normalize("NFKD", text.translate(APOSTROPHES)).casefold()
    plain = plain.translate(LETTERS)
    if not plain.isascii():
        plain = "".join(map(plain_letter, plain))
    return without_controls(plain)


def spelled_out(name: str) -> set[str]:
    """Return the folded names that are this one with its umlauts written the other way."""
    composed = unicodedata.normalize("NFC", name).casefold()
    folded = fold(name)
    return {fold(composed.translate(_TWO_LETTERS)), re.sub("([aou])e", r"\1", folded)} - {folded}


def words(text: str) -> list[str]:
    """Return the folded words of a text."""
    return _WORD.findall(fold(text))


def is_ideograph(letter: str) -> bool:
    """Return whether one letter is a whole name (Chinese, Japanese, Korean)."""
    return unicodedata.category(letter) == "Lo" and ord(letter) >= 0x1100


def spellings(day: date) -> tuple[str, ...]:
    """Return the ways a date is written in prose, folded."""
    y, m, d = f"{day.year:04d}", f"{day.month:02d}", f"{day.day:02d}"
    month = _MONTHS[3 * day.month - 3 : 3 * day.month]
    return (
        f"{y}{m}{d}", f"{y}-{m}-{d}", f"{y}.{m}.{d}", f"{d}.{m}.{y}", f"{m}/{d}/{y}",
        f"{d}/{m}/{y}", f"{m}/{d}/{y[2:]}", f"{day.day} {month} {y}",
    )  # fmt: skip


def has_pattern(text: str) -> bool:
    """Return whether a text looks like it holds a name, number, date or address."""
    return _PATTERNS.search(text) is not None or DATES.search(fold(text)) is not None


def is_common(text: str, terms: frozenset[str]) -> bool:
    """Return whether a folded word is a defined term and hence no sign of a person."""
    return text.upper() in terms


def is_maker(folded: str) -> bool:
    """Return whether a folded identifier has no words but those of makers of devices.

    A site that puts its scanner's maker where its own name belongs must not cost every file the
    maker. For a person's name this does not count: people are called Philips.
    """
    found = _WORD.findall(folded)
    return bool(found) and all(word in _MAKERS for word in found)


@dataclass(slots=True)
class Seeds:
    """What a file's own header identifies people, places and orders with."""

    terms: frozenset[str] = frozenset()
    tokens: set[str] = field(default_factory=set)
    phrases: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)
    integers: set[int] = field(default_factory=set)
    days: set[Spelled] = field(default_factory=set)

    def add_name(self, text: str) -> None:
        """Add a person's name: all groups, every part of two letters or one ideograph."""
        folded = fold(text)
        parts = {*_WORD.findall(folded), *_WORD.findall(without_apostrophes(folded))}
        parts.update(w for name in spelled_out(text) for w in words(name))
        for part in parts:
            if len(part) == 1 and is_ideograph(part):
                self.phrases.add(part)
            elif len(part) >= 2 and not part.isdigit() and not is_common(part, self.terms):
                self.tokens.add(part)
                if len(part) >= MIN_PHRASE or not part.isascii():
                    self.phrases.add(part)
                    self.phrases |= name_forms(part)
            elif part.isdigit():
                self.add_identifier(part)

    def add_identifier(self, text: str) -> None:
        """Add an identifier, address or institution as a whole."""
        folded = fold(text).strip(" \0\\^=")
        if not folded or is_common(folded, self.terms) or is_maker(folded):
            return
        squeezed = "".join(_WORD.findall(folded))
        if len(squeezed) >= _MIN_CODE and sum(map(str.isdigit, squeezed)) >= _MIN_CODE_DIGITS:
            self.codes.add(squeezed)
        if folded.isdigit():
            self.numbers |= padded_forms(folded)
            if len(folded) >= MIN_PHRASE:
                self.integers.add(int(folded))
        elif len(folded) >= MIN_PHRASE:
            self.phrases.add(folded)
        elif len(folded) >= 2:
            self.tokens.add(folded)

    def add_date(self, day: date) -> None:
        """Add a date in every spelling."""
        for spelling in spellings(day):
            (self.numbers if spelling.isdigit() else self.phrases).add(spelling)
        self.days.update(spelled(day))
        self.numbers |= {f"{day:%d%m}{day.year:04d}", f"{day:%m%d}{day.year:04d}"}
        forms = ("%Y%m%d", "%d%m%Y", "%m%d%Y", "%y%m%d", "%d%m%y")
        self.integers |= {int(day.strftime(form)) for form in forms}

    def codes_in(self, folded: str) -> list[tuple[int, int]]:
        """Return where a folded text has an identifier, whatever stands between its letters."""
        return [m.span() for code in self.codes for m in _spaced(code).finditer(folded)]

    def days_in(self, folded: str) -> Iterator[tuple[int, int]]:
        """Yield where a folded text has a day of the header, however it is written."""
        return spans_of_days(folded, self.days)

    def found_in(self, text: str) -> bool:
        """Return whether a text holds a seed: as a word, or inside one from 4 letters on.

        Ordinary words that merely contain it are none of its places. Where the bytes of a text
        may be read in another way, that is looked at too.
        """
        if self._stands_in(text):
            return True
        if text.isascii() or max(text) < _FIRST_HIDING:
            return False
        hidden, others = _other_readings(text)
        return self._is_part_of(hidden) or any(map(self._stands_in, others))

    def _is_part_of(self, plain: str) -> bool:
        """Return whether plain letters hold a long seed; short ones are there by chance."""
        if any(len(p) >= MIN_PHRASE and p in plain for p in (*self.phrases, *self.tokens)):
            return True
        return any(len(n) >= MIN_PHRASE for n in self.numbers & numbers_in(plain))

    def _stands_in(self, text: str) -> bool:
        folded = fold(text)
        if not self.tokens.isdisjoint(_WORD.findall(folded)):
            return True
        if any(phrase in folded and holds(folded, phrase) for phrase in self.phrases):
            return True
        if any(uid in text for uid in self.uids) or self.codes_in(folded):
            return True
        runs = _DIGITS.findall(folded)
        if not self.numbers.isdisjoint(runs):
            return True
        if any(run[0] == "0" and run.lstrip("0") in self.numbers for run in runs):
            return True
        return len(runs) > 1 and next(self.days_in(folded), None) is not None

    def equals_number(self, text: str) -> bool:
        """Return whether a numeric value is itself an identifier of six digits or more."""
        match = _WHOLE_NUMBER.fullmatch(text.strip())
        return match is not None and len(match[1]) >= 6 and int(match[1]) in self.integers


@lru_cache(maxsize=512)
def _spaced(code: str) -> re.Pattern[str]:
    between = r"[\W_]{0,2}"
    return re.compile(rf"(?<![^\W_]){between.join(map(re.escape, code))}(?![^\W_])")


_WHOLE_NUMBER: Final = re.compile(r"[+-]?(\d+)(?:\.0*)?")


@lru_cache(maxsize=512)
def _other_readings(text: str) -> tuple[str, tuple[str, ...]]:
    """Return what the bytes of a text say to who does not know its character set.

    First their plain letters, two of which make one ideograph behind an escape; then what they
    are as UTF-8, which sets of two bytes make ideographs of.
    """
    plain: list[str] = []
    others: list[str] = []
    for codec in _HIDING:
        with suppress(UnicodeError):
            raw = text.encode(codec)
            runs = (run.decode("ascii") for run in _PLAIN_RUN.findall(_ESCAPE.sub(b"\0", raw)))
            plain += [run for run in runs if run not in text]  # the others were looked at
            if not raw.isascii():
                others.append(raw.decode("utf-8"))
    return "\n".join(plain).lower(), tuple(others)
