"""Seeding: reads from a file's header who and where it names, to search its texts for.

Names, identifiers, dates and UIDs count whatever they are. Where people and places are told in
plain words (meanings of codes, sites of a trial, titles of stations, a label in a comment), only
words nobody knows count alone: `Chest radiology` must not cost a text its chest. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from pleura.anonymizer.actions import dictionary_vr, is_standard_uid
from pleura.anonymizer.dates import parse_day
from pleura.anonymizer.header import character_sets_of
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.prose import announced_names
from pleura.anonymizer.rules import Rules
from pleura.anonymizer.spelling import unsplit_parts
from pleura.anonymizer.text import Seeds, decode_text, fold, is_maker, readings, words
from pleura.anonymizer.vocabulary import is_known_word
from pleura.anonymizer.wire import Element

Kind = Literal["person", "institution", "place"]
"""What plain words name: an institution may be called by two known words, a place may not."""

_NAMING_VRS: Final = frozenset({"PN", "UI", "DA", "DT", "AE", "UR"})
_CONTENT_TEXT_VRS: Final = frozenset({"LO", "SH", "UC", "LT", "ST", "UT", "CS", "IS", "DS", "UN"})
_LONG_TEXT_VRS: Final = frozenset({"LT", "ST", "UT"})
_SHORT_TEXT_VRS: Final = frozenset({"LO", "SH", "UC"})
_CODE_MEANING: Final = 0x00080104
_CODES: Final[dict[int, Kind]] = {
    0x00401101: "person",  # Person Identification Code Sequence
    0x00404009: "person",  # Human Performer Code Sequence
    0x00080082: "institution",  # Institution Code Sequence
    0x00081041: "place",  # Institutional Department Type Code Sequence
    0x00321034: "place",  # Requesting Service Code Sequence
    0x00404027: "place",  # Scheduled Station Geographic Location Code Sequence
    0x00404030: "place",  # Performed Station Geographic Location Code Sequence
}
_TEXTS: Final[dict[int, Kind]] = {
    0x00120010: "institution",  # Clinical Trial Sponsor Name
    0x00120031: "institution",  # Clinical Trial Site Name
    0x00120060: "institution",  # Clinical Trial Coordinating Center Name
    0x00120081: "institution",  # Clinical Trial Protocol Ethics Committee Name
    0x00321033: "place",  # Requesting Service
    0x00380300: "place",  # Current Patient Location
    0x00400011: "place",  # Scheduled Procedure Step Location
    0x00400243: "place",  # Performed Location
    0x00402009: "place",  # Order Enterer's Location
}
# Identifying in any case; here capitals are looked for as well.
_INSTITUTIONS: Final = frozenset({0x00080080, 0x00102299, 0x00404036, 0x0040A027})
_TITLES: Final = frozenset({0x00020016, 0x00020017, 0x00020018})
_MIN_WORD: Final = 4
_MIN_TITLE_DIGITS: Final = 3
_ACRONYM: Final = re.compile(r"(?<![^\W_])[^\W\d_]{3}(?![^\W_])")
_DIGIT: Final = re.compile(r"\d")
# Words of titles that products come with: STORESCP, ANY-SCP, MY_PACS.
_PRODUCT: Final = re.compile(
    r"(?:any|store|storage|find|move|get|echo|query|retrieve|send|receive|print|dcm|dicom|pacs"
    r"|chee|scp|scu|ae|aet|title|server|client|node|local|host|archive|router|gateway|test|my|default"
    r"|orthanc|conquest|dcmtk|osirix|horos|gdcm|pynetdicom|clearcanvas|ctp|xnat|mirth|weasis)+"
)
_MAX_PRIVATE_NAME: Final = 64
_MAX_PRIVATE_ITEM: Final = 4096
_ITEM: Final = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_TEXT_RUN: Final = re.compile(rb"[^\0-\x1f]+")
_PRIVATE_NAME: Final = re.compile(
    r"[^\W\d_][^\W\d_ .'-]*(?:[ .'-][^\W\d_]+)*(?:\^[^\W\d_ .'-]*){1,4}"
)


def collect_seeds(
    elements: Sequence[Element], rules: Rules, profile: Profile, meta: Sequence[Element] = ()
) -> Seeds:
    """Return what the file names people, places, orders, objects and days with.

    `meta`: the file meta group, whose titles name the stations that sent the file.
    """
    seeds = Seeds(terms=rules.defined_terms)
    retained = rules.retained(profile)
    for element in meta:
        if element.tag in _TITLES:
            _add_title(seeds, bytes(element.value).decode("latin-1").strip(" \0"))
    for element, sets, around in _walk(elements, retained):
        tag = element.tag
        if tag in retained:
            continue
        known = dictionary_vr(tag)
        # What it is, however it is encoded: an identifier in bytes is one.
        is_named = known in _NAMING_VRS or (tag in rules.identifying and known in _CONTENT_TEXT_VRS)
        vr = known if is_named and known else element.vr
        if vr in _NAMING_VRS or (tag in rules.identifying and vr in _CONTENT_TEXT_VRS):
            for part in _parts(element, sets, vr):
                _add_value(seeds, vr, part)
                if tag in _INSTITUTIONS:
                    _add_acronyms(seeds, part)
            continue
        kind = around if tag == _CODE_MEANING else _TEXTS.get(tag)
        if kind:
            for part in _parts(element, sets, vr):
                _add_told(seeds, kind, part)
        elif vr in _LONG_TEXT_VRS or (vr in _SHORT_TEXT_VRS and _is_description(tag, rules)):
            for name in announced_names(_text(element, sets, vr)):
                seeds.add_name(name)
        elif tag >> 16 & 1:
            _add_private(seeds, element, sets)
    return seeds


def _walk(
    elements: Sequence[Element],
    retained: frozenset[int],
    character_sets: tuple[str, ...] = (),
    around: Kind | None = None,
) -> Iterator[tuple[Element, tuple[str, ...], Kind | None]]:
    """Yield every primitive element, nested ones too, its character sets and whom codes name."""
    own = character_sets_of(elements)
    sets = character_sets if own is None else own
    for element in elements:
        if element.items is None:
            yield element, sets, around
            continue
        below = around
        if element.tag in _CODES:
            below = None if element.tag in retained else _CODES[element.tag]
        for item in element.items:
            yield from _walk(item, retained, sets, below)


def _text(element: Element, sets: tuple[str, ...], vr: str) -> str:
    return "\n".join(readings(bytes(element.value), sets, vr))


def _parts(element: Element, sets: tuple[str, ...], vr: str) -> list[str]:
    """Return the values in every reading of their bytes."""
    text = "\\".join(readings(bytes(element.value), sets, vr))
    return [part.strip(" \0") for part in dict.fromkeys(text.split("\\"))]


def _is_description(tag: int, rules: Rules) -> bool:
    row = rules.rows.get(tag)
    return row is not None and "descriptors" in row.options


def _add_value(seeds: Seeds, vr: str, part: str) -> None:
    """Add a value that names somebody or something by what it is."""
    if vr == "PN":
        seeds.add_name(part)
        for name in unsplit_parts(part):
            seeds.add_name(name)
    elif vr == "UI":
        if len(part) >= 8 and not is_standard_uid(part):
            seeds.uids.add(part)
    elif vr in ("DA", "DT"):
        day = parse_day(part)
        if day is not None:
            seeds.add_date(day)
    else:
        _add_whole(seeds, part)


def _add_whole(seeds: Seeds, part: str) -> None:
    """Add a text as a whole, and the words of it that nobody knows."""
    seeds.add_identifier(part)
    for word in _unknown(part):
        seeds.add_name(word)


def _unknown(part: str) -> list[str]:
    return [w for w in words(part) if len(w) >= _MIN_WORD and w.isalpha() and not is_known_word(w)]


def _add_told(seeds: Seeds, kind: Kind, part: str) -> None:
    """Add whom or what plain words name, unless they are ordinary words of a department."""
    unknown = _unknown(part)
    if kind == "person":
        # PS3.3 10.1.1: the meaning may be written by the rules of PN.
        if unknown or "^" in part:
            seeds.add_name(part)
        elif len(words(part)) > 1:
            seeds.add_identifier(part)
        return
    if unknown or (kind == "institution" and len(words(part)) > 1):
        _add_whole(seeds, part)
    if kind == "institution":
        _add_acronyms(seeds, part)


def _add_acronyms(seeds: Seeds, part: str) -> None:
    """Add what an institution is called for short: three capitals that are no known word."""
    for word in _ACRONYM.findall(part):
        if word.isupper() and not is_known_word(fold(word)):
            seeds.add_name(word)


def _add_title(seeds: Seeds, title: str) -> None:
    """Add the title of a station, unless it is the one its product came with."""
    folded = fold(title)
    digits = len(_DIGIT.findall(folded))
    telling = [w for w in words(_DIGIT.sub(" ", folded)) if len(w) >= _MIN_WORD]
    telling = [w for w in telling if not (is_known_word(w) or is_maker(w) or _PRODUCT.fullmatch(w))]
    if not telling and digits < _MIN_TITLE_DIGITS:
        return
    seeds.add_identifier(title)
    for word in telling:
        seeds.add_name(word)


def _add_private(seeds: Seeds, element: Element, sets: tuple[str, ...]) -> None:
    """Add the words of a private value that is written like a name (`Family^Given`).

    A value of unknown representation may hold items: there each run of text is looked at.
    """
    raw = bytes(element.value) if len(element.value) <= _MAX_PRIVATE_ITEM else b""
    if b"^" not in raw:
        return
    is_item = element.vr == "UN" and raw.startswith(_ITEM)
    for run in _TEXT_RUN.findall(raw) if is_item else (raw,):
        text = (decode_text(run, sets, "PN") or "").strip(" \0")
        if len(run) <= _MAX_PRIVATE_NAME and _PRIVATE_NAME.fullmatch(text):
            for word in _unknown(text):
                seeds.add_name(word)
