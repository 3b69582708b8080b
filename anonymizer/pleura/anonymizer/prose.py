"""Prose: takes identifying words out of free text and lets the other words stay (DEID 6).

What goes is found three ways: the header's own values (`Seeds`), patterns no header tells of
(labels with a name, numbers, dates, addresses, ages above 89) and, in strict mode, every word
outside `tables/vocab.txt`. Deleted words leave no marker. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pleura.anonymizer.patterns import (
    AGES,
    ANNOUNCED,
    DATES,
    NUMBERS,
    OLD_IN_WORDS,
    PATTERNS,
    SUSPECTED,
)
from pleura.anonymizer.text import Seeds, fold
from pleura.anonymizer.vocabulary import is_known_word, load_vocabulary, spans_of, whole

MAX_ROUNDS: Final = 4
MAX_NAME_WORDS: Final = 4
MAX_CACHED: Final = 64
MIN_NAME: Final = 3

_WORD: Final = re.compile(r"[^\W_]+")
_DIGITS: Final = re.compile(r"\d+")
_SPACED: Final = re.compile(r"(?<![^\W_])[^\W_](?:[ ._-][^\W_]){2,}(?![^\W_])")
_TITLES: Final = frozenset(
    [
        "dr",
        "dra",
        "drs",
        "prof",
        "professor",
        "mr",
        "mrs",
        "ms",
        "miss",
        "herr",
        "herrn",
        "frau",
        "mme",
        "md",
        "phd",
        "med",
        "by",
        "von",
    ]
)
_MODALITIES: Final = frozenset(["mr", "dr", "ms"])  # without a dot or a colon no title
_PARTICLES: Final = frozenset(
    ["van", "von", "der", "den", "de", "del", "la", "le", "di", "da", "bin", "ibn", "el", "al"]
)
# Sizes, kernels and series words: 512x512, 5mm, B70f, FC51, T1W, Br40d, I30f3.
_TECHNICAL: Final = re.compile(
    r"\d{1,4}[a-z]{0,4}|\d{1,4}(?:x\d{1,4}){1,3}|[a-z]{1,3}\d{1,3}[a-z]{0,3}\d?"
)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What is left of a text, and how many words went."""

    text: str
    removed_words: int


def clean_prose(
    text: str, seeds: Seeds, *, strict: bool, terms: frozenset[str], patterns: bool = True
) -> Cleaned:
    """Return `text` without identifying words; what cannot be cleaned is emptied.

    `terms`: defined terms, upper case, that strict mode lets stay. `patterns` is off for code
    values, which are made of digits.
    """
    removed, left = 0, text.replace("\0", " ")
    for round_number in range(MAX_ROUNDS):
        plain, places = _folded(left)
        spans = list(_seed_spans(plain, seeds))
        if round_number == 0:
            find = _short_spans if len(plain) <= MAX_CACHED else _fixed_spans
            spans += find(plain, patterns, strict, terms)
        if not spans:
            break
        hidden = _marked(len(plain), spans)
        removed += sum(any(hidden[m.start() : m.end()]) for m in _WORD.finditer(plain))
        left = _without(left, {places[i] for i, is_hidden in enumerate(hidden) if is_hidden})
    if left and seeds.found_in(left):
        return Cleaned("", removed + len(_WORD.findall(fold(left))))
    return Cleaned(left if removed else text, removed)


def _fixed_spans(
    plain: str, patterns: bool, strict: bool, terms: frozenset[str]
) -> tuple[tuple[int, int], ...]:
    """Return what goes whatever the header says."""
    spans: list[tuple[int, int]] = []
    if patterns:
        spans += [m.span() for m in PATTERNS.finditer(plain)]
        if _DIGITS.search(plain):
            spans += [m.span() for m in DATES.finditer(plain)]
            spans += [m.span(m.lastgroup or 0) for m in NUMBERS.finditer(plain)]
        if any(word in plain for word in OLD_IN_WORDS):
            spans += [m.span() for m in AGES.finditer(plain)]
        spans += _label_spans(plain)
    if strict:
        spans += _unknown_spans(plain, terms)
    return tuple(spans)


# The files of a series repeat their short texts.
_short_spans = lru_cache(maxsize=4096)(_fixed_spans)


def _folded(text: str) -> tuple[str, Sequence[int]]:
    """Return the folded text and, for each of its letters, where it stood."""
    if text.isascii():
        return text.lower(), range(len(text))
    letters: list[str] = []
    places: list[int] = []
    for place, letter in enumerate(text):
        plain = fold(letter)
        letters.append(plain)
        places += [place] * len(plain)
    return "".join(letters), places


def _seed_spans(plain: str, seeds: Seeds) -> Iterator[tuple[int, int]]:
    """Yield where the header's own values stand."""
    firsts = {token[0] for token in seeds.tokens}
    for match in _WORD.finditer(plain):
        word = match[0]
        may_be = word[0] in firsts or (word[0].isdigit() and not word.isdigit())
        if may_be and (word in seeds.tokens or _is_glued(word, seeds.tokens)):
            yield from _with_initials(plain, match.span(), seeds)
    for match in _SPACED.finditer(plain):
        if "".join(_WORD.findall(match[0])) in seeds.tokens:
            yield match.span()
    for phrase in seeds.phrases:
        for span in spans_of(plain, phrase):
            yield from _with_initials(plain, span, seeds)
    if seeds.numbers:
        for match in _DIGITS.finditer(plain):
            if match[0] in seeds.numbers:
                yield whole(plain, *match.span())
    for span in seeds.days_in(plain):
        yield whole(plain, *span)
    yield from seeds.codes_in(plain)
    for uid in seeds.uids:
        start = plain.find(uid)
        if start >= 0:
            yield whole(plain, start, start + len(uid))


