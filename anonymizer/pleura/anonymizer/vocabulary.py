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

# Words made by rule: no list has them all, and people are not called so.
_MEDICAL: Final = re.compile(
    r"[a-z]{3,}(?:itis|osis|oses|otic|ectomy|ectomies|otomy|ostomy|graphy|graphie|grafia|gram"
    r"|grams|ology|opathy|pathic|pathie|thorax|aemia|emia|plasty|plastie|scopy|skopie|megaly"
    r"|megalie|algia|therapy|therapie|terapia|carcinoma|sarcoma|karzinom|katheter|erguss"
    r"|embolie|embolism|oedema|odem|aufnahme|untersuchung|gewebe|lappen|stenose|ectasis|ektase"
    r"|ectatic|trophy|trophic|genic|hepatic|gastric|vascular|cardiac|pulmonary|thoracic)"
    r"|(?:bi|hydro|haemo|hemo|pneumo|broncho|peri|para|intra|inter|infra|supra|sub|retro|endo"
    r"|extra|hyper|hypo|micro|macro|multi|non|pre|post|poly|trans|ultra|thoraco|cardio|costo)"
    r"[a-z]{0,3}(?:al|ar|ic|ous|ed|tion|sion|ated)"
)
# Not -er and -est: Fisher, Turner, Porter.
_ENDINGS: Final = (
    ("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"),
    ("ly", ""), ("al", ""), ("n", ""), ("en", ""), ("e", ""), ("ness", ""), ("ment", ""),
    ("ity", ""), ("ity", "e"), ("ation", "e"), ("ic", ""),
)  # fmt: skip
_BRITISH: Final = (
    ("oe", "e"), ("ae", "e"), ("our", "or"), ("tre", "ter"), ("ise", "ize"), ("ogue", "og"),
    ("lled", "led"), ("lling", "ling"), ("ence", "ense"), ("arte", "arti"),
)  # fmt: skip
_PREFIXES: Final = (
    "bi", "hydro", "haemo", "hemo", "pneumo", "peri", "para", "intra", "inter", "infra", "supra",
    "sub", "retro", "endo", "extra", "hyper", "hypo", "micro", "multi", "non", "pre", "post",
    "un", "over", "mid", "broncho", "thoraco",
)  # fmt: skip
MIN_STEM: Final = 4
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
    try:
        text = (files("pleura.anonymizer") / "tables" / "vocab.txt").read_text("utf-8")
    except (OSError, UnicodeError) as exc:
        raise RulesDamaged(type(exc).__name__) from None
    if not text.strip():
        raise RulesDamaged("vocabulary")
    return frozenset(text.split())


@cache
def load_names() -> frozenset[str]:
    """Return common names that look like inflected words.

    Raises:
        RulesDamaged: the table is missing.
    """
    try:
        text = (files("pleura.anonymizer") / "tables" / "names.txt").read_text("utf-8")
    except (OSError, UnicodeError) as exc:
        raise RulesDamaged(type(exc).__name__) from None
    return frozenset(text.split())


@lru_cache(maxsize=8192)
def is_known_word(word: str) -> bool:
    """Return whether a folded word is in the vocabulary or made by rule from one that is."""
    return is_ordinary(word) or (
        len(word) > MIN_STEM and word not in load_names() and bool(_MEDICAL.fullmatch(word))
    )


@lru_cache(maxsize=8192)
def is_ordinary(word: str) -> bool:
    """Return whether a folded word is in the vocabulary or an inflection of one that is.

    Not so words that a medical ending makes of any other: `smiththorax`.
    """
    vocabulary = load_vocabulary()
    if word in vocabulary:
        return True
    if len(word) <= MIN_STEM or word in load_names():
        return False
    return any(_inflects(form, vocabulary) for form in {word, *_american(word)}) or any(
        word.startswith(p) and _inflects(word[len(p) :], vocabulary)
        for p in _PREFIXES
        if len(word) - len(p) >= MIN_STEM
    )


def _american(word: str) -> Iterator[str]:
    for british, american in _BRITISH:
        if british in word:
            yield word.replace(british, american)


def _inflects(word: str, vocabulary: Set[str]) -> bool:
    if word in vocabulary:
        return True
    return any(
        word.endswith(ending) and word[: len(word) - len(ending)] + stem in vocabulary
        for ending, stem in _ENDINGS
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
        if word == phrase or not is_ordinary(word) or _inflects(word, {phrase}):
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
