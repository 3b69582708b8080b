"""Decisions: which text found in a picture goes, which stays (DEID 7). Pure."""

from __future__ import annotations

import re
from typing import Final, Literal

from pleura.anonymizer.burnedin.finder import MIN_TEXT_PX, SURE, Found
from pleura.anonymizer.text import Seeds, fold

Verdict = Literal["redact", "marker", "noise"]

MARKERS: Final = frozenset(
    {"L", "R", "LT", "RT", "AP", "PA", "LAT", "ERECT", "SUPINE", "UPRIGHT", "DECUB", "PORTABLE"}
    | {"INSP", "EXP"}
)
MAX_MARKER_SHARE: Final = 0.04  # "AP PORTABLE" 26 pixels high on 512 has 3 %
_WORD: Final = re.compile(r"[^\W_]+")


def distance(one: str, other: str) -> int:
    """Return the edit distance (Levenshtein) of two words."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


def near_seed(text: str, seeds: Seeds) -> bool:
    """Return whether a reading is near a seed: a quarter of a word off, or 4 equal digits."""
    if seeds.found_in(text):
        return True
    folded = fold(text)
    known = {w for p in (seeds.tokens | seeds.phrases) for w in _WORD.findall(p) if len(w) >= 3}
    for word in _WORD.findall(folded):
        for seed in known:
            if abs(len(seed) - len(word)) <= len(seed) // 4 and (
                distance(word, seed) <= len(seed) // 4
            ):
                return True
    digits = "".join(c for c in folded if c.isdigit())
    fours = {digits[i : i + 4] for i in range(len(digits) - 3)}
    numbers = ["".join(c for c in n if c.isdigit()) for n in (*seeds.numbers, *seeds.phrases)]
    return any(four in number for number in numbers for four in fours)


def is_marker(text: str) -> bool:
    """Return whether a reading is made of allow-listed markers only."""
    parts = re.findall(r"[A-Z0-9]+", text.upper())
    if not parts or re.search(r"[^\w\s.,()/:^-]", text):
        return False
    return all(part in MARKERS or _is_joined(part) for part in parts)


def _is_joined(part: str) -> bool:
    return any(
        part[:cut] in MARKERS and part[cut:] in MARKERS
        for cut in range(1, len(part))
        if max(cut, len(part) - cut) > 1
    )


def judge(found: Found, shape: tuple[int, ...], seeds: Seeds) -> Verdict:
    """Return what becomes of a line of text in an image of `shape` (rows, columns).

    No line is noise because its letters are large: what is read surely is text.
    """
    if near_seed(found.text, seeds):
        return "redact"
    low = min(found.box.height, found.box.width)
    if low < MIN_TEXT_PX:
        return "noise"
    share = found.box.area / (shape[0] * shape[1])
    if found.is_drawn:  # letters of which one or none was read, as a marker perhaps
        return "redact"
    if is_marker(found.text) and found.score >= SURE and share <= MAX_MARKER_SHARE:
        return "marker"
    return "redact" if found.is_sure else "noise"
