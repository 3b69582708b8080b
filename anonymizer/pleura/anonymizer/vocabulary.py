"""Vocabulary: the ordinary words of medicine, and where a name is more than a part of one.

`transverse` holds the name Tran and is no sign of the patient. What is equal to a name, unknown,
or made of a name and another word always is one. The engine and the residual scan ask the same
question here, so that neither refuses what the other keeps. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final

from pleura.anonymizer.errors import RulesDamaged

# Words made by rule: no list has them all, and people are not called so. Names end in -itis, -gram
# and -emia too (Kalvaitis, Milgram, Kimemia): there the stem counts.
_STEMS: Final = (
    "aden|alveol|amyl|angi|aort|arteri|arthr|ather|bronch|bronchi|bronchiol|burs|card|cardi|carcin"
    "|chol|cholangi|cholecyst|chondr|col|crani|cyst|dermat|diverticul|duoden|encephal|enter"
    "|esophag|fasci|fibr|gastr|granulomat|hepat|hist|hydr|karzin|lip|lymph|lymphaden|lymphang"
    "|mammo?|mast|mediastin|melan|mening|mesotheli|myc|myel|myocard|myos|necr|nekr|nephr|neur"
    "|nodul|oste|pankreat|pancreat|pericard|periton|pharyng|phleb|phren|pleur|pneum|pneumat"
    "|pneumon|prostat|pyel|rhin|sarc|scler|skler|spondyl|spondylarthr|splen|stern|synov|tendin"
    "|thromb|thym|thyre|thyreoid|thyroid|tonsill|trache|tubercul|ureter|urethr|valvul|vascul|ven"
)
_MEDICAL: Final = re.compile(
    r"[a-z]{3,}(?:ectomy|ectomies|otomy|ostomy|graphy|graphie|grafia|ology|opathy|pathic|pathie"
    r"|thorax|plasty|plastie|scopy|skopie|megaly|megalie|algia|therapy|therapie|terapia|carcinoma"
    r"|sarcoma|karzinom|katheter|erguss|embolie|embolism|oedema|aufnahme|untersuchung|gewebe"
    r"|lappen|stenose|ectasis|ektase|ectatic|trophy|trophic|hepatic|gastric|vascular|cardiac"
    r"|pulmonary|thoracic|malacia|lithiasis|porotic|lytic|blastic|centric|centesis|diaphragmatic"
    r"|ations|graphically|logically|scopically)"
    rf"|(?:[a-z]{{3,}}o|peri|endo|para|pan|poly|epi|pachy)?(?:{_STEMS})[oi]?"
    r"(?:itis|itides|osis|oses|otic|grams?|gramme?|genic|odem)"
    r"|(?:an|ur|pachy|py|bacter|septic|ox|hypox|hypercapn|isch|leuk|leuc|thrombocyth|tox"
    r"|(?:hypo|hyper)(?:glyc|k?al|natr|calc|lipid|uric|chol|vol))a?emia"
)
# German words by their build: participles, verbs with a prefix, adjectives and Latin nouns.
_FORMS: Final = "(?:e|er|en|es|em)?"
_PREFIXED: Final = (
    "(?:ab|an|auf|aus|bei|dar|durch|ein|fest|fort|heraus|herab|herein|hervor|hin|hinein|hinaus|hinzu"
    "|mit|nach|nieder|uber|ueber|um|unter|vor|voran|vorbei|weg|weiter|wieder|zu|zuruck|zurueck"
    "|zusammen|zwischen)"
)
_GERMAN: Final = re.compile(
    rf"[a-z]{{3,}}(?:logisch|graphisch|grafisch|skopisch|pathisch|metrisch|trophisch|tomisch"
    rf"|plastisch|massig|maessig|formig|foermig|seitig){_FORMS}"
    rf"|[a-z]{{4,}}ier(?:t{_FORMS}|en(?:d{_FORMS})?|ung(?:en)?|bar{_FORMS})"
    r"|[a-z]{4,}(?:itat|itaet|ation|ektomie|otomie|ostomie|ologie|ometrie)(?:en|n)?"
    r"|[a-z]{3,}(?:ig|lich|sam|bar)keit(?:en)?"
    rf"|{_PREFIXED}ge(?:bildet|bracht|dehnt|dickt|fallen|fuhrt|fuellt|fullt|funden|gangen|geben"
    r"|glichen|grenzt|halten|hoben|klart|kommen|lassen|laufen|legen|legt|leitet|messen|nannt"
    r"|nommen|ordnet|passt|pragt|raten|rechnet|reichert|richtet|rissen|ruckt|schlossen|schnitten"
    r"|schoben|schrieben|schwollen|sehen|setzt|sprochen|stellt|stiegen|stopft|sunken|teilt"
    rf"|treten|wachsen|weitet|wendet|wiesen|zeigt|zeichnet|zogen){_FORMS}"
    rf"|{_PREFIXED}(?:zu)?(?:bilden|bringen|dehnen|fallen|fuhren|fuehren|fullen|gehen|geben|grenzen"
    r"|halten|heben|klaren|klaeren|kommen|lassen|laufen|legen|leiten|liegen|messen|nehmen|ordnen"
    r"|passen|reichen|richten|rucken|schliessen|sehen|setzen|sprechen|steigen|stellen|teilen"
    rf"|treten|wachsen|weisen|weiten|wenden|zeigen|ziehen)(?:d{_FORMS})?"
    rf"|{_PREFIXED}(?:nahme|gabe|bildung|bringung|dehnung|deutung|fuhrung|fuehrung|fullung|gebung"
    r"|grenzung|haltung|hebung|klarung|klaerung|lassung|lagerung|legung|leitung|messung|ordnung"
    r"|pragung|raumung|reicherung|richtung|schliessung|setzung|spannung|sparung|stellung"
    r"|stulpung|teilung|wachsung|weisung|weitung|wendung|zeichnung|ziehung)(?:en|n)?"
)
# English only, as regular as they come: Coates, Salonen, Bansal, Crowe and Perisic are no forms
# of a word. German forms are in the table. Not -er and -est: Fisher, Turner, Porter.
_REGULAR: Final = (
    ("s", ""), ("ses", "s"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("ies", "y"),
    ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("ly", ""), ("ness", ""), ("ity", ""),
    ("ity", "e"),
)  # fmt: skip
# What may be an inflection of a name.
_ENDINGS: Final = (
    *_REGULAR, ("es", ""), ("al", ""), ("n", ""), ("en", ""), ("e", ""), ("ment", ""),
    ("ation", "e"), ("ic", ""),
)  # fmt: skip
_BRITISH: Final = (
    ("oe", "e"), ("ae", "e"), ("our", "or"), ("tre", "ter"), ("ise", "ize"), ("ogue", "og"),
    ("lled", "led"), ("lling", "ling"), ("ence", "ense"), ("arte", "arti"),
)  # fmt: skip
_PREFIXES: Final = (
    "bi", "hydro", "haemo", "hemo", "pneumo", "peri", "para", "intra", "inter", "infra", "supra",
    "sub", "retro", "endo", "extra", "hyper", "hypo", "micro", "multi", "non", "pre", "post",
    "un", "over", "mid", "broncho", "thoraco", "trans", "cardio", "costo", "postero", "antero",
    "cavo", "apico", "myco",
)  # fmt: skip
MIN_STEM: Final = 4
MIN_COMPOUND: Final = 8
MAX_PARTS: Final = 4
# Whatever looks like a dash (category Pd, and the minus) is one; so with slashes and dots.
MARKS: Final = str.maketrans(
    dict.fromkeys(
        "\u058a\u05be\u1400\u1806\u2010\u2011\u2012\u2013\u2014\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40"
        "\u2e5d\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d\U00010ead\u2043\u2212", "-"
    )
    | {"\u2044": "/", "\u2215": "/", "\u2022": "·", "\u2027": "·", "\u2219": "·", "\u22c5": "·"}
)  # fmt: skip


@cache
def load_vocabulary() -> frozenset[str]:
    """Return the folded words strict cleaning lets stay.

    Raises:
        RulesDamaged: the table is missing or empty.
    """
    return _table("vocab.txt")


@cache
def load_names() -> frozenset[str]:
    """Return names that look like words made by rule.

    Raises:
        RulesDamaged: the table is missing or empty.
    """
    return _table("names.txt")


@cache
def _load_parts() -> tuple[frozenset[str], frozenset[str], tuple[int, ...]]:
    """Return the parts that may begin, and those that may end, a German compound.

    With the lengths of the first.
    """
    parts = _table("compounds.txt")
    firsts = frozenset(part[:-1] for part in parts if part.endswith("-"))
    lasts = frozenset(part[1:] for part in parts if part.startswith("-"))
    return firsts, lasts, tuple({len(part) for part in firsts})


def _table(name: str) -> frozenset[str]:
    try:
        text = (files("pleura.anonymizer") / "tables" / name).read_text("utf-8")
    except (OSError, UnicodeError) as exc:
        raise RulesDamaged(type(exc).__name__) from None
    if not text.strip():
        raise RulesDamaged(name)
    return frozenset(text.split())


@lru_cache(maxsize=8192)
def is_known_word(word: str) -> bool:
    """Return whether a folded word is in the vocabulary or made by rule from one that is."""
    if is_ordinary(word):
        return True
    if len(word) <= MIN_STEM or word in load_names():
        return False
    return bool(_MEDICAL.fullmatch(word) or _GERMAN.fullmatch(word)) or _is_compound(word)


@lru_cache(maxsize=8192)
def is_ordinary(word: str) -> bool:
    """Return whether a folded word is in the vocabulary or an inflection of one that is.

    Not so words that a medical ending makes of any other (`smiththorax`), nor compounds.
    """
    vocabulary = load_vocabulary()
    if word in vocabulary:
        return True
    if len(word) <= MIN_STEM or word in load_names():
        return False
    return any(_inflects(form, vocabulary, _REGULAR) for form in {word, *_american(word)}) or any(
        word.startswith(p) and _inflects(word[len(p) :], vocabulary, _REGULAR)
        for p in _PREFIXES
        if len(word) - len(p) > MIN_STEM
    )


def _is_compound(word: str) -> bool:
    """Return whether a folded word is made of German parts (`lungen` `arterien` `aste`)."""
    if len(word) < MIN_COMPOUND:
        return False
    firsts, lasts, sizes = _load_parts()
    starts = {0}
    for _ in range(MAX_PARTS - 1):
        starts = {at + n for at in starts for n in sizes if word[at : at + n] in firsts}
        if any(word[at:] in lasts for at in starts):
            return True
    return False


def _american(word: str) -> Iterator[str]:
    for british, american in _BRITISH:
        if british in word:
            yield word.replace(british, american)


def _inflects(word: str, vocabulary: Set[str], endings: tuple[tuple[str, str], ...]) -> bool:
    if word in vocabulary:
        return True
    return any(
        word.endswith(ending) and word[: len(word) - len(ending)] + stem in vocabulary
        for ending, stem in endings
        if len(word) - len(ending) >= MIN_STEM
    )


def holds(folded: str, phrase: str) -> bool:
    """Return whether a folded text has a phrase that is more than a part of an ordinary word."""
    return phrase in folded and next(spans_of(folded, phrase), None) is not None


def spans_of(folded: str, phrase: str) -> Iterator[tuple[int, int]]:
    """Yield the whole words around each place of a phrase in a folded text.

    Ordinary words it is only a part of are passed over, but for its own inflections: nobody can
    tell the Parks from parks.
    """
    start = folded.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        span = whole(folded, start, end)
        word = folded[slice(*span)]
        if word == phrase or not is_ordinary(word) or _inflects(word, {phrase}, _ENDINGS):
            yield span
        # A phrase of several words may overlap itself; one within a word is that word.
        start = folded.find(phrase, span[1] if phrase.isalnum() else start + 1)


def _is_spaced(letter: str) -> bool:
    """Return whether a letter's script puts spaces between words (not Thai, Chinese ..)."""
    return letter.isalnum() and (letter < "\u0e00" or "\u1100" <= letter <= "\u11ff")


def whole(plain: str, start: int, end: int) -> tuple[int, int]:
    """Return the span widened to whole words where the script has them."""
    if _is_spaced(plain[start]):
        while start and _is_spaced(plain[start - 1]):
            start -= 1
    if _is_spaced(plain[end - 1]):
        while end < len(plain) and _is_spaced(plain[end]):
            end += 1
    return start, end
