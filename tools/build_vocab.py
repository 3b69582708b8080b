"""Build `tables/vocab.txt`, the words strict cleaning lets stay, and `tables/names.txt`.

Sources: names and keywords of pydicom's DICOM dictionary, the concept names of its code
dictionaries (MIT), `vocab_words.txt`, and the common words of SCOWL's American list (package
wamerican of Debian; notice in `tables/NOTICE`). The names of `vocab_names.txt` are taken out,
and so is every word that the list also has with a capital (baker, page): people are called so.

Usage: python tools/build_vocab.py AMERICAN_ENGLISH
"""

from __future__ import annotations

import re
import sys
import unicodedata
from pathlib import Path
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

TARGET: Final = (
    Path(__file__).parents[1] / "anonymizer" / "pleura" / "anonymizer" / "tables" / "vocab.txt"
)
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_LISTS: Final = Path(__file__).parent
MIN_STEM: Final = 4  # as in prose.py: shorter words are never made by rule


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
        texts += [str(term) for term in scheme]
        for inner in scheme.values():
            if isinstance(inner, dict):
                texts += [str(v[0]) for v in inner.values() if isinstance(v, tuple)]
            elif isinstance(inner, str):
                texts.append(inner)
    found = {part for text in texts for part in _PART.findall(fold_keeping_case(text))}
    found |= set((_LISTS / "vocab_words.txt").read_text("utf-8").split())
    names = set((_LISTS / "vocab_names.txt").read_text("utf-8").split())
    folded = {fold(word) for word in found}
    return sorted(w for w in folded if len(w) > 1 and w.isalpha() and w not in names)


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
    """Write both tables."""
    listed = set((_LISTS / "vocab_names.txt").read_text("utf-8").split())
    words, names = common_words(american_english)
    own = set(collect())
    vocabulary = own | {w for w in words if len(w) > 1 and w not in listed}
    TARGET.write_text("\n".join(sorted(vocabulary)) + "\n", encoding="utf-8")
    refused = listed | {name for name in names if len(name) > MIN_STEM and name not in own}
    TARGET.with_name("names.txt").write_text("\n".join(sorted(refused)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
