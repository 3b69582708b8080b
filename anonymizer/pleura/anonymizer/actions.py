"""Actions on one element: dummies, mapped UIDs, shifted dates and the rules per VR.

Pure functions of an element, the file's `Context` and nothing else. None means the element
goes. What was done is counted by the caller, so a rule cannot forget to say so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom._uid_dict import UID_dictionary

from pleura.anonymizer import dates
from pleura.anonymizer.characters import are_words, hold_seed
from pleura.anonymizer.code_strings import IMAGE_TYPES, names_nobody
from pleura.anonymizer.coded import is_code
from pleura.anonymizer.colour import clean_profile
from pleura.anonymizer.numbers import WIDTHS, NumberSeeds, allows, is_lawful
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.prose import clean_prose
from pleura.anonymizer.pseudonyms import Pseudonyms
from pleura.anonymizer.rules import PIXEL_GROUP, Rules
from pleura.anonymizer.text import Seeds, decode_text, encode_text, known_character_set
from pleura.anonymizer.wire import Element, vr_of

DUMMY_TEXT: Final = "ANONYMIZED"
BLANK_PDF: Final = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\n"
    b"trailer<</Root 1 0 R>>\n%%EOF\n"
)
_DUMMIES: Final[dict[str, bytes]] = {
    "DA": b"19000101",
    "TM": b"000000",
    "DT": b"19000101000000",
    "AS": b"000Y",
    "DS": b"0",
    "IS": b"0",
    **dict.fromkeys(
        ["PN", "CS", "AE", "LO", "SH", "ST", "LT", "UT", "UC", "UR"], DUMMY_TEXT.encode()
    ),
    **dict.fromkeys(("US", "SS", "OB", "OW", "UN"), bytes(2)),
    **dict.fromkeys(("UL", "SL", "FL", "AT", "OF", "OL"), bytes(4)),
    **dict.fromkeys(("FD", "SV", "UV", "OD", "OV"), bytes(8)),
}
_SHORT_TEXTS: Final = frozenset({"LO", "SH", "UC", "CS"})
_LONGEST: Final = {"SH": 16, "LO": 64}  # characters, PS3.5 6.2
_FAMILIES: Final = (
    {"US", "SS", "UL", "SL", "UV", "SV"}, {"FL", "FD"}, {"OB", "OW", "OF", "OD", "OL", "OV"},
    _SHORT_TEXTS, {"LT", "ST", "UT"}, {"DS", "IS"},
)  # fmt: skip
_UID: Final = re.compile(r"[0-9.]{0,64}")
# No term of the standard has such a run of digits, or begins so.
_NAMING_CODE: Final = re.compile(r"\d{6}|\b(?:DR|MRN|SSN|DOB)[_ ]")
_CODE_STRING: Final = re.compile(r" *[A-Z0-9_ ]{0,16} *")
# Code value, scheme, version and long code are made of digits: seeds and few patterns.
_CODED: Final = frozenset({0x00080100, 0x00080102, 0x00080103, 0x00080119})
_COLOUR_PROFILE: Final = 0x00282000
# Streams of numbers that a text may pose as, by what their numbers are; longer ones are data.
_STREAMS: Final = {"OF": "FL", "OD": "FD", "OL": "UL", "OV": "UV"}
_SEARCHED: Final = 4096
# How a content item is built and related (PS3.3 C.17.3): enumerated, no other word is lawful.
_CONTENT_TERMS: Final[dict[int, frozenset[bytes]]] = {
    0x0040A010: frozenset(
        {b"CONTAINS", b"HAS PROPERTIES", b"HAS OBS CONTEXT", b"HAS ACQ CONTEXT"}
        | {b"INFERRED FROM", b"SELECTED FROM", b"HAS CONCEPT MOD"}
    ),
    0x0040A040: frozenset(
        {b"TEXT", b"NUM", b"CODE", b"DATETIME", b"DATE", b"TIME", b"UIDREF", b"PNAME", b"TABLE"}
        | {b"COMPOSITE", b"IMAGE", b"WAVEFORM", b"SCOORD", b"SCOORD3D", b"TCOORD", b"CONTAINER"}
    ),
    0x0040A050: frozenset({b"SEPARATE", b"CONTINUOUS"}),
}
# Versions look like dates and addresses (2.6.3.6): seeds only too.
_VERSIONS: Final = frozenset({0x00181020})
# Series, acquisition and instance number: order in a study; one that is an identifier becomes 0.
_ORDINALS: Final = frozenset({0x00200011, 0x00200012, 0x00200013})
CHARACTER_SET: Final = 0x00080005


@dataclass(slots=True)
class Tally:
    """Counts only; nothing here can hold a value."""

    actions: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    invalid_values: int = 0
    words_removed: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a rule may look at for one file."""

    rules: Rules
    profile: Profile
    key: Pseudonyms
    seeds: Seeds
    shift_days: int
    tally: Tally
    shift_seconds: int = 0
    sop_class: str = ""  # of the object, for the types of its attributes
    numbers: NumberSeeds = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", NumberSeeds(self.seeds))


