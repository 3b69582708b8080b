"""Build `tables/vocab.txt`, the words strict cleaning lets stay, `names.txt`, `compounds.txt`.

Sources: names and keywords of pydicom's DICOM dictionary, the concept names of its code
dictionaries (MIT), `vocab_words.txt`, `vocab_german.txt`, and the common words of SCOWL's American
list (package wamerican of Debian; notice in `tables/NOTICE`). The names of `vocab_names.txt` are
taken out, and so is every word that the list also has with a capital (baker, page): people are
called so.

Usage: python tools/build_vocab.py AMERICAN_ENGLISH
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from pydicom._dicom_dict import DicomDictionary
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

TARGET: Final = (
    Path(__file__).parents[1] / "anonymizer" / "pleura" / "anonymizer" / "tables" / "vocab.txt"
)
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_LISTS: Final = Path(__file__).parent
MIN_STEM: Final = 4  # as in prose.py: shorter words are never made by rule
_ADJECTIVE: Final = ",e,er,en,es,em"
_UMLAUTS: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


class German(NamedTuple):
    """Folded German words, and the parts of which compounds are made."""

    words: frozenset[str]
    firsts: frozenset[str]
    lasts: frozenset[str]


def fold(text: str) -> str:
    """Return text without case, accents and width variants."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if unicodedata.category(c) != "Mn")


def collect() -> list[str]:
    """Return every word of the vocabulary, folded, in order."""
    texts: list[str] = []
    for _, _, name, _, keyword in DicomDictionary.values():
        texts += [name, keyword]
    for scheme in (*concepts.values(), *mapping.values()):
        for term, inner in scheme.items():
            texts.append(str(term))
            if isinstance(inner, dict):
                texts += [str(v[0]) for v in inner.values() if isinstance(v, tuple)]
            elif isinstance(inner, str):
                texts.append(inner)
    # Breeds of animals are called after places and people.
    texts = [text for text in texts if not re.search("breed", text, re.IGNORECASE)]
    found = {part for text in texts for part in _PART.findall(fold_keeping_case(text))}
    found |= set((_LISTS / "vocab_words.txt").read_text("utf-8").split())
    names = set((_LISTS / "vocab_names.txt").read_text("utf-8").split())
    folded = {fold(word) for word in found}
    return sorted(w for w in folded if len(w) > 1 and w.isalpha() and w not in names)


def german() -> German:
    """Return the words of `vocab_german.txt` with their forms."""
    text = (_LISTS / "vocab_german.txt").read_text("utf-8")
    _, *parts = re.split(r"(?m)^\[(\w+)\]$", text)
    of = {kind: words.split() for kind, words in zip(parts[::2], parts[1::2], strict=True)}
    tails = _forms(word + _ADJECTIVE for word in of["tails"])
    adjectives = _forms(word + _ADJECTIVE for word in of["adjectives"])
    heads, firsts = _forms(of["heads"]), _forms(of["firsts"])
    words = _forms(of["words"]) | adjectives | _forms(of["nouns"]) | heads
    return German(words, firsts, heads | tails)


def _forms(words: Iterable[str]) -> frozenset[str]:
    forms: set[str] = set()
    for word in words:
        stem, *endings = word.split(",")
        for form in (stem, *(stem + ending for ending in endings)):
            forms |= {fold(form), fold(form.translate(_UMLAUTS))}  # with dots, and as ae, oe, ue
    return frozenset(forms)


def common_words(path: Path) -> tuple[set[str], set[str]]:
    """Return the common words of a list and its proper names, folded."""
    words = [w for w in path.read_text("utf-8").split() if w.isalpha() and not w.isupper()]
    names = {fold(word) for word in words if word[0].isupper()}
    return {fold(word) for word in words if word.islower()} - names, names


def fold_keeping_case(text: str) -> str:
    """Return text without accents; capitals are needed to split a keyword."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c for c in plain if unicodedata.category(c) != "Mn")


def main(american_english: Path) -> None:
    """Write the tables."""
    listed = set((_LISTS / "vocab_names.txt").read_text("utf-8").split())
    words, names = common_words(american_english)
    of_german = german()
    own = set(collect()) | {w for w in of_german.words if len(w) > 1 and w not in listed}
    vocabulary = own | {w for w in words if len(w) > 1 and w not in listed}
    TARGET.write_text("\n".join(sorted(vocabulary)) + "\n", encoding="utf-8")
    refused = listed | {name for name in names if len(name) > MIN_STEM and name not in own}
    TARGET.with_name("names.txt").write_text("\n".join(sorted(refused)) + "\n", encoding="utf-8")
    parts = sorted([f"{part}-" for part in of_german.firsts] + [f"-{w}" for w in of_german.lasts])
    TARGET.with_name("compounds.txt").write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
