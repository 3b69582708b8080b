"""What a round costs: Pleura beside plain Flower, in one run on one machine.

    python -m tests.benchmarks.rounds                     # everything, about five minutes
    python -m tests.benchmarks.rounds --skip per-tensor   # without the slow case
    python -m tests.benchmarks.rounds --only pleura --timeline
    python -m tests.benchmarks.rounds --json rounds.json

Plain Flower's clients return the arrays untouched, Pleura's sites really train (one
step, one patient) and write a signed, durable answer. Fair is therefore Pleura's
overhead: the round without the slowest site's job. The stricter figure takes away
only the gradient steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pleura.client.nets.registry import build_network
from pleura.client.training.weights import arrays_of
from pleura.common.orders import ModelSpec
from tests.benchmarks.flower_rounds import FlowerBench, Tls
from tests.benchmarks.pleura_rounds import MARKS, PleuraBench, PleuraCase, RoundTimes

EMPTY, LARGE = "empty", "28 MB"
GOALS_S = {EMPTY: 0.7, LARGE: 1.5}
CASES = {EMPTY: PleuraCase("tiny_cnn_gn", 16), LARGE: PleuraCase("densenet121_gn", 32)}


@dataclass(frozen=True)
class Line:
    """One row of the table; seconds are medians over `rounds` rounds."""

    case: str
    system: str
    seconds: float
    rounds: int
    lowest: float
    highest: float
    peaks_mb: dict[str, int]


def median_line(case: str, system: str, seconds: Sequence[float], peaks_mb: dict[str, int]) -> Line:
    """Return the row of some measured rounds."""
    return Line(
        case, system, round(statistics.median(seconds), 3), len(seconds),
        round(min(seconds), 3), round(max(seconds), 3), peaks_mb,
    )  # fmt: skip


def pleura_lines(case: str, times: Sequence[RoundTimes], peaks_mb: dict[str, int]) -> list[Line]:
    """Return the rows of Pleura: overhead, stricter overhead, whole round."""
    return [
        median_line(case, "Pleura, overhead", [t.overhead for t in times], peaks_mb),
        median_line(case, "Pleura, all but steps", [t.overhead_strict for t in times], peaks_mb),
        median_line(case, "Pleura, whole round", [t.whole for t in times], peaks_mb),
    ]


def show_timeline(console: Console, case: str, times: Sequence[RoundTimes]) -> None:
    """Print when each step was reached by the last site, seconds after the round before closed."""
    table = Table(title=f"{case}: where a round's time goes", title_justify="left")
    table.add_column("reached")
    table.add_column("at s", justify="right")
    table.add_column("step s", justify="right")
    last = 0.0
    for name in MARKS:
        found = [t.marks[name] for t in times if name in t.marks]
        if found:
            at = statistics.median(found)
            table.add_row(name, f"{at:.3f}", f"{at - last:.3f}")
            last = at
    console.print(table)


def show_lines(console: Console, lines: Sequence[Line], load: float) -> None:
    """Print the table; ratios are to Pleura's overhead of the same case."""
    table = Table(title="A round with 3 sites, seconds (median)", title_justify="left")
    for name in ("round", "system", "s", "lowest..highest", "rounds", "ratio", "goal", "peak MB"):
        table.add_column(
            name, justify="left" if name in ("round", "system", "peak MB") else "right"
        )
    base = {line.case: line.seconds for line in lines if line.system == "Pleura, overhead"}
    for line in lines:
        is_judged = line.system == "Pleura, overhead"
        goal = f"<= {GOALS_S[line.case]}" if is_judged else ""
        if is_judged:
            goal += " met" if line.seconds <= GOALS_S[line.case] else " missed"
        ratio = f"{line.seconds / base[line.case]:.1f}" if line.case in base else ""
        peaks = ", ".join(f"{name} {peak}" for name, peak in sorted(line.peaks_mb.items()))
        table.add_row(
            line.case, line.system, f"{line.seconds:.2f}", f"{line.lowest:.2f}..{line.highest:.2f}",
            str(line.rounds), ratio, goal, peaks,
        )  # fmt: skip
    console.print(table)
    console.print(
        f"{os.cpu_count()} cores, load average {load:.1f} before the start; TLS everywhere, "
        "plain Flower without node authentication; its per-tensor peak memory includes the "
        "runs before it, as does the gateway's and the SuperLink's."
    )


def tensor_shapes() -> list[list[int]]:
    """Return the shapes of the tensors that the 28 MB rounds move."""
    network = build_network(ModelSpec(arch="densenet121_gn"), seed=1)
    return [list(array.shape) for array in arrays_of(network).values()]


def measure(args: argparse.Namespace, console: Console, root: Path) -> list[Line]:
    """Run what the arguments ask for."""
    lines: list[Line] = []
    bench = PleuraBench(root)
    try:
        if args.only == "flower":
            bench.federation.start_server()  # only its certificate is needed
        else:
            console.print("starting Pleura: coordinator and three sites")
            bench.start()
            for case, what in CASES.items():
                console.print(f"Pleura, {case}")
                times, peaks = bench.run(what, args.rounds)
                lines += pleura_lines(case, times, peaks)
                if args.timeline:
                    show_timeline(console, case, times)
    finally:
        bench.stop()
    if args.only == "pleura":
        return lines
    state = bench.federation.server_state / "tls"
    flower = FlowerBench(root, Tls(state / "ca.pem", state / "server.pem", state / "server.key"))
    shapes = tensor_shapes()
    values = sum(_product(shape) for shape in shapes)
    runs = [
        (EMPTY, "plain Flower", "empty", [[1]], args.rounds),
        (LARGE, "plain Flower, one array", "one-array", [[values]], args.rounds),
        (LARGE, f"plain Flower, {len(shapes)} arrays", "per-tensor", shapes, args.slow_rounds),
    ]
    try:
        console.print("starting plain Flower: SuperLink and three SuperNodes")
        flower.start()
        for case, title, name, what, rounds in runs:
            if name in args.skip:
                continue
            console.print(f"{title}, {case}")
            seconds, peaks = flower.run(
                name, what, rounds, warm_up=0 if name == "per-tensor" else 1
            )
            lines.append(median_line(case, title, seconds, peaks))
    finally:
        flower.stop()
    return lines


def _product(shape: Sequence[int]) -> int:
    result = 1
    for length in shape:
        result *= length
    return result


def main() -> None:
    """Measure, print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds after the warm-up")
    parser.add_argument("--slow-rounds", type=int, default=1, help="of one array a tensor")
    parser.add_argument("--only", choices=("pleura", "flower"))
    parser.add_argument(
        "--skip", nargs="+", default=[], choices=("empty", "one-array", "per-tensor")
    )
    parser.add_argument("--timeline", action="store_true", help="show where Pleura's time goes")
    parser.add_argument("--json", type=Path, help="write the table here too")
    parser.add_argument("--keep", type=Path, help="keep keys, stores and logs in this new folder")
    args = parser.parse_args()
    console = Console(stderr=True)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="pleura-rounds-") as temporary:
        root = args.keep or Path(temporary)
        lines = measure(args, console, root)
    show_lines(Console(file=sys.stdout, width=150), lines, load)
    if args.json is not None:
        record = {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "load_average": round(load, 1),
            "lines": [asdict(line) for line in lines],
        }
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