def dictionary_vr(tag: int) -> str:
    """Return the first VR the dictionary gives a tag (`UN` for an unknown one)."""
    return (vr_of(tag) or "UN").split(" or ")[0]


def has_lawful_vr(tag: int, vr: str) -> bool:
    """Return whether a file may encode the tag like this; another VR may hide content."""
    allowed = set((vr_of(tag) or "UN").split(" or "))
    return vr in allowed or any(vr in family and allowed & family for family in _FAMILIES)


def is_standard_uid(uid: str) -> bool:
    """Return whether the standard itself assigned the UID; such a UID names no person."""
    return uid in UID_dictionary


def map_uids(element: Element, context: Context) -> Element:
    """Return the element with every UID of a person, device or object replaced."""
    text = bytes(element.value).decode("latin-1")
    mapped = [
        uid if not uid or is_standard_uid(uid) else context.key.uid(uid)
        for uid in (part.strip(" \0") for part in text.split("\\"))
    ]
    return Element(element.tag, "UI", "\\".join(mapped).encode())


def dummy(element: Element, context: Context, depth: int = 0) -> Element:
    """Return the element with a value that has the right form and says nothing."""
    tag, vr = element.tag, dictionary_vr(element.tag)
    if vr == "SQ":
        return Element(tag, vr, items=_dummy_items(element, context, depth))
    if vr == "UI":
        return map_uids(element, context)
    if tag == 0x00420011:
        return Element(tag, "OB", BLANK_PDF)
    if tag in _CONTENT_TERMS and bytes(element.value).strip(b" \0") in _CONTENT_TERMS[tag]:
        return Element(tag, "CS", bytes(element.value))
    return Element(tag, vr, _DUMMIES.get(vr, b""))


def _dummy_items(element: Element, context: Context, depth: int) -> list[list[Element]]:
    """Return one item of dummies shaped like the first item, or none."""
    if not element.items or depth > 8:
        return []
    first = [e for e in element.items[0] if e.tag >> 16 >= 8 and not (e.tag >> 16) & 1]
    public = [e for e in first if e.tag & 0xFFFF and e.tag >> 16 != PIXEL_GROUP]
    known = [e for e in public if vr_of(e.tag) not in (None, "NONE")]
    return [[dummy(e, context, depth + 1) for e in sorted(known, key=lambda e: e.tag)]]


def shift(element: Element, context: Context) -> Element | None:
    """Return the date or time moved by the patient's shift, or None if it is none."""
    text = bytes(element.value).decode("latin-1").strip(" \0")
    moved = [_shift_one(part, element.vr, context) for part in text.split("\\")]
    if any(part is None for part in moved):
        context.tally.invalid_values += 1
        return None
    return Element(element.tag, element.vr, "\\".join(p for p in moved if p).encode())


def _shift_one(value: str, vr: str, context: Context) -> str | None:
    if not value.strip():
        return ""
    if context.profile.year_only:
        return dates.year_of_date(value) if vr == "DA" else dates.year_of_datetime(value)
    if vr == "DA":
        return dates.shift_date(value, context.shift_days)
    if vr == "DT":
        return dates.shift_datetime(value, context.shift_days, context.shift_seconds)
    return dates.parse_time(value)


