"""The residual scan: proves on the finished bytes that no identifying value survived.

Deliberately another code path than the engine: it reads input and output with pydicom, finds
the input's identifying values itself and looks for them everywhere in the output, pixel
bytes included. Any doubt, even a failure of this check, is a refusal.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from io import BytesIO
from typing import Final

from pydicom import Dataset, dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from pleura.anonymizer.errors import SelfCheckFailed

_META_TAGS: Final = frozenset(
    {0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012, 0x00020013}
)
_TEXT_VRS: Final = frozenset({"LO", "SH", "UC", "LT", "ST", "UT", "CS", "AE", "UR", "AS"})
_READ_VRS: Final = _TEXT_VRS | {"PN", "UI", "DA", "DT", "TM", "DS", "IS"}
_DUMMY_TEXT: Final = "ANONYMIZED"
_DUMMY_DATES: Final = ("", "19000101", "19000101000000", "000000")
_MAPPED: Final = re.compile(r"2\.25\.[1-9][0-9]{0,38}")
_DAY: Final = re.compile(r"(\d{4})[.-]?(\d{1,2})[.-]?(\d{1,2})")
_SPLIT: Final = re.compile(r"[\s^=,;.'\-_/\\]+")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the output may contain although it looks like a residue.

    `retained`: tags an active option keeps. `authored`: texts the engine writes itself.
    `shift_days`: None where dates must be gone.
    """

    pseudonym: str
    shift_days: int | None
    retained: frozenset[int]
    identifying: frozenset[int]
    defined_terms: frozenset[str]
    authored: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Leaf:
    tag: int
    vr: str
    raw: bytes
    sets: tuple[str, ...]

    def text(self) -> str:
        """Return the text, undecodable bytes replaced."""
        if self.raw.isascii() and b"\x1b" not in self.raw:
            return self.raw.decode("ascii").strip(" \0")
        delimiters = PN_DELIMS if self.vr == "PN" else TEXT_VR_DELIMS
        try:
            encodings = convert_encodings(list(self.sets) or ["ISO_IR 6"])
            return decode_bytes(self.raw, encodings, delimiters).strip(" \0")
        except (LookupError, UnicodeError, ValueError):
            return self.raw.decode("latin-1").strip(" \0")


@dataclass(slots=True)
class _Residues:
    """Identifying values of the input."""

    words: set[str] = field(default_factory=set)
    phrases: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)
    days: set[date] = field(default_factory=set)
    raw: set[bytes] = field(default_factory=set)


def check_residuals(source: bytes, output: bytes, expected: Expectation) -> None:
    """Search `output` for every identifying value of `source`.

    Raises:
        SelfCheckFailed: a value, a foreign name, a private tag or an unmapped UID is there,
            or the scan itself could not be done. The message holds the tag only.
    """
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            residues = _collect(_leaves_of(source), expected)
            _check_marks(output, expected)
            for leaf in _leaves_of(output):
                problem = _problem(leaf, residues, expected)
                if problem:
                    raise SelfCheckFailed(
                        f"{problem} ({leaf.tag >> 16:04X},{leaf.tag & 0xFFFF:04X})"
                    )
    except SelfCheckFailed:
        raise
    except Exception as exc:  # noqa: BLE001  a check that cannot run is a refusal
        raise SelfCheckFailed(f"scan ended with {type(exc).__name__}") from None


def _leaves_of(data: bytes) -> Iterator[_Leaf]:
    dataset = dcmread(BytesIO(data))
    for element in dataset.file_meta.elements():
        value = element.value
        raw = value if isinstance(value, bytes) else str(value).encode()
        yield _Leaf(int(element.tag), str(element.VR), raw, ())
    yield from _leaves(dataset, ())


def _leaves(dataset: Dataset, inherited: tuple[str, ...]) -> Iterator[_Leaf]:
    sets = _character_sets(dataset, inherited)
    for element in list(dataset.elements()):
        vr = element.VR if element.VR not in (None, "UN") else _vr(element.tag)
        if vr == "SQ":
            for item in dataset[element.tag].value:
                yield from _leaves(item, sets)
        else:
            yield _Leaf(int(element.tag), vr, _raw(element), sets)


def _character_sets(dataset: Dataset, inherited: tuple[str, ...]) -> tuple[str, ...]:
    if "SpecificCharacterSet" not in dataset:
        return inherited
    raw = _raw(dataset.get_item("SpecificCharacterSet")).decode("latin-1")
    return tuple(part.strip(" \0") for part in raw.split("\\"))


def _vr(tag: BaseTag) -> str:
    try:
        return dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return "UN"


def _raw(element: RawDataElement | DataElement | None) -> bytes:
    value = None if element is None else element.value
    if isinstance(value, bytes):
        return value
    if value is None:
        return b""
    parts = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return "\\".join(str(part) for part in parts).encode()


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn")


