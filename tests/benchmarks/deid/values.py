"""A value for every attribute: typed by its VR, so that the file stays DICOM.

Each value is unlike all others in the file. Its `words` are what a search finds it by;
numbers, days and times have none, they are compared as values.
"""

from __future__ import annotations

from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence

from tests.benchmarks.deid.table import Row
from tests.benchmarks.deid.tokens import Tokens

Filled = tuple[object, str, tuple[str, ...]]
"""What pydicom takes, the text the scorer compares, and the searchable words."""

_TEXT_VALUE, _PERSON_NAME, _CODE_MEANING = 0x0040A160, 0x0040A123, 0x00080104
_NUMBERS = {"US", "SS", "UL", "SL", "IS", "DS", "FL", "FD", "UV", "SV"}
_BYTES = {"OB", "OW", "OF", "OD", "OL", "OV", "UN"}


def fill(row: Row, tokens: Tokens) -> Filled:
    """Return a value for a row that is no sequence."""
    vr, number = row.vr, (row.tag * 2654435761) % 97  # fixed per attribute: which spelling
    if vr == "PN":
        family, given = tokens.word(), tokens.word()
        return _same(f"{family}^{given}", family, given)
    if vr in ("CS", "AE"):
        word = tokens.code_word()
        return _same(word, word)
    if vr in ("SH", "LO", "UC", "ST", "LT", "UT"):
        # what is cleaned word by word holds a name; other texts hold a name or a number
        is_name = "clean_desc" in row.options or number % 2
        text = tokens.word() if is_name else tokens.identifier()
        return _same(text, text)
    if vr == "UR":
        word = tokens.word().lower()
        return _same(f"https://{word}.example/study", word)
    if vr == "UI":
        uid = tokens.uid()
        return _same(uid, uid)
    if vr in ("DA", "TM", "DT"):
        return _same(_moment(vr, number, tokens))
    if vr == "AS":
        return _same(f"{(41, 57, 93)[number % 3]:03d}Y")
    if vr in _NUMBERS:
        digits = tokens.digits(4 if vr in ("US", "SS") else 7)
        number_value = int(digits) if vr not in ("IS", "DS") else digits
        return number_value, digits, ()
    if vr in _BYTES:
        word = tokens.word()
        raw = word.encode() + b" " * (-len(word) % 8)
        return raw, word, (word,)
    raise ValueError(f"no value for VR {vr}")


def _same(text: str, *words: str) -> Filled:
    return text, text, words


def _moment(vr: str, number: int, tokens: Tokens) -> str:
    day, clock = tokens.day(), tokens.time()
    odd = number % 10 if tokens.is_sloppy else 9
    if vr == "DA":
        unlawful = f"{day.year}-{day.month}-{day.day}" if odd == 1 else f"{day:%Y%m%d}"
        return f"{day:%Y.%m.%d}" if odd == 0 else unlawful
    if vr == "TM":
        return f"{clock[:2]}:{clock[2:4]}:{clock[4:6]}" if odd == 0 else clock
    forms = (f"{day:%Y%m%d}{clock}", f"{day:%Y%m%d}{clock[:6]}+0100", f"{day:%Y%m%d}{clock[:6]}")
    return forms[number % 3]


def person_item(tokens: Tokens) -> tuple[Dataset, tuple[str, ...]]:
    """Return an item that names somebody, and the words it does so with."""
    family, given, text = tokens.word(), tokens.word(), tokens.word()
    item = Dataset()
    item.add(DataElement(_CODE_MEANING, "LO", "Chest"))
    item.add(DataElement(_PERSON_NAME, "PN", f"{family}^{given}"))
    item.add(DataElement(_TEXT_VALUE, "UT", text))
    return item, (family, given, text)


def fill_sequence(tokens: Tokens) -> tuple[Sequence, tuple[str, ...]]:
    """Return a sequence of one item that names somebody."""
    item, words = person_item(tokens)
    return Sequence([item]), words
