"""What was planted where: the contract between the planter and the scorer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.deid.table import Row

Place = Literal["top", "kept", "unlisted"]
Kind = Literal["row", "prose", "private"]
Step = tuple[int, int]
"""A sequence's tag and the index of an item in it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One planted element.

    `words` are the invented names and numbers in it that no output may hold; `keep` are
    harmless words around them. `row` is its line of Table E.1-1, None for private elements.
    """

    kind: Kind
    place: Place
    path: tuple[Step, ...]
    tag: int
    vr: str
    value: str
    words: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    row: Row | None = None

    @property
    def words_to_keep(self) -> tuple[str, ...]:
        """The harmless words of a text that Clean Descriptors cleans word by word."""
        return self.keep if self.row is not None and "clean_desc" in self.row.options else ()


@dataclass(frozen=True, slots=True)
class PixelText:
    """Planted pixel text: the box (top, left, bottom, right) and its glyph
    pixels, those that stand out of what is behind them."""

    text: str
    box: tuple[int, int, int, int]
    glyphs: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PlantedFile:
    """One file of the corpus. `has_real_text`: the source may show text of its own."""

    path: Path
    source: str
    modality: str
    patient: str
    records: tuple[Record, ...]
    pixel_texts: tuple[PixelText, ...] = ()
    has_real_text: bool = False


@dataclass(frozen=True, slots=True)
class Corpus:
    """All planted files, below `folder`."""

    folder: Path
    files: tuple[PlantedFile, ...] = field(default_factory=tuple)
