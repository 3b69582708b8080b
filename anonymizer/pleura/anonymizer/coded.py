"""Coded: whether the parts of a code (PS3.3 8.8) are one, or a person or an address in truth.

Codes are digits and letters in any order, so only what no code looks like counts: an address of
mail or of a page, a telephone number as people write it, a title with a name behind it, and a
scheme that is called like nobody but a person. Pure.
"""

from __future__ import annotations

import re
from typing import Final

from pleura.anonymizer.text import fold, is_maker, words
from pleura.anonymizer.vocabulary import is_known_word
from pleura.anonymizer.wire import Element

_SCHEME: Final = 0x00080102
_ADDRESS: Final = re.compile(
    r"\w@\w|\w://|\bwww\."
    r"|(?:\+|\b00)\d{1,3}[ ()/-]{1,2}\d{2,}|\b0\d{1,4}[ /]{1,2}\d{3}"
)
_TITLED: Final = re.compile(
    r"\b(?:dr|dra|prof|professor|herrn?|frau|mme|madame|monsieur|mrs|ms|hr|fr)"
    r"(?:[.] ?| )([^\W\d_]{2,})"
)
# PS3.16 Table 8-1 and others in use, of those that are not all capitals.
_SCHEMES: Final = frozenset(
    {"radlex", "radelement", "ncit", "loinc", "snomed", "pathlex", "uberon"}
)
_MIN_NAME: Final = 4


def is_code(element: Element) -> bool:
    """Return whether a code value, its scheme or its version may be one."""
    text = bytes(element.value).decode("latin-1")
    if text.strip(" \0").isalnum() and (element.tag != _SCHEME or text.isupper()):
        return True
    folded = fold(text)
    if _ADDRESS.search(folded):
        return False
    if any(not is_known_word(match[1]) for match in _TITLED.finditer(folded)):
        return False
    return element.tag != _SCHEME or text.isupper() or not any(map(_is_name, words(text)))


def _is_name(word: str) -> bool:
    """Return whether nobody knows a word of a scheme; schemes of one's own begin with 99."""
    if len(word) < _MIN_NAME or not word.isalpha() or word in _SCHEMES:
        return False
    return not is_known_word(word) and not is_maker(word)
