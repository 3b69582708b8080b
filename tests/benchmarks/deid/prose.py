"""Free text with names in it, and harmless words around the names that may stay."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from tests.benchmarks.deid.tokens import Tokens

# (top-level attribute, VR, text); {..} are planted, all other words should survive
_TEXTS: tuple[tuple[int, str, str], ...] = (
    (0x00081030, "LO", "CT chest of {given} {family}"),
    (0x0008103E, "LO", "axial lung window {staff}"),
    (0x00181030, "LO", "routine thorax {family} low dose"),
    (0x00204000, "LT", "{family}, MRN {number}: nodule in right upper lobe, call {phone}"),
    (0x00104000, "LT", "allergic to contrast, {given} told by Prof. {staff} on {iso}"),
    (0x001021B0, "LT", "smoker with cough, mail {staff}@{word}.example, born {german}"),
    (0x00321060, "LO", "follow up for Dr. {staff}"),
    (0x00082111, "ST", "soft kernel, {native} {family}, chest"),
)
REPORT = "No pleural effusion. Mr {family} ({iso}) seen by {staff}, {native}."
_WORD = re.compile(r"[^\W\d_]{2,}")
_LABELS = {"mrn", "prof", "dr", "mr", "mail", "call"}  # a label may go with what it labels


@dataclass(frozen=True, slots=True)
class Person:
    """A patient's invented name, number and birthday; `native` is the name in a script."""

    family: str
    given: str
    native: str
    number: str
    birth: date


@dataclass(frozen=True, slots=True)
class Prose:
    """One text, the planted words in it and the harmless ones."""

    tag: int
    vr: str
    text: str
    words: tuple[str, ...]
    keep: tuple[str, ...]


def write_prose(person: Person, tokens: Tokens) -> tuple[Prose, ...]:
    """Return the texts of one file; staff, numbers and addresses are new in each."""
    return tuple(_written(tag, vr, text, person, tokens) for tag, vr, text in _TEXTS)


def write_report(person: Person, tokens: Tokens) -> Prose:
    """Return the text of one report item."""
    return _written(0x0040A160, "UT", REPORT, person, tokens)


def _written(tag: int, vr: str, text: str, person: Person, tokens: Tokens) -> Prose:
    birth = person.birth
    parts = {
        "family": person.family,
        "given": person.given,
        "native": person.native,
        "number": person.number,
        "staff": tokens.word(),
        "word": tokens.word().lower(),
        "phone": tokens.phone(),
        "iso": birth.isoformat(),
        "german": f"{birth:%d.%m.%Y}",
    }
    used = [name for name in parts if f"{{{name}}}" in text]
    plain = re.sub(r"\{\w+\}", " ", text)
    keep = tuple(w for w in _WORD.findall(plain) if w.lower() not in _LABELS | {"example"})
    return Prose(tag, vr, text.format(**parts), tuple(parts[name] for name in used), keep)
