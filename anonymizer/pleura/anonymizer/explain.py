"""Explain: which rule decides about each element of one file, and where that rule stands.

Reads one file and changes nothing. It says what the rules order; whether a text really held a
name is seen only by the de-identification itself, which also puts a dummy or an empty value back
where the object's definition wants one. Values are shown only if asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydicom.datadict import keyword_for_tag

from pleura.anonymizer.burnedin.policy import check_face
from pleura.anonymizer.content_items import tells_identity
from pleura.anonymizer.errors import Quarantined
from pleura.anonymizer.header import character_sets_of, read_header
from pleura.anonymizer.iod import attribute_type
from pleura.anonymizer.private import safe_rows_of
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.rules import Rules, describe, is_misplaced, load_rules
from pleura.anonymizer.source import FileSource, Span
from pleura.anonymizer.text import decode_text
from pleura.anonymizer.wire import PIXEL_TAGS, DicomFile, Element, parse_file

RuleSource = Literal[
    "row 2024e", "row 2026c", "house", "house group", "keep list", "minimal list", "structure",
    "option", "safe private list", "private", "misplaced", "telling item", "no rule",
]  # fmt: skip
"""Where a rule stands: an edition of PS3.15 Table E.1-1, a house row or one of our lists."""

_ORDERS: Final = {
    "X": "remove", "Z": "empty", "D": "dummy", "U": "map UID", "K": "keep if clean",
    "shift": "shift date", "recurse": "clean items",
    "C": "clean words",
}  # fmt: skip
# What the engine writes anew in every object, whatever the rows say.
_WRITTEN: Final = {0x00100010: "pseudonym", 0x00100020: "pseudonym"} | dict.fromkeys(
    (0x00120062, 0x00120063, 0x00120064, 0x00280303), "mark"
)
_BY_VR: Final = "rule of"
LEGEND: Final = {
    "remove": "it goes",
    "empty": "it stays without its value",
    "dummy": "an invented value of its kind",
    "map UID": "another UID, everywhere the same one",
    "pseudonym": "the patient's pseudonym",
    "mark": "written anew: says what was done",
    "shift date": "moved by the patient's number of days",
    "keep time": "the time of day stays",
    "clean items": "it stays; its items follow, each element with its own rule",
    "clean words": "only words known to be harmless stay",
    "keep if clean": "it stays, but for what names the patient",
    f"{_BY_VR} ..": "the kind of value (VR) decides: numbers and codes stay, texts are cleaned",
    "row 2024e": "PS3.15 Table E.1-1, edition 2024e",
    "row 2026c": "PS3.15 Table E.1-1, edition 2026c",
    "house": "Pleura's own rule, where the table has none",
    "house group": "Pleura's own rule for a whole group",
    "keep list": "harmless: on Pleura's list of what may stay",
    "minimal list": "harmless, but this profile keeps fewer attributes",
    "structure": "lengths, curves and overlays, treated by their form",
    "option": "an option of the profile changes the row of the table",
    "safe private list": "PS3.15 Table E.3.10-1: private, but known to be safe",
    "private": "private attributes go",
    "misplaced": "pixel data or its tables where nobody reads them",
    "telling item": "the concept says who somebody is, how old or how to reach them",
    "no rule": "nobody says that it is harmless",
}
"""What the words for actions and rules mean; `rule of ..` stands for that of any VR."""
_BODY_PART: Final = 0x00180015
_SHOWN_CHARACTERS: Final = 64
_NUMBERS: Final = {
    "US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "UV": "u8", "SV": "i8", "FL": "f4",
    "FD": "f8", "AT": "u2",
}  # fmt: skip
_SOP_CLASS: Final = 0x00080016


@dataclass(frozen=True, slots=True)
class Explained:
    """What happens to one element; `value` is None unless values were asked for.

    `keyword`: the dictionary's, empty for a private or unknown element.
    """

    path: str
    keyword: str
    vr: str
    action: str
    source: RuleSource
    value: str | None


def explain(path: Path, profile: Profile, *, show_values: bool = False) -> Iterator[Explained]:
    """Yield every element of the file's data set, nested ones after their sequence.

    Items of a removed sequence are not listed: they go with it.

    Raises:
        Quarantined: the file cannot be read as DICOM.
        RulesDamaged: a shipped table is damaged.
        OSError: the file cannot be opened.
    """
    source = FileSource(path)
    try:
        yield from explain_parsed(parse_file(source), profile, show_values=show_values)
    finally:
        source.close()


def refusal_of(path: Path) -> str:
    """Return the code a file would be refused with because of what it is, or nothing.

    What its pixels, its study or a defect would cost it shows only when it is de-identified.

    Raises:
        Quarantined: the file cannot be read as DICOM.
        OSError: the file cannot be opened.
    """
    with FileSource(path) as source:
        parsed = parse_file(source)
        try:
            check_face(read_header(parsed), _text(parsed.elements, _BODY_PART))
        except Quarantined as exc:
            return exc.code
    return ""


def explain_parsed(
    parsed: DicomFile, profile: Profile, *, show_values: bool = False
) -> Iterator[Explained]:
    """Yield what `explain` does, of a file that is read already.

    Raises:
        RulesDamaged: a shipped table is damaged.
    """
    given = _Given(
        load_rules(), profile, _text(parsed.elements, _SOP_CLASS), show_values,
        parsed.syntax.big_endian,
    )  # fmt: skip
    yield from _walk(parsed.elements, "", (), given)


def legend_of(lines: Iterable[Explained]) -> dict[str, str]:
    """Return the words that were used of `LEGEND`, in its order, and what they mean."""
    used: set[str] = set()
    for line in lines:
        is_by_vr = line.action.startswith(_BY_VR)
        used |= {f"{_BY_VR} .." if is_by_vr else line.action, line.source}
    return {word: meaning for word, meaning in LEGEND.items() if word in used}


def rule_source(rules: Rules, profile: Profile, tag: int, vr: str) -> RuleSource:
    """Return where the rule for an attribute of the standard or a private one stands."""
    group = tag >> 16
    if group & 1:
        return "private"
    if group < 8 or tag & 0xFFFF == 0 or 0x5000 <= group <= 0x50FF or 0x6000 <= group <= 0x60FF:
        return "structure"
    if group in rules.house_groups:
        return "house group"
    row = rules.rows.get(tag)
    if row is not None:
        plain = profile.model_copy(update=_NO_OPTIONS)
        if rules.resolve(tag, vr, profile) != rules.resolve(tag, vr, plain):
            return "option"
        return "house" if row.edition == "house" else _EDITIONS[row.edition]
    if tag not in rules.kept:
        return "no rule"
    is_cut = profile.keep == "minimal" and group not in rules.minimal_groups
    return "minimal list" if is_cut else "keep list"


_EDITIONS: Final[dict[str, RuleSource]] = {"2024e": "row 2024e", "2026c": "row 2026c"}
_NO_OPTIONS: Final[dict[str, object]] = {
    "dates": "remove", "year_only": False, "shift_time": False, "clean_descriptors": False,
    "clean_structured_content": False, "clean_graphics": False, "safe_private": False,
    "retain_patient_characteristics": False, "retain_device_identity": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Given:
    """What is the same for every element of the file."""

    rules: Rules
    profile: Profile
    sop_class: str
    show_values: bool
    big_endian: bool


def _walk(
    elements: Sequence[Element],
    above: str,
    character_sets: tuple[str, ...],
    given: _Given,
    path: tuple[int, ...] = (),
) -> Iterator[Explained]:
    rules, profile = given.rules, given.profile
    own = character_sets_of(elements)
    sets = character_sets if own is None else own
    listed = safe_rows_of(elements) if profile.safe_private else {}
    safe = set(listed) | {tag & 0xFFFF0000 | tag >> 8 & 0xFF for tag in listed}  # creators too
    is_encapsulated = any(e.is_encapsulated for e in elements if e.tag in PIXEL_TAGS)
    for element in elements:
        tag, vr = element.tag, element.vr
        where, name = above + describe(tag), keyword_for_tag(tag)
        value = None
        if given.show_values:
            value = _shown(element, sets, big_endian=given.big_endian)
        if tag in safe:
            yield Explained(where, name, vr, "keep if clean", "safe private list", value)
            continue
        if is_misplaced(tag, path, is_encapsulated=is_encapsulated):
            yield Explained(where, name, vr, "remove", "misplaced", value)
            continue
        kind = attribute_type(given.sop_class, path, tag) if tag in rules.compound else None
        action = rules.resolve(tag, vr, profile, kind)
        is_plain = action in _ORDERS and (action, vr) != ("K", "AS")  # a kept age is capped
        order = _ORDERS[action] if is_plain else f"{_BY_VR} {vr}"
        if action == "shift" and vr == "TM" and not profile.shift_time:
            order = "keep time"
        if not path:
            order = _WRITTEN.get(tag, order)
        yield Explained(where, name, vr, order, rule_source(rules, profile, tag, vr), value)
        if action == "recurse" or (action == "vr" and vr == "SQ"):
            for number, item in enumerate(element.items or ()):
                place = f"{where}[{number}]"
                if tells_identity(item):
                    yield Explained(place, "", "", "remove", "telling item", None)
                else:
                    yield from _walk(item, place, sets, given, (*path, tag))


def _text(elements: Sequence[Element], tag: int) -> str:
    found = (e.value for e in elements if e.tag == tag and e.items is None)
    return bytes(next(found, b"")).decode("latin-1").strip(" \0")


def _shown(element: Element, character_sets: Sequence[str], *, big_endian: bool) -> str:
    """Return the start of a value as printable text; control characters become dots."""
    if element.items is not None:
        return f"{len(element.items)} items"
    if isinstance(element.value, Span) or element.vr in ("OB", "OW", "OF", "OD", "OL", "OV", "UN"):
        return f"{len(element.value)} bytes"
    raw = bytes(element.value)
    if element.vr in _NUMBERS:
        return _numbers(raw, element.vr, big_endian=big_endian)
    text = (decode_text(raw, character_sets, element.vr) or raw.decode("latin-1")).strip(" \0")
    return "".join(c if c.isprintable() else "." for c in text[:_SHOWN_CHARACTERS])


def _numbers(raw: bytes, vr: str, *, big_endian: bool) -> str:
    """Return the first numbers of a value, none of them cut; a tag as `(0010,0020)`."""
    kind = np.dtype(_NUMBERS[vr]).newbyteorder(">" if big_endian else "<")
    if len(raw) % (4 if vr == "AT" else kind.itemsize):
        return f"{len(raw)} bytes"
    some = np.frombuffer(raw[: _SHOWN_CHARACTERS * kind.itemsize], kind)
    if vr == "AT":
        words = [describe(int(high) << 16 | int(low)) for high, low in some.reshape(-1, 2)]
    else:
        words = [str(number) for number in some]
    text = "\\".join(words)
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return text[: text.rindex("\\", 0, _SHOWN_CHARACTERS + 1)]
