"""Speed and memory of Pleura, pydicom and the peers on the same CT slices in the same run.

`python -m tests.benchmarks.deid.speed [--rounds N] [--json FILE]` writes 144 slices of about
515 KiB derived from one real CT. Each tool works through them in a process of its own, one tool
after another, N times over; its best round counts. Pleura writes without fsync here, as the
others do, with its self-check on. The peers are given their easiest work: deid cleans headers
only. Then: two workers of a durable batch beside one (`scaling.py`), and a multi-frame object
of one gigabyte.
Exits 1 where a goal is missed; processor time counts for speed, so other load hardly does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from pleura.anonymizer.profile import PROFILE_NAMES
from pleura.common.files import free_bytes
from tests.benchmarks import large_multiframe
from tests.benchmarks.deid.peers import DRIVERS, PEERS, Peer, ensure_venv, run_driver
from tests.benchmarks.deid.scaling import DISK_BYTES, TARGET_TIMES, Scaling, two_workers
from tests.benchmarks.deid_speed import FILES, SLICE, write_series
from tests.builders.shared_data import find_shared_data

TARGET_PER_CORE: Final = 200
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
    paces: dict[str, Pace | None], workers: Sequence[Scaling], large: dict[str, float]
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
    missed += [f"two workers {s.words}, goal {TARGET_TIMES}" for s in workers if not s.is_reached]
    if large["peak_mb"] >= large_multiframe.TARGET_MB:
        missed.append(f"{large['peak_mb']:.0f} MB for 1 GB, goal {large_multiframe.TARGET_MB}")
    return missed


def measure(source: Path, rounds: int) -> tuple[dict[str, Pace | None], list[Scaling]]:
    """Return the paces of all tools on one series derived from `source`, and the two workers."""
    with tempfile.TemporaryDirectory() as name:
        series = Path(name) / "series"
        series.mkdir()
        write_series(source, series)
        paces = race(contenders(), series, rounds)
    return paces, two_workers(source)


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
    for scaling in workers:
        console.print(f"two workers {scaling.words}")
    console.print(f"1 GB multi-frame: {large['peak_mb']:.0f} MB, {large['seconds']:.1f} s")
    console.print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors at the end")
    if given.json:
        record = {name: _figures(pace) for name, pace in paces.items()}
        whole = {"tools": record, "workers": [asdict(s) for s in workers], "large": large}
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
