"""Persons: the words that a title or label in a text tells to be somebody's name (DEID 6).

After a title the next word goes whatever it is, and a second one where capitals, an initial, a
hyphen or an `and` say that it is a name too: `Dr. J. White informed` loses `Dr. J. White`. Where
capitals tell nothing, because all letters have one case, ordinary words stay. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pleura.anonymizer.patterns import SPACED_LETTERS
from pleura.anonymizer.vocabulary import is_known_word, load_vocabulary

MAX_NAME_WORDS: Final = 4
MAX_SINGLES: Final = 4
MAX_STRETCH: Final = 80
MIN_NAME: Final = 3
MIN_VERB: Final = 5
MIN_CAPITALS: Final = 4  # CT and MRT are no names among small letters, LANG may be one

_WORD: Final = re.compile(r"[^\W_]+")
# Sizes, kernels and series words: 512x512, 5mm, B70f, FC51, T1W, Br40d, I30f3.
TECHNICAL: Final = re.compile(
    r"\d{1,4}[a-z]{0,4}|\d{1,4}(?:x\d{1,4}){1,3}|[a-z]{1,3}\d{1,3}[a-z]{0,3}\d?"
)
# A title or a phrase that announces a person: the next word goes whatever it is.
ANNOUNCED: Final = re.compile(
    r"""
    (?: \b(?P<plural>drs|dres|doctors)\b\.?
      | (?P<title>\b(?:dr|dra|prof|professor|mr|mrs|ms|miss|herr|herrn|frau|mme|monsieur|madame
          |senor|senora|sra)\b\.?
        | \bsr\.                                      # Spanish; SR is a modality
        | \bdipl\.[\s-]{1,2}(?:med|ing|psych|biol|phys)\b\.? | \bpriv\.?[\s-]{0,2}doz\b\.?
        | \b(?:hrn?|fam)\. | (?<!\d)(?<!\d\s)\bfr\.)  # HR is a rate, 8 Fr. a width
      | (?P<phrase>\b(?:signed|reported|dictated|read|reviewed|referred|ordered|requested|performed
            |verified|approved|transcribed|interpreted|befundet|unterzeichnet|signe|firmado|informado)
          \s+(?:by|von|durch|par|por)\b)
      | (?P<label>\b(?:lives|living|resides|residing|resident|wohnhaft|habite|vive)
          \s+(?:in|at|of|a|en)\b
        | \b(?:born|geboren)\s+in\b
        | \b(?:name|vorname|nachname|nom|prenom|nombre|apellido|patient\s?name|patient|paciente|pt
            |mrn|dob|ssn|id|acc|accession|radiologist|radiologe|physician|attending|referring
            |surgeon|technologist|tech|operator|doctor|arzt|medecin|medico|sonographer|nurse|mother
            |father|address|phone|tel|fax)\s?(?:no|nr|number)?\s*[:=\#])
    ) [\s:.=\#]*
    """,
    re.VERBOSE,
)
# Who somebody is, before a colon or not: unknown words go, known ones that look like names too.
_ROLE: Final = r"""(?:nurse|physician|radiologist|attending|doctor|technologist|surgeon|consultant
    |radiographer|registrar|referrer|gp|radiolog(?:e|in)|(?:ober|assistenz|chef|fach|haus)arzt
    |(?:ober|assistenz|chef|fach|haus)(?:ae|a)rztin|zuweiser(?:in)?|ue?berweiser(?:in)?|mtra?|mtar
    |kolleg(?:en?|in)|schwester|pfleger|ehe(?:frau|mann)|wife|husband)"""
SUSPECTED: Final = re.compile(
    rf"""
    (?: (?P<named>\b(?:{_ROLE}|visum|diktat|diktiert|schreibkraft|untersucher(?:in)?|befunder(?:in)?
          |mutter|vater|tochter|sohn|daughter|son|spouse|sister|brother|carer|contact|signed|gez
          |dictated|author|typist|transcriptionist|clinician|requester|patientin|pat|vidiert
          |unterschrift|signature)\.?\s*[:=]|(?<!\d)(?<!\d\s)\bcc:)
      | (?P<role>\b{_ROLE}\b
        | \b(?:discussed|spoke|besprochen|ru?e?cksprache|diskutiert)\s+(?:with|to|mit)\b | \bd/w\b
        | \bcalled\s+to\b | \bref\b\.? | \b(?:patient|name)\s+is\b
        | \bpatient(?:en)?\s?name\b | (?<!\w\s)\bname\b)
      | (?P<short>\b(?:oa|pd|hrn?)\b|(?<!\d)(?<!\d\s)\bfr\b)  # findings, weightings, rates too
      | (?P<weak>\b(?:patient|pt|arzt|paciente|mrn|accession|dictating|son|daughter|mother|father
          |sister|brother|spouse)\b)
    ) [\s:.]*
    """,
    re.VERBOSE,
)
_DEGREE: Final = re.compile(
    r"(?<=[^\W\d_])[\s,]{1,3}(?P<degree>md|m\.d\.|phd|frcr|mbbs|facr)(?!\w)"
)
_BEFORE_DEGREE: Final = re.compile(
    r"(?:(?<!\w)(?:[^\W\d_]\.?|[^\W\d_]{3,})\s+){0,2}(?P<name>[^\W\d_]{3,}(?:-[^\W\d_]{2,})?)\Z"
)
_HYPHEN: Final = re.compile(r"-(?:[ \t]*\r?\n[ \t]*)?")
_BREAK: Final = re.compile(r"[;:\n()]")
_JOINING: Final = re.compile(r"\s*[/&,+]\s*")
_SMALL: Final = frozenset(
    ["patient", "pt", "son", "daughter", "mother", "father", "sister", "brother", "spouse"]
)
_NUMBERED: Final = frozenset(["label", "phrase"])  # whose names may be numbers
_SHORT: Final = frozenset(["OA", "PD", "Hr", "Fr"])
_AND: Final = frozenset(["und", "and", "u", "et", "y", "e", "i"])
_TITLE_WORDS: Final = (
    "dr dra drs dres prof professor mr mrs ms miss herr herrn frau mme md phd med by von univ habil"
    " dipl priv doz dent vet rer nat ing hr hrn fam"
)
_TITLES: Final = frozenset(_TITLE_WORDS.split())
_MODALITIES: Final = frozenset(["mr", "dr", "ms"])  # without a dot or a colon no title
_PARTICLES: Final = frozenset(
    ["van", "von", "der", "den", "de", "del", "la", "le", "di", "da", "bin", "ibn", "el", "al"]
)
# Written with a capital beside a name, and nobody's name: how sentences and headings begin.
_COMMON_WORDS: Final = """
    abdomen abteilung acute adc addendum aktuell ambulanz anamnese ankle arm arzt attending
    aufnahme axial back becken befund bein beurteilung bild both breast brust call case chest
    chief clear clinic clinical comment comparison contrast control coronal ct das date
    department der diabetes diagnose die diffusion diffusivity doctor ein eine einweisung elbow
    emergency ergebnis erguss exam examination fast fat femur findings finger follow foot for
    fuss general hals hand head healthy heart her herz hip his history hospital hufte ihr ihre
    im image images imaging impression in indication kein keine klinik klinisch knee knie
    kontrast kontrolle kopf koronar leber left leg links liver lower lumbar lung lunge lungen
    lungs magen mass mean medical mr mrt name neck no nodule normal not notes nurse oberarzt
    office on operation orthopedic patient patientin pelvis phone physician please practitioner
    praxis prior quality radiologie radiologist radiology rechts repeat report right rippe
    rontgen routine sagittal see seen series she shoulder sicht sie signed skull specialist spin
    spine statement station status study surgeon surgery surgical team technique technologist
    telefon tensor termin the they this thorax transversal turbo ultrasound und unit
    untersuchung upper verlauf views visit ward was weighted wie wirbel wrist yes zustand
    zuweiser
"""
_COMMON: Final = frozenset(_COMMON_WORDS.split())
_LINKING_WORDS: Final = """
    about after agrees also asks auch been before beim both does during fand from have hatte into
    kein ohne says saw sein seit sich sowie that then there wants weil were what when where which
    while wird will wird with within without wurde heute today tomorrow morgen gestern yesterday
    aware made nach nicht noch oder over sent spoke took unter vor went
"""
_LINKING: Final = frozenset(_LINKING_WORDS.split())


@dataclass(frozen=True, slots=True)
class Said:
    """A folded text, and the same letters with their capitals."""

    plain: str
    cased: str


@dataclass(frozen=True, slots=True)
class _Call:
    """What announces a name: how sure it is, and what the capitals after it can tell."""

    kind: str
    end: int
    is_mixed: bool
    is_bare: bool
    has_colon: bool

    @property
    def is_title(self) -> bool:
        return self.kind in ("title", "plural", "phrase")

    @property
    def is_certain(self) -> bool:
        return self.is_title or self.kind == "label"


def person_spans(said: Said, terms: frozenset[str]) -> list[tuple[int, int]]:
    """Return the words after a title or label, and before a doctor's degree."""
    spans: list[tuple[int, int]] = []
    for pattern in (ANNOUNCED, SUSPECTED):
        walked = 0
        for match in pattern.finditer(said.plain):
            if match.end() < walked:
                continue  # one title after the other: the first one's walk saw to it
            found = list(_name_after(said, _call(said, match), terms))
            walked = found[-1][1] if found else 0
            spans += found
    for match in _DEGREE.finditer(said.plain):
        spans += _name_before(said, match, terms)
    return spans


def told_names(said: Said) -> tuple[str, ...]:
    """Return the names after titles and certain labels: unknown words only."""
    found: list[str] = []
    walked = 0
    for match in ANNOUNCED.finditer(said.plain):
        if match.end() < walked or match[0].strip() in _MODALITIES:
            continue  # one title after the other, as in `person_spans`
        spans = list(_name_after(said, _call(said, match), frozenset()))
        walked = spans[-1][1] if spans else 0
        found += [said.plain[start:end] for start, end in spans]
    return tuple(word for word in found if _is_name(word))


def _is_name(word: str) -> bool:
    is_long = len(word) >= MIN_NAME and word.isalpha()
    return is_long and not (word in _TITLES or word in _PARTICLES or is_known_word(word))


def _call(said: Said, match: re.Match[str]) -> _Call:
    kind, start, end = match.lastgroup or "", match.start(), match.end()
    written = said.cased[start:end].strip()
    stretch = said.cased[end : end + MAX_STRETCH].split("\n")[0]
    # A small `patient` before a capital is English: no heading, and no German noun.
    if kind == "weak" and written in _SMALL:
        kind = "role"
    # OA and PD are written so, Hr and Fr are not HR and FR; CC is a complaint, cc a copy.
    if (kind == "short" and written[:2] not in _SHORT) or written == "CC:":
        kind = "weak"
    return _Call(
        kind=kind,
        end=end,
        is_mixed=not (stretch.isupper() or stretch.islower()),
        is_bare=written in ("DR", "MR", "MS"),
        has_colon=":" in written or "=" in written,
    )


def _name_after(said: Said, call: _Call, terms: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Yield the words of the names that a title or label announces, and the titles among them."""
    end, names, singles = call.end, 0, 0
    last, is_complete, is_joined, is_anded = "", False, False, False
    held: list[tuple[int, int]] = []  # goes only with the name after it
    spelled = SPACED_LETTERS.match(said.plain, call.end) if call.is_certain else None
    if spelled:
        yield spelled.span()
        return
    for match in _WORD.finditer(said.plain, call.end):
        word, gap = match[0], said.plain[end : match.start()]
        is_glued = bool(names) and bool(_HYPHEN.fullmatch(gap))
        if names >= MAX_NAME_WORDS or (names and not is_glued and _BREAK.search(gap)):
            return
        end = match.end()
        if word in _TITLES or word in _PARTICLES:
            if names and word in _PARTICLES:
                held.append(match.span())
            else:
                yield match.span()
            continue
        if names and not is_joined and word in _AND and gap.strip() in ("", ","):
            is_joined = True
            is_anded = len(word) > 1
            continue
        is_joined = is_joined or (bool(names) and bool(_JOINING.fullmatch(gap)))
        if len(word) == 1:
            singles += 1
            if singles > MAX_SINGLES:
                return
            held.append(match.span())
            last = "mark"
            if _is_initial(said, match, call, names):
                yield from held
                held, last, is_complete = [], "initial", False
            continue
        if _is_known(word):
            place = _Place(last, names, is_glued, is_joined, is_complete, gap)
            if _may_be_name(said, match, call, place, terms):
                is_complete = bool(names) or last == "initial"
            elif last or not (call.is_title and TECHNICAL.fullmatch(word)):
                return
            else:
                held, last = [match.span()], "mark"
                continue
        elif is_anded and call.is_mixed and not said.cased[match.start()].isupper():
            return
        yield from (*held, match.span())
        names = 1 if is_joined else names + 1
        held, last, singles = [], "name", 0
        is_joined = is_anded = False


@dataclass(frozen=True, slots=True)
class _Place:
    """What stands before a word in a walk over names."""

    last: str
    names: int
    is_glued: bool
    is_joined: bool
    is_complete: bool
    gap: str


def _is_known(word: str) -> bool:
    return word in load_vocabulary() or bool(TECHNICAL.fullmatch(word))


def _is_initial(said: Said, match: re.Match[str], call: _Call, names: int) -> bool:
    """Return whether a single letter belongs to a name; before the name each one does."""
    if not match[0].isalpha():
        return not names and call.kind in _NUMBERED
    return not names or not call.is_mixed or said.cased[match.start()].isupper()


def _may_be_name(
    said: Said, match: re.Match[str], call: _Call, place: _Place, terms: frozenset[str]
) -> bool:
    """Return whether a word that the vocabulary knows is a name here."""
    word = match[0]
    if place.last == "mark":
        return False
    if place.last != "initial" and not place.names and call.is_certain:
        return call.kind in _NUMBERED or not TECHNICAL.fullmatch(word)
    if TECHNICAL.fullmatch(word) or word in _COMMON or word.upper() in terms:
        return False
    written = said.cased[match.start() : match.end()]
    is_capital = call.is_mixed and _is_capital(written)
    if place.last == "initial":
        has_point = "." in place.gap
        if is_capital or (call.is_mixed and not (call.is_title and has_point)):
            return is_capital
        return call.is_title or (has_point and call.kind != "weak")
    if not place.names:
        if call.kind in ("named", "role") and call.has_colon:
            return is_capital or (not call.is_mixed and written.isupper())
        return call.kind in ("role", "short") and is_capital and not written.isupper()
    if place.is_glued:
        return is_capital or call.is_title
    if place.is_joined:
        is_listed = call.kind == "label" and place.gap.strip() == "," and written.isupper()
        return is_capital or (not call.is_mixed and (call.kind == "plural" or is_listed))
    if place.is_complete or place.gap.strip():
        return False
    return is_capital or (call.is_title and written.isupper() and _is_noun(word))


def _is_noun(word: str) -> bool:
    """Return whether a word among capitals may follow a first name: `DR IRIS WHITE INFORMED`."""
    is_verb = len(word) > MIN_VERB and word.endswith(("ed", "ing", "iert", "et"))
    return len(word) >= MIN_CAPITALS and not is_verb and word not in _LINKING


def _is_capital(written: str) -> bool:
    return written[0].isupper() and (not written.isupper() or len(written) >= MIN_CAPITALS)


def _name_before(
    said: Said, degree: re.Match[str], terms: frozenset[str]
) -> Iterator[tuple[int, int]]:
    """Yield a name with a degree behind it: `J. White, MD`; MD is a map of diffusion too."""
    start = max(0, degree.start() - MAX_STRETCH)
    before = _BEFORE_DEGREE.search(said.plain[start : degree.start()])
    if before is None or not said.cased[degree.start("degree")].isupper():
        return
    stretch = said.cased[start : degree.start()]
    is_mixed = not (stretch.isupper() or stretch.islower())
    for match in _WORD.finditer(before[0]):
        at = start + before.start() + match.start()
        written = said.cased[at : at + len(match[0])]
        is_letter = len(match[0]) == 1
        if match[0] in _COMMON or match[0].upper() in terms or not written[0].isupper():
            continue
        if is_mixed or is_letter or "," in degree[0]:
            yield at, at + len(match[0])
