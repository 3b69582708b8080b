"""Residues: what identifies somebody in an input, and how an output is searched for it.

Found by what the elements are (names, IDs, dates, UIDs, addresses), never by what the engine did
with them. Words are compared case and accents folded; nothing of it is ever shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from pydicom._uid_dict import UID_dictionary

from pleura.anonymizer.dates import Spelled, parse_day, spans_of_days, spelled
from pleura.anonymizer.leaves import Leaf
from pleura.anonymizer.spelling import (
    APOSTROPHES,
    LETTERS,
    name_forms,
    number_forms,
    numbers_in,
    plain_letter,
    unsplit_parts,
    without_apostrophes,
)
from pleura.anonymizer.text import is_maker
from pleura.anonymizer.vocabulary import holds
from pleura.anonymizer.wire import vr_of

TEXT_VRS: Final = frozenset({"LO", "SH", "UC", "LT", "ST", "UT", "CS", "AE", "UR", "AS"})
READ_VRS: Final = TEXT_VRS | {"PN", "UI", "DA", "DT", "TM", "DS", "IS"}
DUMMY_TEXT: Final = "ANONYMIZED"
WORD: Final = re.compile(r"[^\W_]+")
_SPLIT: Final = re.compile(r"[\s^=,;.'\-_/\\]+")
_NAMING_VRS: Final = frozenset({"PN", "UI", "DA", "DT", "AE", "UR"})
_SHORTEST_HIDDEN: Final = 4
_SHORTEST_NUMBER: Final = 6  # digits of a decimal or integer string that may be an identifier


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the output may contain although it looks like a residue.

    `retained`: tags an active option keeps. `authored`: texts the engine writes itself.
    `shift_days`: None where dates must be gone. `carries_midnight`: times move too, so a date
    may be one day further. `year_only`: the first of January of a year that was there may stay.
    `safe_private`: private attributes of the safe list may stay; they are searched like others.
    """

    pseudonym: str
    shift_days: int | None
    retained: frozenset[int]
    identifying: frozenset[int]
    defined_terms: frozenset[str]
    authored: frozenset[str]
    carries_midnight: bool = False
    year_only: bool = False
    safe_private: bool = False


@dataclass(slots=True)
class Residues:
    """Identifying values of the input."""

    words: set[str] = field(default_factory=set)
    phrases: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)
    days: set[date] = field(default_factory=set)
    spelled: set[Spelled] = field(default_factory=set)
    raw: set[bytes] = field(default_factory=set)


def fold(text: str) -> str:
    """Return text in the form in which it is compared."""
    if text.isascii():
        return text.lower().replace("`", "'")
    decomposed = unicodedata.normalize("NFKD", text.translate(APOSTROPHES)).casefold()
    return "".join(map(plain_letter, decomposed.translate(LETTERS)))


def collect(leaves: Iterable[Leaf], expected: Expectation) -> Residues:
    """Find what identifies somebody in the input: names, IDs, dates, UIDs, addresses."""
    found = Residues()
    for leaf in leaves:
        if leaf.tag in expected.retained or leaf.tag >> 16 == 2 or leaf.vr not in READ_VRS:
            continue
        text = leaf.text()
        known = (vr_of(leaf.tag) or "").split(" or ")[0]
        vr = known if known in _NAMING_VRS else leaf.vr
        if vr == "PN":
            for reading in leaf.readings():
                _collect_name(reading, found, expected)
            found.raw |= {p.lower() for p in re.split(rb"[\^=\s\\]", leaf.raw) if _is_searchable(p)}
        elif vr == "UI":
            found.uids |= {u for u in text.split("\\") if len(u) >= 8 and u not in UID_dictionary}
        elif vr in ("DA", "DT"):
            found.days |= {d for d in map(parse_day, text.split("\\")) if d}
        elif vr in ("AE", "UR") or (leaf.tag in expected.identifying and leaf.vr in TEXT_VRS):
            for part in "\\".join(leaf.readings()).split("\\"):
                _collect_identifier(part.strip(" \0"), found, expected)
    for day in found.days:
        iso = day.isoformat()
        year, month, number = iso.split("-")
        found.numbers |= {year + month + number, number + month + year, month + number + year}
        found.spelled.update(spelled(day))
        found.phrases |= {iso, f"{number}.{month}.{year}", f"{month}/{number}/{year}"}
    return found


