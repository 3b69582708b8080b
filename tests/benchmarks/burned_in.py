"""Measures burned-in text: recall by contrast, markers kept, clean area, seconds an image.

python -m tests.benchmarks.burned_in [--split dev|held] [--images N] [--misses] [--json FILE]

`--json` writes what `pleura anonymize receipt --evidence` ships; the held-out split into
`anonymizer/pleura/anonymizer/tables/reader_recall.json` is the one to commit.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pleura.anonymizer.burnedin.clean import Reading, read_and_clean
from pleura.anonymizer.burnedin.finder import load_finder
from pleura.anonymizer.burnedin.policy import ReadingPlan
from pleura.anonymizer.errors import Quarantined
from pleura.anonymizer.marking import VERSION
from pleura.anonymizer.recall import READER, ReaderRecall, Share, installed_reader
from pleura.anonymizer.text import Seeds
from pleura.common.files import write_atomic
from tests.benchmarks.burned_in_cases import (
    MIN_HEIGHT_PX,
    Case,
    Planted,
    Split,
    clean_cases,
    planted_cases,
)
from tests.builders.shared_data import shared_data

COVER = 0.95
MARKER_COVER = 0.05


class _One:
    count = 1

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels

    def frame(self, index: int) -> np.ndarray:
        return self._pixels


def read(case: Case) -> Reading:
    """Read one image without any seed: the worst case."""
    one = _One(case.pixels)
    return read_and_clean(one, "MONOCHROME2", Seeds(), ReadingPlan((0,)), load_finder())


def covered(case: Case, reading: Reading) -> np.ndarray:
    """Return which pixels were blacked out."""
    mask = np.zeros(case.pixels.shape, bool)
    for box in reading.redact.get(0, ()):
        mask[box.slices()] = True
    return mask


@dataclass(slots=True)
class Figures:
    """What was found so far; `misses` says which strings and markers went wrong."""

    hits: dict[int, list[bool]] = field(default_factory=lambda: defaultdict(list))
    seconds: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    kept: list[bool] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    misses: list[tuple[int, Planted, float]] = field(default_factory=list)
    images: int = 0
    clean_images: int = 0
    clean_touched: int = 0
    clean_pixels: int = 0
    clean_covered: int = 0

    def add_planted(self, case: Case) -> None:
        """Read one image with text; one that is refused counts as no hit and no marker kept."""
        self.images += 1
        start = time.process_time()
        try:
            reading = read(case)
        except Quarantined as exc:
            self.refused[exc.code] += 1
            for planted in case.strings:
                self.hits[planted.contrast].append(False)
            self.kept.append(False)
            return
        self.seconds[max(case.pixels.shape)].append(time.process_time() - start)
        mask = covered(case, reading)
        for planted in case.planted:
            x0, y0, x1, y1 = planted.box
            share = float(mask[y0:y1, x0:x1].mean())
            is_right = share < MARKER_COVER if planted.is_marker else share >= COVER
            (self.kept if planted.is_marker else self.hits[planted.contrast]).append(is_right)
            if not is_right:
                self.misses.append((max(case.pixels.shape), planted, share))

    def add_clean(self, case: Case) -> None:
        """Read one image without text; one that is refused counts as covered whole."""
        self.clean_images += 1
        try:
            touched = int(covered(case, read(case)).sum())
        except Quarantined:
            touched = case.pixels.size
        self.clean_touched += touched > 0
        self.clean_covered += touched
        self.clean_pixels += case.pixels.size

    def recall(self, split: Split, reader_version: str) -> ReaderRecall:
        """Return the figures as they are shipped."""
        return ReaderRecall(
            reader=READER,
            reader_version=reader_version,
            pleura_version=VERSION,
            split=split,
            measured_on=datetime.now(UTC).date(),
            images=self.images,
            covered_percent=round(100 * COVER),
            smallest_height_px=MIN_HEIGHT_PX,
            strings={c: _share(found) for c, found in sorted(self.hits.items())},
            markers_kept=_share(self.kept),
            refused=dict(self.refused),
            clean_images_touched=Share(count=self.clean_touched, of=self.clean_images),
            clean_pixels_covered=Share(count=self.clean_covered, of=self.clean_pixels),
        )


def _share(found: list[bool]) -> Share:
    return Share(count=sum(found), of=len(found))


def lines_of(recall: ReaderRecall, figures: Figures) -> Iterator[str]:
    """Yield the table."""
    for contrast, share in sorted(recall.strings.items()):
        yield f"contrast {contrast:3d} %: {share.count}/{share.of}"
    for name, share in ((">= 25 %", recall.strong), ("all", recall.every)):
        yield f"{name}: {share.count}/{share.of} = {share.percent:.1f} %"
    kept = recall.markers_kept
    yield f"markers kept: {kept.count}/{kept.of}; refused: {recall.refused}"
    area = recall.clean_pixels_covered.percent
    yield f"clean: {recall.clean_images_touched.count} images touched, area {area:.3f} %"
    for size, spent in sorted(figures.seconds.items()):
        yield f"{size:5d} px: {np.mean(spent):.2f} s mean, {max(spent):.2f} s most (CPU)"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure how much burned-in text is found.")
    parser.add_argument("--split", choices=("dev", "held"), default="dev")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--misses", action="store_true")
    parser.add_argument("--json", type=Path, help="file for the figures, as they are shipped")
    options = parser.parse_args()
    reader_version = installed_reader()
    if reader_version is None:
        parser.error("the extra ocr is not installed")
    shared, figures = shared_data(), Figures()
    for case in planted_cases(shared, options.split, options.images):
        figures.add_planted(case)
    for case in clean_cases(shared, options.split):
        figures.add_clean(case)
    recall = figures.recall(options.split, reader_version)
    if options.misses:
        for size, planted, share in figures.misses:
            print("miss", size, planted, round(share, 2))
    for line in lines_of(recall, figures):
        print(line)
    if options.json:
        write_atomic(options.json, recall.to_json(), mode=0o644)


if __name__ == "__main__":
    main()
