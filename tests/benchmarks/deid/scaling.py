"""Two workers of a durable batch beside one, in turns, and what the machine itself gives.

`python -m tests.benchmarks.deid.scaling` needs 8 GB of memory and 27 GB of disk for 4,608
slices. A round times one worker and two, one after the other, so that both meet the machine in
the same state; the median of the rounds counts. In memory a round also times the same work
without a batch: one process, and two that share the files and nothing else. What those gain is
all that two of this machine's processors can. Exits 1 below 1.8 times. In memory only
Pleura's own work counts; on a disk the kernel writes back beside it, and takes the second
processor as long as one worker leaves it free.

With `--workers 1 2 4 8` one batch of each number of workers is timed in memory instead, beside as
many processes without a batch; nothing is held to a goal.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pleura.anonymizer.batch import run_batch
from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.common.files import free_bytes
from tests.benchmarks.deid_speed import FILES, SLICE, write_series
from tests.builders.shared_data import find_shared_data

TARGET_TIMES: Final = 1.8
BATCH_FILES: Final = 32 * FILES
_APART_FILES: Final = 8 * FILES
_MEMORY_ROUNDS: Final = 7
_DISK_ROUNDS: Final = 5
_SERIES_BYTES: Final = BATCH_FILES * 520 * 1024
DISK_BYTES: Final = (1 + 2 * _DISK_ROUNDS) * _SERIES_BYTES
MEMORY: Final = Path("/dev/shm")
_KEY: Final = ProjectKey.from_bytes(bytes(range(32)))


@dataclass(frozen=True, slots=True)
class Scaling:
    """Seconds of every round, from the start of the workers to the last line of the audit.

    `apart` has the ratios of the rounds without a batch, if there were any.
    """

    where: str
    one_s: Sequence[float]
    two_s: Sequence[float]
    apart: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast two workers were in each round."""
        return [one / two for one, two in zip(self.one_s, self.two_s, strict=True)]

    @property
    def times(self) -> float:
        """How many times as fast two workers are."""
        return statistics.median(self.ratios)

    @property
    def is_reached(self) -> bool:
        """Whether two workers are fast enough."""
        return self.times >= TARGET_TIMES

    @property
    def words(self) -> str:
        """The figures in a line."""
        single = ", ".join(f"{ratio:.2f}" for ratio in self.ratios)
        apart = f"; without a batch {statistics.median(self.apart):.2f}" if self.apart else ""
        return (
            f"{self.where}: {min(self.two_s):.1f} s for {BATCH_FILES} slices, one "
            f"{min(self.one_s):.1f} s, {self.times:.2f} times (rounds {single}{apart})"
        )


def two_workers(source: Path) -> list[Scaling]:
    """Measure in memory, if there is room, and on disk."""
    found = []
    if MEMORY.is_dir() and free_bytes(MEMORY) > 3 * _SERIES_BYTES:
        found.append(_measured("in memory", source, _MEMORY_ROUNDS, MEMORY))
    return [*found, _measured("on disk", source, _DISK_ROUNDS, Path(tempfile.gettempdir()))]


def _measured(where: str, source: Path, rounds: int, place: Path) -> Scaling:
    """Time some rounds, each with the machine in the same state.

    On a disk no output of a batch is deleted before the end: ext4 is slow to give out the inodes
    of files deleted lately, which no hospital does between two batches. It is only dropped from
    memory.
    """
    batch: dict[int, list[float]] = defaultdict(list)
    apart: list[float] = []
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        (folder / "in").mkdir()
        files = write_series(source, folder / "in", BATCH_FILES)
        for number in range(rounds):
            order = (1, 2) if number % 2 else (2, 1)
            for count in order:
                out = folder / f"{number}-{count}" / "out"
                batch[count].append(_batch_seconds(files, out, count))
                if place == MEMORY:
                    shutil.rmtree(out.parent)
                else:
                    _drop_from_memory(out)
            if place == MEMORY:
                found = {n: _apart_seconds(files[:_APART_FILES], folder, n) for n in order}
                apart.append(found[1] / found[2])
    return Scaling(where, batch[1], batch[2], apart)


def _drop_from_memory(folder: Path) -> None:
    """Have the kernel forget the pages of files that are on disk."""
    for path in folder.rglob("*.dcm"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _print_each(source: Path, counts: Sequence[int]) -> None:
    """Time and print one batch of each number of workers, in memory."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        (folder / "in").mkdir()
        files = write_series(source, folder / "in", BATCH_FILES)
        first: tuple[float, float] | None = None
        for count in counts:
            batch = _batch_seconds(files, folder / f"{count}" / "out", count)
            shutil.rmtree(folder / f"{count}")
            apart = _apart_seconds(files, folder, count)
            first = first or (batch, apart)
            print(
                f"{count} workers: {batch:.2f} s, {len(files) / batch:.0f} files/s, "
                f"{first[0] / batch:.2f} times; without a batch {apart:.2f} s, "
                f"{first[1] / apart:.2f} times",
                flush=True,
            )


def _batch_seconds(files: Sequence[Path], out: Path, jobs: int) -> float:
    started = time.perf_counter()
    summary = run_batch(
        files, out, out.with_name(out.name + ".quarantine"),
        profile=load_profile("gdpr_pseudonymous"), key=_KEY, jobs=jobs,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if summary.accepted != len(files):
        raise RuntimeError(f"{summary.accepted} of {len(files)} slices were accepted")
    return seconds


def _apart_seconds(files: Sequence[Path], folder: Path, count: int) -> float:
    """Return the seconds of `count` processes, forked here, of which each has its own files."""
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(dir=folder) as out:
        shares = [files[start::count] for start in range(count)]
        started = time.perf_counter()
        processes = [fork.Process(target=_deidentify, args=(s, Path(out))) for s in shares]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        seconds = time.perf_counter() - started
    if any(process.exitcode for process in processes):
        raise RuntimeError("a slice was not de-identified")
    return seconds


def _deidentify(files: Sequence[Path], out: Path) -> None:
    profile = load_profile("gdpr_pseudonymous")
    for path in files:
        deidentify_file(path, out, profile=profile, key=_KEY, fsync=False)


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, nargs="+", default=[], help="only time these")
    counts = parser.parse_args().workers
    source = find_shared_data("dicom", *SLICE.split("/"))
    if source is None:
        print("the research data is not on this machine", file=sys.stderr)
        return 2
    if counts:
        _print_each(source, counts)
        return 0
    found = two_workers(source)
    for scaling in found:
        print(f"two workers {scaling.words}")
    return 0 if all(scaling.is_reached for scaling in found) else 1


if __name__ == "__main__":
    sys.exit(main())
