"""Content items: which items of a report say who somebody is, how old, or how to reach him.

The value of such an item is a plain number, text or code that no rule of its representation
finds, so the item goes as a whole. It is known by the code of its concept, by what a code that
others made up means, or as a time above 89 years.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from pleura.anonymizer.text import fold
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
        # who observed, performed and ordered, as names or as codes; organisation; order numbers
        "121008", "121009", "121020", "121021", "121114", "121152", "113850", "113870", "113873",
        # observer and subject devices: name, serial number, location
        "113877", "113880", "121013", "121016", "121017", "121193", "121196", "121197",
        # specimen, slide, container, lot, vial and prescription numbers, and who gave them
        "121040", "121041", "121043", "111700", "111705", "111706", "111724", "121148", "121149",
        "113511", "113512", "113513", "113514", "113516", "110190", "121000",
    }
)  # fmt: skip
# Concepts are matched folded: lower case, without accents.
_TELLING_WORDS: Final = re.compile(
    r"\b(?:tele(?:ph|f)on\w*|phone|tel|fax|call ?back|rufnummer|handy(?:nummer)?|e-?mail|courriel"
    r"|mobile (?:phone|number|no)|zip code|post(?:al ?)?code|code postal|codigo postal|postleitzahl"
    r"|(?:home|street|postal|mailing|patient(?:'s)?) address|adresse|anschrift|direccion|indirizzo"
    r"|date of birth|birth ?(?:date|day)|born|geburts(?:datum|tag)|geboren|geboortedatum"
    r"|date de naissance|nee? le|fecha de nacimiento|nacid[oa]|data di nascita|nat[oa] il"
    r"|data de nascimento|medical record number|mrn|social security|(?:insurance|policy) number"
    r"|(?:patient|subject)(?:'s)?[ -](?:id|identifier|number|no|name)"
    r"|patienten-?(?:id|nummer|nr|name)|(?:kranken|renten|sozial)?versicher\w*nummer"
    r"|fallnummer|aktennummer|aktenzeichen|nom du patient)\b"
)
_TELLING_CONCEPT: Final = re.compile(
    r"""
      (?:contact|kontakt|contatto|contacto)
        (?:[ -]?(?:number|no|phone|details|data|person|info|information|name|nummer|daten))?
    | (?:(?:family|given|first|last|full|sur)[ -]?)?name | vorname | nachname | nom | prenom
    | nombre | (?:observer[ ])?(?:organi[sz]ation|institution|hospital)(?:'s)?[ ]name
    | (?:name[ ]of[ ](?:the[ ])?)?(?:[\w'-]+[ ])?
        (?:doctor|physician|radiologist|cardiologist|surgeon|sonographer|technologist|technician
          |radiographer|operator|observer|arzt|arztin|aerztin|radiologe|radiologin|untersucher
          |medecin|radiologue|medico|radiologo)
        (?:'s)?(?:[ ](?:name|id|identifier|number|signature|traitant|tratante))?
    """,
    re.VERBOSE,
)
_AGE: Final = re.compile(
    r"""
    (?: (?:(?:patient|subject|current|chronological)(?:'s)?[ ])*age
          (?:[ ]of[ ](?:the[ ])?(?:patient|subject))?
          (?:[ ]at[ ](?:the[ ])?(?:time[ ]of[ ])?(?:the[ ])?(?:exam\w*|scan\w*|study|imaging
            |acquisition|visit|procedure|presentation|admission|baseline|investigation))?
      | (?:patienten|lebens)?alter(?:[ ]de[sr][ ]patient(?:in|en))?
          (?:[ ]bei[ ](?:der[ ])?(?:untersuchung|aufnahme|studie))?
      | age[ ](?:du|de[ ]la)[ ]patiente? | age[ ](?:a|lors[ ]de)[ ]l'examen
      | eta(?:[ ]del(?:la)?[ ]paziente)? | edad(?:[ ]del?(?:[ ]la)?[ ]paciente)?
      | idade(?:[ ]d[oa][ ]paciente)? | leeftijd(?:[ ]van[ ]de[ ]patient)?
    )
    (?:,?[ ]?[(\[]?(?:in[ ])?(?:a|y|yrs?|years?|jahren?|ans|annees|anni|anos|jaar)[)\]]?)?
    """,
    re.VERBOSE,
)
_SAYS_AGE: Final = re.compile(r"\b(?:age|aged|[a-z]*alter|eta|edad|idade|leeftijd)\b")
_RELATIVE: Final = re.compile(r"percent|perzentil|z-?score|ratio|index")
# HIPAA 164.514(b)(2)(i)(C): no age above 89. UCUM units of time, and the first value above.
_YEARS, _MONTHS, _WEEKS, _DAYS, _HOURS = 90, 90 * 12, 90 * 52, 90 * 365, 90 * 365 * 24
_TOO_OLD: Final = {
    **dict.fromkeys(("a", "a_j", "a_g", "a_t"), _YEARS),
    **dict.fromkeys(("mo", "mo_j", "mo_g"), _MONTHS),
    "wk": _WEEKS,
    "d": _DAYS,
    "h": _HOURS,
    "min": _HOURS * 60,
    "s": _HOURS * 3600,
}
_TOO_OLD_WORDS: Final = {
    word: limit
    for limit, words in (
        (_YEARS, "year years yr yrs jahr jahre jahren an ans annee annees anno anni ano anos jaar"),
        (_MONTHS, "month months monat monate monaten mois mes meses mese mesi maand maanden"),
        (
            _WEEKS,
            "week weeks woche wochen semaine semaines semana semanas settimana settimane weken",
        ),
        (_DAYS, "day days tag tage tagen jour jours dia dias giorno giorni dag dagen"),
        (_HOURS, "hour hours stunde stunden heure heures hora horas ora ore uur"),
        (_HOURS * 60, "minute minutes minuten minuto minutos minuti"),
        (_HOURS * 3600, "second seconds sekunde sekunden seconde secondes segundos secondi"),
    )
    for word in words.split()
}
# No age has these, whatever its concept says.
_NO_TIME: Final = re.compile(r"[munkc]?(?:m[23]?|l|g|Pa|V|Hz|Gy|Bq)|%|mm\[Hg\]|\[hnsf'U\]|\{.+\}")
_PLAIN_NUMBER: Final = re.compile(rb"[+-]?(\d+(?:\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")


def tells_identity(item: Sequence[Element]) -> bool:
    """Return whether the item has to go; one without a concept name is no content item."""
    concepts = list(_codes(item, _CONCEPT_NAME))
    if not concepts:
        return False
    for values, meaning in concepts:
        if not _TELLING.isdisjoint(values) or _is_telling(meaning):
            return True
    says_age = any(_SAYS_AGE.search(m) and not _RELATIVE.search(m) for _, m in concepts)
    measured = [inner for e in item if e.tag == _MEASURED_VALUE for inner in e.items or ()]
    return any(_is_too_old(one, says_age=says_age) for one in (item, *measured))


@lru_cache(maxsize=4096)
def _is_telling(meaning: str) -> bool:
    """Return whether a concept means a person, an address, an age or a number of somebody."""
    return bool(
        _TELLING_WORDS.search(meaning)
        or _TELLING_CONCEPT.fullmatch(meaning.rstrip(".: "))
        or _AGE.fullmatch(meaning.rstrip(".: "))
    )


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
    """Yield values, and meaning folded, of every code of a sequence."""
    for element in item:
        for code in (element.items or ()) if element.tag == tag else ():
            values = {_text(e) for e in code if e.tag in _CODE_VALUES}
            meanings = [_text(e) for e in code if e.tag == _CODE_MEANING]
            yield values, " ".join(fold(" ".join(meanings)).split())


def _is_too_old(item: Sequence[Element], *, says_age: bool) -> bool:
    """Return whether a time is above 89 years; that of an age of an unknown unit is in years."""
    numbers = [bytes(e.value) for e in item if e.tag == _NUMERIC_VALUE and e.items is None]
    if not numbers:
        return False
    limits: list[int] = []
    units = list(_codes(item, _UNITS))
    for values, meaning in units:
        limits += [_TOO_OLD[value] for value in values if value in _TOO_OLD]
        words = {meaning, *map(fold, values)}
        limits += [_TOO_OLD_WORDS[word] for word in words if word in _TOO_OLD_WORDS]
    if says_age and not limits and not any(_NO_TIME.fullmatch(v) for vs, _ in units for v in vs):
        limits = [_YEARS]
    parts = [part.strip(b" \0") for number in numbers for part in number.split(b"\\")]
    return any(
        float(part) >= limit for limit in limits for part in parts if _PLAIN_NUMBER.fullmatch(part)
    )


def _text(element: Element) -> str:
    """Return a text as UTF-8 if it can be that: here no character set is known."""
    if element.items is not None:
        return ""
    raw = bytes(element.value)
    try:
        return raw.decode("utf-8").strip(" \0")
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip(" \0")
