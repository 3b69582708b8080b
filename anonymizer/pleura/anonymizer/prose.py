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
from itertools import pairwise
from typing import Final

from pleura.anonymizer.dates import day_beside
from pleura.anonymizer.patterns import (
    AGES,
    DATES,
    NO_AGE,
    NUMBERS,
    OLD_AFTER,
    OLD_BEFORE,
    OLD_FIGURE,
    OLD_IN_WORDS,
    OLD_SEX_AFTER,
    OLD_SEX_BEFORE,
    PATTERNS,
    SPACED,
    SPACED_FIGURES,
    SPACED_LETTERS,
)
from pleura.anonymizer.persons import TECHNICAL, Said, person_spans, told_names
from pleura.anonymizer.text import Seeds, fold
from pleura.anonymizer.vocabulary import is_known_word, spans_of, whole

MAX_ROUNDS: Final = 4
MAX_CACHED: Final = 64
MAX_WORDS: Final = 200_000  # no report is longer, and each word takes its time
MAX_LETTERS: Final = 1 << 22
MIN_SPACED: Final = 3
MIN_BROKEN: Final = 5
MAX_BESIDE: Final = 24

_WORD: Final = re.compile(r"[^\W_]+")
_DIGITS: Final = re.compile(r"\d+")
_BROKEN: Final = re.compile(r"-?\s{0,5}")
_SIDES: Final = frozenset("rlaphfsi")


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
    if len(text) >= 2 * MAX_WORDS and _is_endless(text):
        return Cleaned("", max(1, len(_WORD.findall(text))))
    removed, left = 0, text.replace("\0", " ")
    for round_number in range(MAX_ROUNDS):
        plain, places = _folded(left)
        spans = list(_seed_spans(plain, seeds))
        if round_number == 0 and len(left) <= MAX_CACHED:
            spans += _short_spans(left, patterns, strict, terms)
        elif round_number == 0:
            spans += _fixed_spans(_said(left, plain, places), patterns, strict, terms)
        if not spans:
            break
        hidden = _marked(len(plain), spans)
        removed += sum(any(hidden[m.start() : m.end()]) for m in _WORD.finditer(plain))
        left = _without(left, {places[i] for i, is_hidden in enumerate(hidden) if is_hidden})
    if left and seeds.found_in(left):
        return Cleaned("", removed + len(_WORD.findall(fold(left))))
    return Cleaned(left if removed else text, removed)


def _is_endless(text: str) -> bool:
    return len(text) > MAX_LETTERS or sum(1 for _ in _WORD.finditer(text)) > MAX_WORDS


def _fixed_spans(
    said: Said, patterns: bool, strict: bool, terms: frozenset[str]
) -> tuple[tuple[int, int], ...]:
    """Return what goes whatever the header says."""
    plain = said.plain
    spans: list[tuple[int, int]] = []
    if patterns:
        spans += [m.span() for m in PATTERNS.finditer(plain)]
        if _DIGITS.search(plain):
            spans += [m.span() for m in DATES.finditer(plain)]
            spans += [m.span(m.lastgroup or 0) for m in NUMBERS.finditer(plain)]
            spans += [m.span() for m in OLD_FIGURE.finditer(plain) if _is_age(plain, *m.span())]
        if any(word in plain for word in OLD_IN_WORDS):
            spans += [m.span() for m in AGES.finditer(plain)]
        spans += person_spans(said, terms)
    if strict:
        spans += _unknown_spans(plain, terms)
        if patterns:
            spans += _spelled_spans(plain)
    return tuple(spans)


@lru_cache(maxsize=4096)  # the files of a series repeat their short texts
def _short_spans(
    text: str, patterns: bool, strict: bool, terms: frozenset[str]
) -> tuple[tuple[int, int], ...]:
    return _fixed_spans(_said(text, *_folded(text)), patterns, strict, terms)


def _is_age(plain: str, start: int, end: int) -> bool:
    """Return whether a figure above 89 is somebody's age, by what stands beside it."""
    before, after = plain[max(0, start - MAX_BESIDE) : start], plain[end : end + MAX_BESIDE]
    if before.endswith(("m/", "f/", "w/")):
        return not before[-3:-2].isalnum()
    if OLD_SEX_BEFORE.search(before):
        return OLD_SEX_AFTER.match(after) is not None
    if before[-1:].isalpha():
        return False
    if OLD_AFTER.match(after):
        return True
    return NO_AGE.match(after) is None and OLD_BEFORE.search(before) is not None