def _collect_name(text: str, found: Residues, expected: Expectation) -> None:
    folded = fold(text)
    parts = {*_SPLIT.split(folded), *_SPLIT.split(without_apostrophes(folded))}
    if not text.isascii():
        parts.update(map(fold, unsplit_parts(text)))
    for part in parts:
        if part.upper() in expected.defined_terms:
            continue
        if part.isdigit():
            _collect_identifier(part, found, expected)
        elif len(part) >= 3 or part[:1] >= "\u1100":
            found.words.add(part)
            if len(part) >= 4 or not part.isascii():
                found.phrases.add(part)
                found.phrases |= name_forms(part)


def _collect_identifier(text: str, found: Residues, expected: Expectation) -> None:
    folded = fold(text)
    if folded.isdigit():
        found.numbers |= number_forms(folded)
    if len(folded) < 4 or folded.upper() in expected.defined_terms or is_maker(folded):
        return
    if not folded.isdigit():
        found.phrases.add(folded)
    raw = folded.encode()
    if _is_searchable(raw):
        found.raw.add(raw)


def _is_searchable(raw: bytes) -> bool:
    """Return whether bytes are long and varied enough to search binary values for."""
    return len(raw) >= 6 and len(set(raw)) >= 3


def tokens_left(
    leaves: Iterable[Leaf], residues: Residues, expected: Expectation
) -> frozenset[str]:
    """Return which tokens of an input the texts, names and numbers of an output still hold.

    What an option keeps and what the engine writes itself is not searched; nor are dates and
    UIDs, which are compared as values.
    """
    texts: list[str] = []
    hidden: list[str] = []
    found: set[str] = set()
    for leaf in leaves:
        if leaf.tag >> 16 == 2 or leaf.tag in expected.retained:
            continue
        if leaf.vr in TEXT_VRS or leaf.vr == "PN":
            texts += _searched(leaf, expected)
            hidden.append(leaf.hidden())
        elif leaf.vr in ("DS", "IS"):
            parts = {part.strip() for part in leaf.text().split("\\")}
            found |= {n for n in parts & residues.numbers if len(n) >= _SHORTEST_NUMBER}
    folded = fold("\n".join(texts))
    found |= hidden_in("\n".join(hidden), residues)
    found |= residues.words.intersection(WORD.findall(folded))
    found |= residues.numbers & numbers_in(folded)
    for plain in map(fold, texts) if residues.spelled else ():
        found |= {plain[slice(*span)] for span in spans_of_days(plain, residues.spelled)}
    return frozenset(found | {phrase for phrase in residues.phrases if holds(folded, phrase)})


def hidden_in(plain: str, residues: Residues) -> set[str]:
    """Return which long values plain letters hold that a text's character set hides.

    Short ones are there by chance: two such letters are one ideograph.
    """
    if not plain:
        return set()
    long = {p for p in residues.phrases if len(p) >= _SHORTEST_HIDDEN and p in plain}
    return long | {n for n in residues.numbers & numbers_in(plain) if len(n) >= _SHORTEST_HIDDEN}


def _searched(leaf: Leaf, expected: Expectation) -> Iterator[str]:
    text = leaf.text()
    if text in (expected.pseudonym, DUMMY_TEXT) or text in expected.authored:
        return
    for part in "\\".join(leaf.visible()).split("\\"):
        part = part.strip()
        if leaf.vr != "CS" or part not in expected.defined_terms:
            yield part
