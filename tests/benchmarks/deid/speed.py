"""Speed and memory of Pleura, pydicom and the peers on the same CT slices in the same run.

`python -m tests.benchmarks.deid.speed [--rounds N] [--json FILE]` writes 144 slices of about
515 KiB derived from one real CT. Each tool works through them in a process of its own, one tool
after another, N times over; its best round counts. Pleura writes without fsync here, as the
others do, with its self-check on. The peers are given their easiest work: deid cleans headers
only. Then: two workers of a durable batch beside one, and a multi-frame object of one gigabyte.
Exits 1 where a goal is missed; processor time counts for speed, so other load hardly does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from pleura.anonymizer.batch import run_batch
from pleura.anonymizer.profile import PROFILE_NAMES, load_profile
from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.common.files import free_bytes
from tests.benchmarks import large_multiframe
from tests.benchmarks.deid.drivers.folder_run import cpu_seconds
from tests.benchmarks.deid.peers import DRIVERS, PEERS, Peer, ensure_venv, run_driver
from tests.benchmarks.deid_speed import FILES, SLICE, write_series
from tests.builders.shared_data import find_shared_data

TARGET_PER_CORE: Final = 200
TARGET_TWO_WORKERS: Final = 1.8
BATCH_FILES: Final = 32 * FILES  # the start of the workers takes two thirds of a second
DISK_ROUNDS: Final = 2
_SERIES_BYTES: Final = BATCH_FILES * 520 * 1024
DISK_BYTES: Final = (1 + 2 * DISK_ROUNDS) * _SERIES_BYTES
MEMORY: Final = Path("/dev/shm")
PYDICOM: Final = Peer("pydicom read+save", DRIVERS / "pydicom_driver.py")
PLEURA: Final = tuple(
    Peer(f"Pleura {name}", DRIVERS / "pleura_files_driver.py", ("--profile", name))
    for name in PROFILE_NAMES
)


@dataclass(frozen=True, slots=True)
class Pace:
    """What one tool reached: its best round in processor and wall time, its largest memory."""

    name: str
    files: int
    written: int
    cpu_s: float
    wall_s: float
    peak_mb: float
    note: str

    @property
    def per_core(self) -> float:
        """Return files written in one second of processor time."""
        return self.written / self.cpu_s

    def best(self, other: Pace) -> Pace:
        """Return the better of two rounds, the worse memory, the fewer files written."""
        return replace(
            self,
            written=min(self.written, other.written),
            cpu_s=min(self.cpu_s, other.cpu_s),
            wall_s=min(self.wall_s, other.wall_s),
            peak_mb=max(self.peak_mb, other.peak_mb),
            note=self.note or other.note,
        )


def contenders(root: Path | None = None) -> list[tuple[Peer, Path]]:
    """Return every tool with the interpreter it runs in; peers only where they can be had.

    Raises:
        ValueError, OSError, subprocess.SubprocessError: as `ensure_venv`.
    """
    here = Path(sys.executable)
    there = (ensure_venv(root) if root else ensure_venv()).absolute() / "bin" / "python"
    easiest = [
        replace(peer, options=(*peer.options, "--headers-only"))
        if peer.script.name == "deid_driver.py"
        else peer
        for peer in PEERS
    ]
    return [(tool, here) for tool in (PYDICOM, *PLEURA)] + [(peer, there) for peer in easiest]


def pace_of(tool: Peer, python: Path, series: Path) -> Pace | None:
    """Run one tool once over the series; None when it wrote nothing at all."""
    with tempfile.TemporaryDirectory() as work:
        outcome = run_driver(tool, python, series, Path(work) / "run")
    written = sum(path is not None for path in outcome.outputs.values())
    cpu_s, wall_s, peak_mb = outcome.cpu_s, outcome.wall_s, outcome.peak_mb
    if not written or cpu_s is None or wall_s is None or peak_mb is None:
        return None
    return Pace(tool.name, len(outcome.outputs), written, cpu_s, wall_s, peak_mb, outcome.note)


def race(tools: Sequence[tuple[Peer, Path]], series: Path, rounds: int) -> dict[str, Pace | None]:
    """Run every tool, `rounds` times over, each in turn so that load hits all alike."""
    paces: dict[str, Pace | None] = {tool.name: None for tool, _ in tools}
    for _ in range(rounds):
        for tool, python in tools:
            found, before = pace_of(tool, python, series), paces[tool.name]
            if found is not None:
                paces[tool.name] = before.best(found) if before else found
    return paces


def two_workers(source: Path, rounds: int, place: Path) -> dict[str, float]:
    """Return seconds of a durable batch with one and two workers: wall, processor, the ratio.

    `pairs_*` are the ratios of single rounds. In memory what counts is Pleura's own work; on a
    disk the kernel writes back beside it, on the second core as long as one worker leaves it
    free. On a disk no output is deleted before the end: ext4 is slow to give out the inodes of
    files deleted lately, which no hospital does between two batches.
    """
    seconds: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        (folder / "in").mkdir()
        files = write_series(source, folder / "in", BATCH_FILES)
        for number in range(rounds):
            for jobs in (1, 2) if number % 2 else (2, 1):
                out = folder / f"{number}-{jobs}" / "out"
                seconds[jobs].append(_batch_seconds(files, out, jobs))
                if place == MEMORY:
                    shutil.rmtree(out.parent)
    wall = {jobs: min(found)[0] for jobs, found in seconds.items()}
    pairs = [one[0] / two[0] for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {
        "one_s": wall[1], "two_s": wall[2], "times": wall[1] / wall[2],
        "pairs_least": min(pairs), "pairs_most": max(pairs),
        "one_cpu_s": min(cpu for _, cpu in seconds[1]),
        "two_cpu_s": min(cpu for _, cpu in seconds[2]),
    }  # fmt: skip


def _batch_seconds(files: Sequence[Path], out: Path, jobs: int) -> tuple[float, float]:
    key = ProjectKey.from_bytes(bytes(range(32)))
    started, used = time.perf_counter(), cpu_seconds()
    summary = run_batch(
        files, out, out.with_name(out.name + ".quarantine"),
        profile=load_profile("gdpr_pseudonymous"), key=key, jobs=jobs,
    )  # fmt: skip
    seconds = time.perf_counter() - started, cpu_seconds() - used
    if summary.accepted != len(files):
        raise RuntimeError(f"{summary.accepted} of {len(files)} slices were accepted")
    return seconds


def table_of(paces: dict[str, Pace | None]) -> Table:
    """Return the paces as a table for people."""
    table = Table(title=f"{FILES} CT slices of 515 KiB, one process each")
    table.add_column("tool")
    for head in ("files/s/core", "files/s wall", "time / pydicom", "peak MB", "written"):
        table.add_column(head, justify="right")
    table.add_column("note")
    plain = paces[PYDICOM.name]
    for name, pace in paces.items():
        if pace is None:
            table.add_row(name, "-", "-", "-", "-", "0", "wrote nothing")
            continue
        ratio = f"{plain.per_core / pace.per_core:.2f}" if plain else "-"
        table.add_row(
            name, f"{pace.per_core:.0f}", f"{pace.written / pace.wall_s:.0f}", ratio,
            f"{pace.peak_mb:.0f}", f"{pace.written}/{pace.files}", pace.note,
        )  # fmt: skip
    return table


def missed_goals(
    paces: dict[str, Pace | None], workers: dict[str, dict[str, float]], large: dict[str, float]
) -> list[str]:
    """Return the goals that this run did not reach, in words."""
    ours = [paces[tool.name] for tool in PLEURA]
    whole = [pace for pace in ours if pace is not None and pace.written == pace.files]
    missed = [] if len(whole) == len(ours) else ["a slice was not de-identified"]
    slowest = min((pace.per_core for pace in whole), default=0.0)
    if slowest < TARGET_PER_CORE:
        missed.append(f"{slowest:.0f} files/s/core, goal {TARGET_PER_CORE}")
    for peer in PEERS:
        pace = paces.get(peer.name)
        if pace is not None and pace.per_core >= slowest:
            missed.append(f"{peer.name} is as fast")
    for where, found in workers.items():
        if found["times"] < TARGET_TWO_WORKERS:
            times = f"{found['times']:.2f} times one, goal {TARGET_TWO_WORKERS}"
            missed.append(f"two workers {where} {times}")
    if large["peak_mb"] >= large_multiframe.TARGET_MB:
        missed.append(f"{large['peak_mb']:.0f} MB for 1 GB, goal {large_multiframe.TARGET_MB}")
    return missed


def measure(
    source: Path, rounds: int
) -> tuple[dict[str, Pace | None], dict[str, dict[str, float]]]:
    """Return the paces of all tools on one series derived from `source`, and the two workers.

    The latter by where they wrote: in memory, if there is room, and on disk.
    """
    with tempfile.TemporaryDirectory() as name:
        series = Path(name) / "series"
        series.mkdir()
        write_series(source, series)
        paces = race(contenders(), series, rounds)
    workers = {}
    if MEMORY.is_dir() and free_bytes(MEMORY) > 3 * _SERIES_BYTES:
        workers["in memory"] = two_workers(source, rounds, MEMORY)
    disk = Path(tempfile.gettempdir())
    workers["on disk"] = two_workers(source, min(rounds, DISK_ROUNDS), disk)
    return paces, workers


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    source = find_shared_data("dicom", *SLICE.split("/"))
    if source is None:
        print("the research data is not on this machine", file=sys.stderr)
        return 2
    if free_bytes(Path(tempfile.gettempdir())) < DISK_BYTES:
        print(f"no room for {DISK_BYTES / 1e9:.0f} GB of slices; set TMPDIR", file=sys.stderr)
        return 2
    try:
        paces, workers = measure(source, given.rounds)
    except subprocess.SubprocessError as exc:
        print(f"the peers could not be installed: {type(exc).__name__}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        large = large_multiframe.measure(1.0, Path(folder))
    console = Console(width=120)
    console.print(table_of(paces))
    for where, found in workers.items():
        console.print(
            f"{BATCH_FILES} slices, {where}: {found['one_s']:.1f} s with one worker, "
            f"{found['two_s']:.1f} s with two, {found['times']:.2f} times (single rounds "
            f"{found['pairs_least']:.2f} to {found['pairs_most']:.2f}); processor "
            f"{found['one_cpu_s']:.1f} s and {found['two_cpu_s']:.1f} s"
        )
    console.print(f"1 GB multi-frame: {large['peak_mb']:.0f} MB, {large['seconds']:.1f} s")
    console.print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors at the end")
    if given.json:
        record = {name: _figures(pace) for name, pace in paces.items()}
        whole = {"tools": record, "workers": workers, "large": large}
        given.json.write_text(json.dumps(whole, indent=1), encoding="utf-8")
    missed = missed_goals(paces, workers, large)
    for goal in missed:
        console.print(f"missed: {goal}")
    return 1 if missed else 0


def _figures(pace: Pace | None) -> dict[str, object] | None:
    if pace is None:
        return None
    fields = ("files", "written", "cpu_s", "wall_s", "peak_mb", "note", "per_core")
    return {field: getattr(pace, field) for field in fields}


if __name__ == "__main__":
    sys.exit(main())