def _collect(leaves: Iterator[_Leaf], expected: Expectation) -> _Residues:
    """Find what identifies somebody in the input: names, IDs, dates, UIDs, addresses."""
    found = _Residues()
    for leaf in leaves:
        if leaf.tag in expected.retained or leaf.tag >> 16 == 2 or leaf.vr not in _READ_VRS:
            continue
        text = leaf.text()
        if leaf.vr == "PN":
            _collect_name(text, leaf.raw, found, expected)
        elif leaf.vr == "UI":
            found.uids |= {u for u in text.split("\\") if len(u) >= 8 and u not in UID_dictionary}
        elif leaf.vr in ("DA", "DT"):
            found.days |= {d for d in map(_day, text.split("\\")) if d}
        elif leaf.vr in ("AE", "UR") or (leaf.tag in expected.identifying and leaf.vr in _TEXT_VRS):
            for part in text.split("\\"):
                _collect_identifier(part.strip(" \0"), found, expected)
    for day in found.days:
        iso = day.isoformat()
        year, month, number = iso.split("-")
        found.numbers.add(year + month + number)
        found.phrases |= {iso, f"{number}.{month}.{year}", f"{month}/{number}/{year}"}
    return found


def _collect_name(text: str, raw: bytes, found: _Residues, expected: Expectation) -> None:
    for part in _SPLIT.split(_fold(text)):
        if part.upper() in expected.defined_terms:
            continue
        if part.isdigit():
            _collect_identifier(part, found, expected)
        elif len(part) >= 3 or part[:1] >= "\u1100":
            found.words.add(part)
            if len(part) >= 4 or not part.isascii():
                found.phrases.add(part)
    found.raw |= {part.lower() for part in re.split(rb"[\^=\s\\]", raw) if _is_searchable(part)}


def _collect_identifier(text: str, found: _Residues, expected: Expectation) -> None:
    folded = _fold(text)
    if len(folded) < 4 or folded.upper() in expected.defined_terms:
        return
    (found.numbers if folded.isdigit() else found.phrases).add(folded)
    raw = folded.encode()
    if _is_searchable(raw):
        found.raw.add(raw)


def _is_searchable(raw: bytes) -> bool:
    """Return whether bytes are long and varied enough to search binary values for."""
    return len(raw) >= 6 and len(set(raw)) >= 3


def _day(text: str) -> date | None:
    match = _DAY.match(text.strip())
    try:
        return date(int(match[1]), int(match[2]), int(match[3])) if match else None
    except ValueError:
        return None


def _check_marks(output: bytes, expected: Expectation) -> None:
    if any(output[:128]):
        raise SelfCheckFailed("preamble")
    dataset = dcmread(BytesIO(output), stop_before_pixels=True)
    if str(dataset.get("PatientID")) != expected.pseudonym:
        raise SelfCheckFailed("pseudonym (0010,0020)")
    if dataset.get("PatientIdentityRemoved") != "YES":
        raise SelfCheckFailed("mark (0012,0062)")


def _problem(leaf: _Leaf, residues: _Residues, expected: Expectation) -> str | None:
    """Return what is wrong with one output element, in fixed words, or None."""
    group = leaf.tag >> 16
    if group & 1:
        return "private element"
    if group == 2:
        if leaf.tag not in _META_TAGS:
            return "foreign file meta"
        return _uid_problem(leaf, residues) if leaf.vr == "UI" else None
    if leaf.tag in expected.retained:
        return None
    if leaf.vr not in _READ_VRS:
        lowered = leaf.raw.lower()
        return "bytes" if any(raw in lowered for raw in residues.raw) else None
    text = leaf.text()
    if leaf.vr == "PN":
        return None if text in ("", expected.pseudonym, _DUMMY_TEXT) else "foreign name"
    if leaf.vr == "UI":
        return _uid_problem(leaf, residues)
    if leaf.vr in ("DA", "DT", "TM"):
        return None if _is_expected_time(leaf.vr, text, residues, expected) else "date"
    if leaf.vr in _TEXT_VRS:
        return "text" if _text_leaks(leaf, text, residues, expected) else None
    numbers = {part.strip() for part in text.split("\\")}  # DS, IS
    return "number" if any(len(n) >= 6 for n in numbers & residues.numbers) else None


def _uid_problem(leaf: _Leaf, residues: _Residues) -> str | None:
    for uid in leaf.text().split("\\"):
        uid = uid.strip(" \0")
        if uid in residues.uids:
            return "unmapped UID"
        if uid and uid not in UID_dictionary and not _MAPPED.fullmatch(uid):
            return "foreign UID"
    return None


def _is_expected_time(vr: str, text: str, residues: _Residues, expected: Expectation) -> bool:
    for part in text.split("\\"):
        if part in _DUMMY_DATES:
            continue
        if expected.shift_days is None:
            return False
        if vr == "TM" or (vr == "DT" and len(part) < 8):
            continue
        day = _day(part[:8])
        if day is None or day - timedelta(days=expected.shift_days) not in residues.days:
            return False
    return True


def _text_leaks(leaf: _Leaf, text: str, residues: _Residues, expected: Expectation) -> bool:
    if text in (expected.pseudonym, _DUMMY_TEXT) or text in expected.authored:
        return False
    for part in text.split("\\"):
        part = part.strip()
        if leaf.vr == "CS" and part in expected.defined_terms:
            continue
        folded = _fold(part)
        words = set(re.findall(r"[^\W_]+", folded))
        numbers = set(re.findall(r"\d+", folded))
        if words & residues.words or numbers & residues.numbers:
            return True
        if any(phrase in folded for phrase in residues.phrases):
            return True
        if any(uid in part for uid in residues.uids):
            return True
    return False