def _is_glued(word: str, tokens: set[str]) -> bool:
    """Return whether a word is made of names and digits only: KatrijnKim3.

    Every place is looked at once, whatever way the parts lead there: words may be endless.
    """
    reached, furthest = {0}, 0
    for at in range(len(word)):
        if at > furthest:
            return False
        if at in reached:
            ends = [at + len(token) for token in tokens if word.startswith(token, at)]
            digits = _DIGITS.match(word, at)
            ends += [digits.end()] if digits else []
            reached.update(ends)
            furthest = max([furthest, *ends])
    return len(word) in reached


def _with_initials(plain: str, span: tuple[int, int], seeds: Seeds) -> Iterator[tuple[int, int]]:
    """Yield a name and the single letters beside it that begin another of its parts."""
    yield span
    before = re.search(r"(?<![^\W_])([^\W_])[\s.,^-]{1,3}$", plain[max(0, span[0] - 5) : span[0]])
    after = re.match(r"[\s.,^-]{1,3}([^\W_])(?![^\W_])", plain[span[1] : span[1] + 5])
    initials = {token[0] for token in seeds.tokens}
    if before and before[1] in initials:
        at = max(0, span[0] - 5) + before.start(1)
        yield at, at + 1
    if after and after[1] in initials:
        at = span[1] + after.start(1)
        yield at, at + 1


def _label_spans(plain: str) -> list[tuple[int, int]]:
    """Return the words after a title or label."""
    vocabulary = load_vocabulary()
    spans: list[tuple[int, int]] = []
    for pattern, is_certain in ((ANNOUNCED, True), (SUSPECTED, False)):
        walked = 0
        for match in pattern.finditer(plain):
            if match.end() < walked:
                continue  # one title after the other: the first one's walk saw to it
            found = list(_name_after(plain, match.end(), vocabulary, is_certain=is_certain))
            walked = found[-1][1] if found else 0
            spans += found
    return spans


def announced_names(text: str) -> tuple[str, ...]:
    """Return the folded names that a title or label in a text tells of: unknown words only."""
    plain = fold(text)
    return _short_names(plain) if len(plain) <= MAX_CACHED else _names(plain)


def _names(plain: str) -> tuple[str, ...]:
    vocabulary = load_vocabulary()
    found: list[str] = []
    walked = 0
    for match in ANNOUNCED.finditer(plain):
        if match.end() < walked or match[0].strip() in _MODALITIES:
            continue  # one title after the other, as in `_label_spans`
        spans = list(_name_after(plain, match.end(), vocabulary, is_certain=True))
        walked = spans[-1][1] if spans else 0
        found += [plain[start:end] for start, end in spans]
    return tuple(w for w in found if _is_name(w))


# The files of a series repeat their short texts.
_short_names = lru_cache(maxsize=4096)(_names)


def _is_name(word: str) -> bool:
    is_long = len(word) >= MIN_NAME and word.isalpha()
    return is_long and not (word in _TITLES or word in _PARTICLES or is_known_word(word))


def _name_after(
    plain: str, start: int, vocabulary: frozenset[str], *, is_certain: bool
) -> Iterator[tuple[int, int]]:
    end, count = start, 0
    for match in _WORD.finditer(plain, start):
        word, gap = match[0], plain[end : match.start()]
        if count >= MAX_NAME_WORDS or (count and re.search(r"[;:\n()]|\.\s+(?=\w{3})", gap)):
            return
        end = match.end()
        if word in _TITLES or word in _PARTICLES:
            yield match.span()
            continue
        is_known = len(word) > 1 and (word in vocabulary or bool(_TECHNICAL.fullmatch(word)))
        if is_known and (count or not is_certain):
            return
        count += 1
        yield match.span()


def _unknown_spans(plain: str, terms: frozenset[str]) -> Iterator[tuple[int, int]]:
    for match in _WORD.finditer(plain):
        word = match[0]
        is_letter = len(word) == 1 and word.isascii()
        if is_letter or is_known_word(word) or word.upper() in terms:
            continue
        if not _TECHNICAL.fullmatch(word):
            yield match.span()


def _marked(length: int, spans: list[tuple[int, int]]) -> bytearray:
    hidden = bytearray(length)
    for start, end in spans:
        hidden[start:end] = b"\1" * (end - start)
    return hidden


def _without(text: str, places: set[int]) -> str:
    """Return text without some letters; no marker, no lonely punctuation, single spaces."""
    marked = "".join(
        "\0" if i in places or (i - 1 in places and unicodedata.combining(letter)) else letter
        for i, letter in enumerate(text)
    )
    lines = []
    for line in marked.splitlines() or [""]:
        chunks = [_chunk(chunk) if "\0" in chunk else chunk for chunk in line.split()]
        lines.append(" ".join(chunk for chunk in chunks if chunk))
    return "\r\n".join(line for line in lines if line)


def _chunk(chunk: str) -> str:
    left = re.sub(r"\0+", " ", chunk)
    parts = [part for part in left.split() if any(c.isalnum() for c in part)]
    return " ".join(parts).strip("^,;/_-=")
