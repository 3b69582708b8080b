"""Measures burned-in text: recall by contrast, markers kept, clean area, seconds an image.

python tests/benchmarks/burned_in.py [--split dev|held] [--images N] [--misses]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict

import numpy as np

from pleura.anonymizer.burnedin.clean import Reading, read_and_clean
from pleura.anonymizer.burnedin.finder import load_finder
from pleura.anonymizer.burnedin.policy import ReadingPlan
from pleura.anonymizer.errors import Quarantined
from pleura.anonymizer.text import Seeds
from tests.benchmarks.burned_in_cases import Case, clean_cases, planted_cases
from tests.builders.shared_data import shared_data

COVER = 0.95


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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--split", choices=("dev", "held"), default="dev")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--misses", action="store_true")
    options = parser.parse_args()
    shared = shared_data()
    hits: dict[int, list[bool]] = defaultdict(list)
    seconds: dict[int, list[float]] = defaultdict(list)
    kept: list[bool] = []
    refused: Counter[str] = Counter()
    for case in planted_cases(shared, options.split, options.images):
        start = time.process_time()
        try:
            reading = read(case)
        except Quarantined as exc:  # does not leave: counted apart, as no hit and no marker kept
            refused[exc.code] += 1
            for planted in case.strings:
                hits[planted.contrast].append(False)
            kept.append(False)
            continue
        seconds[max(case.pixels.shape)].append(time.process_time() - start)
        mask = covered(case, reading)
        for planted in case.planted:
            x0, y0, x1, y1 = planted.box
            share = float(mask[y0:y1, x0:x1].mean())
            if planted.is_marker:
                kept.append(share < 0.05)
            else:
                hits[planted.contrast].append(share >= COVER)
            if options.misses and (share >= 0.05 if planted.is_marker else share < COVER):
                print("miss", max(case.pixels.shape), planted, round(share, 2))
    touched = pixels = images = 0
    for case in clean_cases(shared, options.split):
        mask = covered(case, read(case))
        touched, pixels = touched + int(mask.sum()), pixels + mask.size
        images += bool(mask.any())
    for contrast, found in sorted(hits.items()):
        print(f"contrast {contrast:3d} %: {sum(found)}/{len(found)}")
    strong = [h for c, found in hits.items() if c >= 25 for h in found]
    every = [h for found in hits.values() for h in found]
    print(f">= 25 %: {sum(strong)}/{len(strong)} = {100 * np.mean(strong):.1f} %")
    print(f"all: {sum(every)}/{len(every)} = {100 * np.mean(every):.1f} %")
    print(f"markers kept: {sum(kept)}/{len(kept)}; refused: {dict(refused)}")
    print(f"clean: {images} images touched, area {100 * touched / pixels:.3f} %")
    for size, spent in sorted(seconds.items()):
        print(f"{size:5d} px: {np.mean(spent):.2f} s mean, {max(spent):.2f} s most (CPU)")


if __name__ == "__main__":
    main()
