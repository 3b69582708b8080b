"""Matching: whether the pixels of an output are those of its source, but for what was blacked out.

Equal bytes under equal headers are equal pixels and are not decoded. Everything else is decoded
frame by frame, one frame of each file in memory. A pixel that differs must be black in the
output, by the source's own measure; a picture of which nothing is left is no match.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pleura.anonymizer.burnedin.palette import read_palette
from pleura.anonymizer.burnedin.view import Frame, black_of
from pleura.anonymizer.encoding import DicomFile
from pleura.anonymizer.errors import Quarantined
from pleura.anonymizer.pixels.decode import FrameReader, open_frames
from pleura.anonymizer.pixels.facts import ImageFacts, pixel_element, read_facts, span_of
from pleura.anonymizer.pixels.samples import clear_samples
from pleura.anonymizer.source import CHUNK_BYTES, Source, Span
from pleura.anonymizer.wire import parse_file

Outcome = Literal["none", "same", "blacked out", "changed", "undecodable"]

_PALETTE: Final = frozenset((*range(0x00281101, 0x00281104), *range(0x00281201, 0x00281204),
                             *range(0x00281221, 0x00281224)))  # fmt: skip
_MOST: Final = 0.5  # text alone on black may go as a whole


@dataclass(frozen=True, slots=True)
class Match:
    """What became of the pixels of one file; `black` of `pixels` were blacked out.

    `none`: neither file has pixels. `blacked out`: equal but for black. `undecodable`: they
    differ in bytes, and one of the two cannot be decoded, so nobody can tell.
    """

    outcome: Outcome
    pixels: int = 0
    black: int = 0


class _Changed(Exception):
    """A pixel, or what says how to see it, is another."""


def match_pixels(source: Source, output: Source, *, spool: Path | None = None) -> Match:
    """Compare the pixels of an output with those of its source.

    `spool`: folder for a large deflated data set. Never raises for what a file holds: what
    cannot be read or decoded is `undecodable`.
    """
    try:
        before, after = (parse_file(side, spool=spool) for side in (source, output))
        facts = (read_facts(before), read_facts(after))
        if facts[0] is None and facts[1] is None:
            return Match("none")
        if facts[0] is None or facts[1] is None:
            return Match("changed")
        if _are_same_bytes(before, facts[0], after, facts[1]):
            return Match("same", _pixels(facts[0]))
        return _matched(before, facts[0], after, facts[1])
    except _Changed:
        return Match("changed")
    except Quarantined:
        return Match("undecodable")


def _pixels(facts: ImageFacts) -> int:
    return facts.rows * facts.columns * facts.frames


def _are_same_bytes(
    before: DicomFile, facts: ImageFacts, after: DicomFile, after_facts: ImageFacts
) -> bool:
    if facts != after_facts or _palette(before) != _palette(after):
        return False
    old, new = (_span(file) for file in (before, after))
    return old.size == new.size and all(
        old.read(start, CHUNK_BYTES) == new.read(start, CHUNK_BYTES)
        for start in range(0, old.size, CHUNK_BYTES)
    )


def _span(parsed: DicomFile) -> Span:
    element = pixel_element(parsed)
    assert element is not None
    return span_of(element)


def _palette(parsed: DicomFile) -> dict[int, bytes]:
    return {e.tag: bytes(e.value) for e in parsed.elements if e.tag in _PALETTE and e.items is None}


def _matched(
    before: DicomFile, facts: ImageFacts, after: DicomFile, after_facts: ImageFacts
) -> Match:
    """Decode and compare frame by frame.

    Raises:
        _Changed: they differ by more than black.
        Quarantined: one of the two cannot be decoded.
    """
    if _layout(facts) != _layout(after_facts):
        raise _Changed
    old, new = open_frames(before, facts), open_frames(after, after_facts)
    if old.facts.photometric != new.facts.photometric:
        raise _Changed
    black = None
    if old.facts.photometric == "PALETTE COLOR":
        if _palette(before) != _palette(after):
            raise _Changed
        black = read_palette(before.elements, big_endian=before.syntax.big_endian).black
    count = sum(_blacked_out(old, new, index, black) for index in range(facts.frames))
    return Match("blacked out" if count else "same", _pixels(facts), count)


def _layout(facts: ImageFacts) -> ImageFacts:
    """Return what has to be equal however the pixels are encoded."""
    return replace(facts, photometric="", planar=0, transfer_syntax="", is_words=False)


def _blacked_out(old: FrameReader, new: FrameReader, index: int, black: int | None) -> int:
    """Return how many pixels of a frame went black; all others are equal.

    Raises:
        _Changed: a pixel is another and not black, or all that was to be seen is gone.
        Quarantined: a frame cannot be decoded.
    """
    frame, after = _frame(old, index), _frame(new, index)
    differs = _bits(frame) != _bits(after)
    if differs.ndim == 3:
        differs = differs.any(axis=2)
    count = int(np.count_nonzero(differs))
    if not count:
        return 0
    fill: Any = black_of(frame, old.facts.photometric) if black is None else black
    fill = np.asarray(fill, frame.dtype)
    if np.any(_bits(after[differs]) != _bits(fill)):
        raise _Changed
    if count > differs.size * _MOST and not np.any(_bits(after) != _bits(fill)):
        raise _Changed  # nothing is left
    return count


def _frame(reader: FrameReader, index: int) -> Frame:
    return clear_samples(reader.source_facts, reader.frame(index))


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return samples as unsigned integers: not a number is equal to itself."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
