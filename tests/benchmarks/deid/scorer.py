"""The scorer: what of the planted is still there, and what was lost that should have stayed.

It knows the manifest and the standard's table, nothing of any de-identifier. Options that a
tool claims change what is asked: a value that an active Retain option keeps is no leak, and
the words of prose have to stay only where a Clean option promises it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from pleura.anonymizer.scoring import Category, Ratio, total
from tests.benchmarks.deid.categories import Categories
from tests.benchmarks.deid.manifest import Corpus, PlantedFile, Record
from tests.benchmarks.deid.reading import Seen, Unreadable, element_at, fold, item_at, read, text_of

KINDS = ("raw", "same_top", "same_nested", "wrong", "private", "names", "words_lost", "times_kept")
_MUST_STAY = frozenset({"D", "U", "Z"})
_MODIFIED_DATES = "rtn_long_modif_dates"
_PLANTED_CREATOR = "ZORQ IMAGING 3"


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of leak or loss at one attribute; `place` is where it was planted or seen."""

    kind: str
    tag: int
    place: str


@dataclass(frozen=True, slots=True)
class Score:
    """How one tool did. `planted` holds how many of each kind there were to find.

    `lost` holds what failed in a category, by attribute (0: of the file as a whole).
    """

    files: int
    written: int
    found: Mapping[str, int]
    planted: Mapping[str, int]
    categories: Mapping[Category, Ratio]
    findings: Mapping[Finding, int]
    lost: Mapping[tuple[Category, int], int]

    @property
    def total(self) -> Ratio:
        """All ten categories in one figure; the words removed outweigh all others in it."""
        return total(self.categories.values())

    @property
    def mean(self) -> float:
        """The mean share of the ten: a tool that writes nothing gets no more than half."""
        return sum(ratio.share for ratio in self.categories.values()) / len(self.categories)


def is_kept(record: Record, active: frozenset[str]) -> bool:
    """Return whether an active option keeps the value as it is.

    Names inside a kept sequence, and ages of 90 and more, are never kept.
    """
    if record.row is None or record.vr == "SQ" or not record.row.is_kept_by(active):
        return False
    return not (record.vr == "AS" and record.value > "089Y")


def score(
    corpus: Corpus, outputs: Mapping[str, Path | None], active_options: frozenset[str]
) -> Score:
    """Score the outputs of one tool, by name of the planted file; a missing one is None."""
    planted: Counter[str] = Counter()
    findings: Counter[Finding] = Counter()
    categories = Categories(active_options)
    written = 0
    for file in corpus.files:
        source, seen = read(file.path), _read_output(outputs.get(file.path.name))
        _count_planted(file, active_options, planted)
        categories.add(file, source, seen, is_kept)
        if seen is not None:
            written += 1
            findings.update(_find(file, seen, active_options))
    found = Counter(dict.fromkeys(KINDS, 0))
    for finding, count in findings.items():
        found[finding.kind] += count
    ratios = categories.finish()
    return Score(
        len(corpus.files), written, dict(found), dict(planted), ratios, findings, categories.lost
    )


def _kind_of(record: Record, active: frozenset[str]) -> str:
    """Return the column of a value that is unchanged.

    Where dates move by whole days (Modified Dates), a time of day may stay; it is counted.
    """
    is_moved = record.row is not None and record.row.is_cleaned_by(active & {_MODIFIED_DATES})
    if record.vr == "TM" and is_moved:
        return "times_kept"
    return "same_nested" if record.path else "same_top"


def _read_output(path: Path | None) -> Seen | None:
    try:
        return None if path is None else read(path)
    except Unreadable:
        return None


def secret_words(file: PlantedFile, active: frozenset[str]) -> frozenset[str]:
    """Return the planted words no output may hold under the active options."""
    kept = {word for r in file.records if is_kept(r, active) for word in r.words}
    return frozenset(word for r in file.records for word in r.words) - kept


def _count_planted(file: PlantedFile, active: frozenset[str], planted: Counter[str]) -> None:
    planted["raw"] += len(secret_words(file, active))
    for record in file.records:
        if record.value and not is_kept(record, active):
            planted[_kind_of(record, active)] += 1
        if record.row is not None and record.row.basic in _MUST_STAY:
            planted["wrong"] += 1
        planted["private"] += record.kind == "private"
        if record.kind == "prose":
            planted["names"] += len(record.words)
            planted["words_lost"] += len(record.words_to_keep)


def _find(file: PlantedFile, seen: Seen, active: frozenset[str]) -> Iterator[Finding]:
    for word in secret_words(file, active):
        tag = seen.find(word)
        if tag is not None:
            yield Finding("raw", tag, "seen")
    for tag in _private(seen.dataset, "rtn_safe_priv" in active):
        yield Finding("private", tag, "seen")
    for record in file.records:
        yield from _find_record(record, seen.dataset, active)


def _find_record(record: Record, ds: Dataset, active: frozenset[str]) -> Iterator[Finding]:
    element = element_at(ds, record.path, record.tag)
    if element is None:
        must_stay = record.row is not None and record.row.basic in _MUST_STAY
        if must_stay and item_at(ds, record.path, exactly=True) is not None:
            yield Finding("wrong", record.tag, record.place)
    elif record.value and text_of(element) == record.value and not is_kept(record, active):
        yield Finding(_kind_of(record, active), record.tag, record.place)
    if record.kind == "prose":
        left = "" if element is None else fold(text_of(element))
        for word in record.words:
            if fold(word) in left:
                yield Finding("names", record.tag, record.place)
        for word in record.words_to_keep:
            if fold(word) not in left:
                yield Finding("words_lost", record.tag, record.place)


def _private(ds: Dataset, is_safe_kept: bool) -> Iterator[int]:
    """Yield private attributes; with Safe Private only those of the planted creator."""
    for element in ds:
        tag = int(element.tag)
        if (tag >> 16) & 1 and tag & 0xFFFF > 0xFF:
            block = ds.get((tag >> 16, (tag & 0xFFFF) >> 8))
            creator = "" if block is None else str(block.value).strip()
            if not is_safe_kept or creator == _PLANTED_CREATOR:
                yield tag
        if element.VR == "SQ":
            for item in element.value:
                yield from _private(item, is_safe_kept)