def shift_pairs(elements: Sequence[Element], context: Context) -> dict[int, Element | None]:
    """Return the DA and TM elements of one data set or item moved together by days and seconds.

    None means the value cannot stay. Empty unless the profile shifts the time of day too.
    """
    if not context.profile.shift_time:
        return {}
    texts: dict[str, dict[int, str]] = {"DA": {}, "TM": {}}
    for element in elements:
        if element.vr in texts and element.items is None:
            text = bytes(element.value).decode("latin-1").strip(" \0")
            texts[element.vr].setdefault(element.tag, text)
    moved = dates.shift_pairs(texts["DA"], texts["TM"], context.shift_days, context.shift_seconds)
    return {
        tag: None if text is None else Element(tag, _pair_vr(tag, texts), text.encode())
        for tag, text in moved.items()
    }


def _pair_vr(tag: int, texts: dict[str, dict[int, str]]) -> str:
    return "DA" if tag in texts["DA"] else "TM"


def by_representation(
    element: Element, character_sets: Sequence[str], context: Context, *, is_retained: bool
) -> Element | None:
    """Return what the VR's rule leaves of an element that no row removes.

    `is_retained`: an option keeps the attribute, so patterns and the age rule do not apply.
    """
    vr = element.vr
    if element.tag == CHARACTER_SET:
        terms = [t.strip(" \0") for t in bytes(element.value).decode("latin-1").split("\\")]
        if not known_character_set(terms):
            return None
        return element if vr == "CS" else Element(element.tag, "CS", bytes(element.value))
    if not has_lawful_vr(element.tag, vr):
        return None
    if vr in _SHORT_TEXTS and dictionary_vr(element.tag) in _SHORT_TEXTS:
        vr = dictionary_vr(element.tag)  # a file that calls a code a text gets the code's rule
    if element.tag in _CODED and vr in _SHORT_TEXTS and not is_code(element):
        context.tally.actions["seed"] += 1
        return Element(element.tag, element.vr)
    if vr in ("LO", "SH", "UC") or (is_retained and vr in ("LT", "ST", "UT", "UR")):
        return _short_text(element, character_sets, context, is_retained=is_retained)
    if vr in ("LT", "ST", "UT"):
        return _prose(element, character_sets, context)
    if vr in ("DA", "TM", "DT"):
        return shift(element, context) if context.profile.dates == "shift" else None
    if vr == "UI":
        stays = is_retained and _names_nobody(element, context)
        return element if stays else map_uids(element, context)
    if vr == "CS":
        return _code_string(element, context, is_retained=is_retained)
    rule = _RULES.get(vr)
    return rule(element, context) if rule else None


def _short_text(
    element: Element, character_sets: Sequence[str], context: Context, *, is_retained: bool
) -> Element:
    """Clean a short text by seeds and patterns; left empty it stays, so type 2 stays legal.

    An identifier or code that holds a seed is of no use in part, so it goes whole.
    """
    is_free = element.tag not in _CODED and not is_retained
    has_patterns = is_free and element.tag not in _VERSIONS
    strict = has_patterns and context.profile.strict_prose
    cleaned = clean_text(element, character_sets, context, strict=strict, patterns=has_patterns)
    return Element(element.tag, element.vr) if cleaned is not element and not is_free else cleaned


def clean_text(
    element: Element,
    character_sets: Sequence[str],
    context: Context,
    *,
    strict: bool,
    patterns: bool = True,
) -> Element:
    """Return a text cleaned value by value, in its own character set; unreadable: empty.

    A value longer than its VR allows is no name of a kernel or filter, so it is taken for prose.
    """
    text = decode_text(bytes(element.value), character_sets, element.vr)
    if text is None:
        context.tally.invalid_values += 1
        return Element(element.tag, element.vr)
    terms = context.rules.defined_terms
    parts = text.split("\\") if element.vr in _SHORT_TEXTS else [text]
    cleaned = [
        clean_prose(
            part,
            context.seeds,
            terms=terms,
            patterns=patterns,
            strict=strict or (patterns and len(part) > _LONGEST.get(element.vr, len(part))),
        )
        for part in parts
    ]
    removed = sum(part.removed_words for part in cleaned)
    if not removed and not context.seeds.found_in(text):
        return element
    context.tally.actions["seed"] += 1
    context.tally.words_removed += removed
    left = "\\".join(part.text for part in cleaned)
    raw = encode_text(left, character_sets, element.vr)
    if raw is None:
        context.tally.invalid_values += 1
    if raw is None or context.seeds.found_in(left):
        return Element(element.tag, element.vr)
    return Element(element.tag, element.vr, raw)