def _spelled_spans(plain: str) -> Iterator[tuple[int, int]]:
    """Yield words and numbers written letter by letter; rows that count or tell sides stay."""
    for match in SPACED_LETTERS.finditer(plain):
        letters = _WORD.findall(match[0])
        is_row = _counts([ord(letter) for letter in letters]) or _is_sides(letters)
        if not (is_row or is_known_word("".join(letters))):
            yield match.span()
    for match in SPACED_FIGURES.finditer(plain):
        figures = [int(figure) for figure in _WORD.findall(match[0])]
        if not (_counts(figures) or set(figures) <= {0, 1}):
            yield match.span()


def _counts(values: Sequence[int]) -> bool:
    return len({after - before for before, after in pairwise(values)}) == 1


def _is_sides(letters: Sequence[str]) -> bool:
    return len(set(letters)) == len(letters) and _SIDES.issuperset(letters)


def _folded(text: str) -> tuple[str, Sequence[int]]:
    """Return the folded text and, for each of its letters, where it stood."""
    if text.isascii():
        return text.lower(), range(len(text))
    letters: list[str] = []
    places: list[int] = []
    for place, letter in enumerate(text):
        plain = _fold_letter(letter)
        letters.append(plain)
        places += [place] * len(plain)
    return "".join(letters), places


def _said(text: str, plain: str, places: Sequence[int]) -> Said:
    """Return a folded text with its capitals."""
    if text.isascii():
        return Said(plain, text)
    cased = (_shape(text[at]) if text[at] != plain[i] else text[at] for i, at in enumerate(places))
    return Said(plain, "".join(cased))


_fold_letter = lru_cache(maxsize=4096)(fold)


def _shape(letter: str) -> str:
    """Return a letter of the same case; ` ` has none."""
    return "A" if letter.isupper() else "a" if letter.islower() else " "


def _seed_spans(plain: str, seeds: Seeds) -> Iterator[tuple[int, int]]:
    """Yield where the header's own values stand."""
    firsts = {token[0] for token in seeds.tokens}
    begun: re.Match[str] | None = None
    single = 0
    for match in _WORD.finditer(plain):
        word = match[0]
        if begun is not None and _is_broken(plain, begun, match, seeds.tokens):
            yield begun.start(), match.end()
        begun = match if word[0] in firsts else None
        single += len(word) == 1
        may_be = begun is not None or (word[0].isdigit() and not word.isdigit())
        if may_be and (word in seeds.tokens or _is_glued(word, seeds.tokens)):
            yield from _with_initials(plain, match.span(), seeds)
    if single >= MIN_SPACED:
        yield from _spelled_seeds(plain, seeds)
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


def _spelled_seeds(plain: str, seeds: Seeds) -> Iterator[tuple[int, int]]:
    """Yield where a name is written letter by letter, whatever stands between them."""
    for match in SPACED.finditer(plain):
        places = [m.start() for m in _WORD.finditer(plain, match.start(), match.end())]
        joined = "".join(plain[place] for place in places)
        for token in seeds.tokens:
            at = joined.find(token) if len(token) >= MIN_SPACED else -1
            while at >= 0:
                yield places[at], places[at + len(token) - 1] + 1
                at = joined.find(token, at + len(token))


def _is_broken(plain: str, first: re.Match[str], second: re.Match[str], tokens: set[str]) -> bool:
    """Return whether two words are one name, broken at the end of a line or by one mark."""
    joined = first[0] + second[0]
    if len(joined) < MIN_BROKEN or joined not in tokens:
        return False
    return _BROKEN.fullmatch(plain, first.end(), second.start()) is not None


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


def announced_names(text: str) -> tuple[str, ...]:
    """Return the folded names that a title or label in a text tells of: unknown words only."""
    return _short_names(text) if len(text) <= MAX_CACHED else _names(text)


def _names(text: str) -> tuple[str, ...]:
    return told_names(_said(text, *_folded(text)))


_short_names = lru_cache(maxsize=4096)(_names)


def _unknown_spans(plain: str, terms: frozenset[str]) -> Iterator[tuple[int, int]]:
    for match in _WORD.finditer(plain):
        word = match[0]
        is_letter = len(word) == 1 and word.isascii()
        if is_letter or is_known_word(word) or word.upper() in terms:
            continue
        if not TECHNICAL.fullmatch(word):
            yield match.span()
            day = day_beside(plain, match.span())
            if day is not None:
                yield day


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
