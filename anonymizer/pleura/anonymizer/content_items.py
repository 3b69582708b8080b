"""Content items: which items of a report say who somebody is, how old, or how to reach him.

The value of such an item is a plain number, text or code that no rule of its representation
finds, so the item goes as a whole. It is known by the code of its concept, by what a code that
others made up means, or as a time above 89 years.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from pleura.anonymizer.wire import Element

_CONCEPT_NAME: Final = 0x0040A043
_MEASURED_VALUE: Final = 0x0040A300
_NUMERIC_VALUE: Final = 0x0040A30A
_UNITS: Final = 0x004008EA
_CODE_VALUES: Final = frozenset({0x00080100, 0x00080119})
_CODE_MEANING: Final = 0x00080104

_TELLING: Final = frozenset(
    {
        # PS3.16 TID 1007: subject name, ID, birth date, age
        "121029", "121030", "121031", "121033",
        # age of the patient: SNOMED CT and LOINC
        "397669002", "424144002", "30525-0", "63900-5",
        # telephone, mobile telephone, address, ZIP, city, mail, birth date of the patient
        "184103008", "428481002", "184097001", "184099003", "42077-8", "45401-7", "56799-0",
        "68997-6", "76458-9", "21112-8",
        # accession number; person ID and who gave it; login name of an observer
        "121022", "113871", "113872", "128774", "128775",
        # observer and subject devices: name, serial number, location
        "121013", "121016", "121017", "121193", "121196", "121197",
        # specimen, slide, container, lot, vial and prescription numbers, and who gave them
        "121040", "121041", "121043", "111700", "111705", "111706", "111724", "121148", "121149",
        "113511", "113512", "113513", "113514", "113516", "110190", "121000",
    }
)  # fmt: skip
_TELLING_WORDS: Final = re.compile(
    r"\b(?:tele(?:ph|f)on\w*|phone|fax|e-?mail|zip code|post(?:al ?)?code|postleitzahl"
    r"|(?:home|street|postal|mailing|patient(?:'s)?) address|adresse|anschrift"
    r"|date of birth|birth ?date|geburtsdatum|medical record number|mrn|social security)\b"
)
_AGE: Final = re.compile(
    r"(?:(?:patient|subject|current|chronological)(?:'s)? )*age"
    r"(?: of (?:the )?(?:patient|subject))?|(?:patienten|lebens)?alter"
)
# HIPAA 164.514(b)(2)(i)(C): no age above 89. UCUM units of time, and the first value above.
_TOO_OLD: Final = {"a": 90, "mo": 90 * 12, "wk": 90 * 52, "d": 90 * 365}
_PLAIN_NUMBER: Final = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


def tells_identity(item: Sequence[Element]) -> bool:
    """Return whether the item has to go; one without a concept name is no content item."""
    concepts = list(_codes(item, _CONCEPT_NAME))
    if not concepts:
        return False
    for values, meaning in concepts:
        if not _TELLING.isdisjoint(values):
            return True
        if _TELLING_WORDS.search(meaning) or _AGE.fullmatch(meaning):
            return True
    measured = [inner for e in item if e.tag == _MEASURED_VALUE for inner in e.items or ()]
    return any(_is_too_old(one) for one in (item, *measured))


def without_identity(elements: Sequence[Element]) -> list[Element]:
    """Return the elements without such items, at any depth, so that both trees pair up."""
    left: list[Element] = []
    for element in elements:
        if element.items:
            items = [without_identity(i) for i in element.items if not tells_identity(i)]
            left.append(Element(element.tag, element.vr, items=items))
        else:
            left.append(element)
    return left


def _codes(item: Sequence[Element], tag: int) -> Iterator[tuple[set[str], str]]:
    """Yield values and meaning, in lower case, of every code of a sequence."""
    for element in item:
        for code in (element.items or ()) if element.tag == tag else ():
            values = {_text(e) for e in code if e.tag in _CODE_VALUES}
            meanings = [_text(e) for e in code if e.tag == _CODE_MEANING]
            yield values, " ".join(" ".join(meanings).lower().split())


def _is_too_old(item: Sequence[Element]) -> bool:
    units = {value for values, _ in _codes(item, _UNITS) for value in values}
    limits = [limit for unit, limit in _TOO_OLD.items() if unit in units]
    numbers = [bytes(e.value) for e in item if e.tag == _NUMERIC_VALUE and e.items is None]
    parts = [part.strip(b" \0") for number in numbers for part in number.split(b"\\")]
    return any(
        float(part) >= limit for limit in limits for part in parts if _PLAIN_NUMBER.fullmatch(part)
    )


def _text(element: Element) -> str:
    return "" if element.items is not None else bytes(element.value).decode("latin-1").strip(" \0")
