"""The residual scan: proves on the finished bytes that no identifying value survived.

Deliberately another code path than the engine: it reads input and output with pydicom, finds
the input's identifying values itself and looks for them everywhere in the output but in pixel
bytes, which `writing` compares with their source. Any doubt, even a failure of this check, is
a refusal.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from pydicom._uid_dict import UID_dictionary
from pydicom.config import disable_value_validation

from pleura.anonymizer.dates import parse_day, spans_of_days
from pleura.anonymizer.errors import SelfCheckFailed
from pleura.anonymizer.leaves import Leaf, is_unreadable, leaves_of, preamble_of
from pleura.anonymizer.private import load_safe_rows
from pleura.anonymizer.residues import (
    DUMMY_TEXT,
    READ_VRS,
    TEXT_VRS,
    WORD,
    Expectation,
    Residues,
    collect,
    fold,
    hidden_in,
)
from pleura.anonymizer.source import Source
from pleura.anonymizer.spelling import numbers_in
from pleura.anonymizer.vocabulary import holds

_META_TAGS: Final = frozenset(
    {0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012, 0x00020013}
)
_DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"  # newer than pydicom's dictionary
_DUMMY_DATES: Final = ("", "19000101", "19000101000000", "000000")
_MAPPED: Final = re.compile(r"2\.25\.[1-9][0-9]{0,38}")


def check_residuals(source: Source | bytes, output: Source | bytes, expected: Expectation) -> None:
    """Search `output`, its pixel bytes apart, for every identifying value of `source`.

    Raises:
        SelfCheckFailed: a value, a foreign name, a private tag or an unmapped UID is there,
            or the scan itself could not be done. The message holds the tag only.
    """
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            residues = collect(leaves_of(source), expected)
            leaves = list(leaves_of(output))
            safe = safe_leaves(leaves) if expected.safe_private else {}
            leaves = [safe.get(number, leaf) for number, leaf in enumerate(leaves)]
            _check_marks(preamble_of(output), leaves, expected)
            suspects = _Suspects(leaves, residues, expected)
            for number, leaf in enumerate(leaves):
                if leaf.tag >> 16 & 1 and number not in safe:
                    raise SelfCheckFailed(f"private element {_name(leaf.tag)}")
                problem = _problem(leaf, residues, expected, suspects)
                if problem:
                    raise SelfCheckFailed(f"{problem} {_name(leaf.tag)}")
    except SelfCheckFailed:
        raise
    except Exception as exc:  # noqa: BLE001  a check that cannot run is a refusal
        raise SelfCheckFailed(f"scan ended with {type(exc).__name__}") from None


def safe_leaves(leaves: Sequence[Leaf]) -> dict[int, Leaf]:
    """Return the private leaves of the safe list by position, with the VR of the list.

    Their creators too. The creator must stand before its elements in the same item.
    """
    rows = load_safe_rows()
    names = {(creator, group) for creator, group, _ in rows}
    creators: list[dict[int, str]] = []  # one a depth, of the item being read
    last: list[int] = []
    found: dict[int, Leaf] = {}
    for number, leaf in enumerate(leaves):
        del creators[leaf.depth + 1 :], last[leaf.depth + 1 :]
        while len(creators) <= leaf.depth:
            creators.append({})
            last.append(-1)
        if leaf.tag <= last[leaf.depth]:
            creators[leaf.depth] = {}  # a new item
        last[leaf.depth] = leaf.tag
        group, element = leaf.tag >> 16, leaf.tag & 0xFFFF
        if not group & 1:
            continue
        if element <= 0xFF:
            name = leaf.text()
            if element >= 0x10 and (name, group) in names:
                creators[leaf.depth][group << 8 | element] = name
                found[number] = leaf._replace(vr="LO")
            continue
        creator = creators[leaf.depth].get(group << 8 | element >> 8, "")
        row = rows.get((creator, group, element & 0xFF))
        if row is not None and leaf.vr in (row.vr, "UN"):
            found[number] = leaf._replace(vr=row.vr)
    return found


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _check_marks(preamble: bytes, leaves: Sequence[Leaf], expected: Expectation) -> None:
    if any(preamble):
        raise SelfCheckFailed("preamble")
    marks = {
        leaf.tag: leaf.text()
        for leaf in leaves
        if leaf.tag in (0x00100020, 0x00120062) and not leaf.depth
    }
    if marks.get(0x00100020) != expected.pseudonym:
        raise SelfCheckFailed("pseudonym (0010,0020)")
    if marks.get(0x00120062) != "YES":
        raise SelfCheckFailed("mark (0012,0062)")


class _Suspects:
    """Searches all text and all bytes at once, so that clean files cost one search a value.

    Says only whether something is anywhere; the leaf it is in is then found one by one.
    """

    def __init__(self, leaves: Sequence[Leaf], residues: Residues, expected: Expectation) -> None:
        texts: list[str] = []
        hidden: list[str] = []
        raw_texts: list[bytes] = []
        values: list[bytes] = []
        for leaf in leaves:
            if leaf.tag >> 16 == 2 or leaf.tag in expected.retained:
                continue
            if leaf.vr in TEXT_VRS:
                text = leaf.text()
                texts.append(text)
                raw_texts.append(leaf.raw)
                if not (text.isascii() and text.isprintable()):
                    texts += leaf.visible()[1:]
                    hidden.append(leaf.hidden())
            elif leaf.vr not in READ_VRS:
                values.append(leaf.raw)
        text = "\n".join(texts)
        folded = fold(text)
        self.in_text = (
            is_unreadable(b"\\".join(raw_texts))
            or bool(hidden_in("\n".join(filter(None, hidden)), residues))
            or not residues.words.isdisjoint(WORD.findall(folded))
            or not residues.numbers.isdisjoint(numbers_in(folded))
            or any(phrase in folded for phrase in residues.phrases)
            or any(uid in text for uid in residues.uids)
            or any(spans_of_days(folded, residues.spelled))
        )
        lowered = b"\n".join(values).lower()
        self.in_bytes = any(raw in lowered for raw in residues.raw)


def _problem(
    leaf: Leaf, residues: Residues, expected: Expectation, suspects: _Suspects
) -> str | None:
    """Return what is wrong with one output element, in fixed words, or None."""
    group = leaf.tag >> 16
    if group == 2:
        if leaf.tag not in _META_TAGS:
            return "foreign file meta"
        return _uid_problem(leaf, residues) if leaf.vr == "UI" else None
    if group == 0x7FE0 and leaf.depth:
        return "nested pixel data"
    if leaf.tag in expected.retained:
        return None
    if leaf.vr not in READ_VRS:
        is_found = suspects.in_bytes and any(raw in leaf.raw.lower() for raw in residues.raw)
        return "bytes" if is_found else None
    if leaf.vr in TEXT_VRS and not suspects.in_text:
        return None
    text = leaf.text()
    if leaf.vr == "PN":
        return None if text in ("", expected.pseudonym, DUMMY_TEXT) else "foreign name"
    if leaf.vr == "UI":
        return _uid_problem(leaf, residues)
    if leaf.vr in ("DA", "DT", "TM"):
        return None if _is_expected_time(leaf.vr, text, residues, expected) else "date"
    if leaf.vr in TEXT_VRS:
        if is_unreadable(leaf.raw) or hidden_in(leaf.hidden(), residues):
            return "unreadable text"
        return "text" if _text_leaks(leaf, text, residues, expected) else None
    numbers = {part.strip() for part in text.split("\\")}  # DS, IS
    return "number" if any(len(n) >= 6 for n in numbers & residues.numbers) else None


def _uid_problem(leaf: Leaf, residues: Residues) -> str | None:
    for uid in leaf.text().split("\\"):
        uid = uid.strip(" \0")
        if uid in residues.uids:
            return "unmapped UID"
        if leaf.tag == 0x00020010 and uid == _DEFLATED_FRAMES:
            continue
        if uid and uid not in UID_dictionary and not _MAPPED.fullmatch(uid):
            return "foreign UID"
    return None


def _is_expected_time(vr: str, text: str, residues: Residues, expected: Expectation) -> bool:
    for part in text.split("\\"):
        if part in _DUMMY_DATES:
            continue
        if expected.year_only and vr != "TM":
            if len(part) != 4 and part[4:] != "0101":
                return False
            continue
        if expected.shift_days is None:
            return False
        if vr == "TM" or (vr == "DT" and len(part) < 8):
            continue
        day = parse_day(part[:8])
        moves = range(expected.shift_days, expected.shift_days + expected.carries_midnight + 1)
        if day is None or all(day - timedelta(days=n) not in residues.days for n in moves):
            return False
    return True


def _text_leaks(leaf: Leaf, text: str, residues: Residues, expected: Expectation) -> bool:
    if text in (expected.pseudonym, DUMMY_TEXT) or text in expected.authored:
        return False
    for part in "\\".join(leaf.visible()).split("\\"):
        part = part.strip()
        if leaf.vr == "CS" and part in expected.defined_terms:
            continue
        folded = fold(part)
        words = set(WORD.findall(folded))
        numbers = numbers_in(folded)
        if words & residues.words or numbers & residues.numbers:
            return True
        if any(holds(folded, phrase) for phrase in residues.phrases):
            return True
        if any(uid in part for uid in residues.uids):
            return True
        if any(spans_of_days(folded, residues.spelled)):
            return True
    return False