def _names_nobody(element: Element, context: Context) -> bool:
    """Return whether a kept UID is one, and none that names the object or what it belongs to."""
    parts = bytes(element.value).rstrip(b"\0").decode("latin-1").split("\\")
    return all(_UID.fullmatch(part.strip()) and part not in context.seeds.uids for part in parts)


def _code_string(element: Element, context: Context, *, is_retained: bool) -> Element | None:
    """Return the codes without the unlawful ones and those that may name somebody."""
    text = bytes(element.value).rstrip(b"\0").decode("latin-1")
    parts = text.split("\\")
    left = [part if _may_stay(part, element.tag, context, is_retained) else "" for part in parts]
    if left == parts:
        return element
    if not any(part.strip() for part in left):
        return None
    return Element(element.tag, element.vr, "\\".join(left).encode("ascii"))


def _may_stay(code: str, tag: int, context: Context, is_retained: bool) -> bool:
    if not _CODE_STRING.fullmatch(code):
        context.tally.invalid_values += 1
        return False
    word = code.strip()
    if word in context.rules.defined_terms:
        return True
    is_naming = _NAMING_CODE.search(word) or context.seeds.found_in(word)
    is_known = is_retained or names_nobody(word, is_image_type=tag in IMAGE_TYPES)
    if is_naming or not is_known:
        context.tally.actions["seed"] += 1
        return False
    return True


def _number(element: Element, context: Context) -> Element | None:
    """Return numbers as they are; what is no number, or an identifier, goes."""
    raw = bytes(element.value).rstrip(b"\0")
    if not is_lawful(raw):
        context.tally.invalid_values += 1
        return None
    if context.numbers.in_text(element.tag, raw):
        context.tally.actions["seed"] += 1
        return dummy(element, context) if element.tag in _ORDINALS else None
    return element


def _age(element: Element, context: Context) -> Element | None:
    if not context.profile.retain_patient_characteristics:
        return None
    text = bytes(element.value).decode("latin-1").strip(" \0")
    if not text:
        return element
    capped = dates.cap_age(text)
    if capped is None:
        context.tally.invalid_values += 1
        return None
    return Element(element.tag, element.vr, capped.encode())


def _prose(element: Element, character_sets: Sequence[str], context: Context) -> Element | None:
    """Clean prose strictly; what a rule keeps no object may lack, so left empty it is a dummy."""
    cleaned = clean_text(element, character_sets, context, strict=True)
    if bytes(cleaned.value).strip(b" \0"):
        return cleaned
    return dummy(element, context) if element.tag in context.rules.kept else None


def _bulk(element: Element, context: Context) -> Element | None:
    if element.tag not in context.rules.bulk:
        return None
    if element.tag != _COLOUR_PROFILE:
        numbers = _STREAMS.get(element.vr) if element.tag >> 16 != PIXEL_GROUP else None
        if numbers and len(element.value) <= _SEARCHED:
            return None if _is_text(bytes(element.value), numbers, context) else element
        return element
    profile = clean_profile(bytes(element.value))
    if profile is None:
        context.tally.invalid_values += 1
        return None
    return Element(element.tag, element.vr, profile)


def _binary_number(element: Element, context: Context) -> Element | None:
    """Return numbers as they are; what is none, text or an identifier in truth, goes.

    Bytes that make no whole number, or more numbers than the attribute has, are none.
    """
    raw = bytes(element.value)
    count, rest = divmod(len(raw), WIDTHS[element.vr])
    if rest or not allows(element.tag, count):
        context.tally.invalid_values += 1
        return None
    if context.numbers.in_binary(element.tag, element.vr, raw):
        context.tally.actions["seed"] += 1
        return None
    return None if _is_text(raw, element.vr, context) else element


def _is_text(raw: bytes, vr: str, context: Context) -> bool:
    """Return whether binary numbers are text in truth, and count it."""
    is_text = are_words(raw, vr) or hold_seed(raw, context.seeds, context.numbers.foreign)
    context.tally.actions["seed"] += is_text
    return is_text


_RULES: Final[dict[str, Callable[[Element, Context], Element | None]]] = {
    "AS": _age,
    **dict.fromkeys(("DS", "IS"), _number),
    **dict.fromkeys(("OB", "OW", "OF", "OD", "OL", "OV"), _bulk),
    **dict.fromkeys(WIDTHS, _binary_number),
}
