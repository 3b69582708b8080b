"""Mutation test of the de-identifier in worker processes.

`python -m tests.benchmarks.deid_fuzz [--count 10000] [--seed s] [--workers 2]` damages small
generated files, and one in five small real files where the research data is there, de-identifies
them and decodes their pixels. A worker names each mutant before it touches it, so that a decoder
that ends the process, or never returns, is counted as a crash with the mutant that did it.
Prints one JSON object: counts by code, faults, crashes, the slowest file, peak memory. Exits 1
if anything but an accepted or a quarantined file was seen.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.connection
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from tests.builders.mutation_samples import Sample, generated_samples, leaked, real_samples
from tests.builders.mutation_trials import LIMIT_S, Outcome, Trials, recorded_events
from tests.builders.mutations import mutant
from tests.builders.shared_data import find_shared_data

ADDRESS_SPACE_BYTES: Final = 4 << 30
HANG_S: Final = 4 * LIMIT_S
PEAK_KIB: Final = 600 << 10
_SHOWN: Final = 20


@dataclass(slots=True)
class Tally:
    """What all workers have seen."""

    codes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: str = ""
    peak_kib: int = 0

    def add(self, outcome: Outcome) -> None:
        self.codes[outcome.code] += 1
        self.faults += [f"{outcome.name}: {fault}" for fault in outcome.faults]
        if outcome.seconds > self.slowest_s:
            self.slowest_s, self.slowest = outcome.seconds, outcome.name


def _samples(folder: Path) -> tuple[list[Sample], list[Sample]]:
    root = find_shared_data("dicom")
    return generated_samples(folder), real_samples(root) if root else []


def seed_of(number: int, seed: str, counts: tuple[int, int]) -> tuple[bool, int, str]:
    """Return whether a real file is damaged, which one, and by which seed."""
    made, real = counts
    if real and number % 5 == 4:
        return True, number // 5 % real, f"{seed}-{number}"
    return False, number % made, f"{seed}-{number}"


def work(numbers: range, seed: str, folder: Path, reports: Connection) -> None:
    """Try the mutants of these numbers; report each before and after."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    folder.mkdir(parents=True)
    (folder / "sound").mkdir()
    made, real = _samples(folder / "sound")
    trials = Trials(folder, decodes=True)
    with recorded_events(folder / "events.jsonl"):
        for number in numbers:
            is_real, which, its_seed = seed_of(number, seed, (len(made), len(real)))
            found = mutant((real if is_real else made)[which], its_seed)
            reports.send((number, found.name))
            reports.send(trials.attempt(found))
    said = (folder / "events.jsonl").read_bytes()
    values = {v for s in (*made, *real) for v in leaked(said, s.planted)}
    trials.close()
    reports.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(values)))
    reports.send(None)


@dataclass(slots=True)
class Worker:
    """One worker process and the mutant it is at."""

    numbers: range
    process: multiprocessing.Process
    reports: Connection
    at: int = -1
    name: str = "start"


class Fuzz:
    """Runs workers until every mutant was tried; one that dies is replaced behind its mutant."""

    def __init__(self, seed: str, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self.started = 0
        self.tally = Tally()

    def run(self, shares: Sequence[range]) -> Tally:
        workers = [self._start(share) for share in shares]
        while workers:
            ready = multiprocessing.connection.wait([w.reports for w in workers], timeout=HANG_S)
            for worker in workers if not ready else [w for w in workers if w.reports in ready]:
                successor = self._hear(worker) if ready else self._bury(worker, "hang")
                if successor is not worker:
                    workers.remove(worker)
                    workers += [successor] if successor else []
        return self.tally

    def _start(self, numbers: range) -> Worker:
        self.started += 1
        ours, theirs = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("spawn")
        process = context.Process(
            target=work, args=(numbers, self.seed, self.folder / str(self.started), theirs)
        )
        process.start()
        theirs.close()
        return Worker(numbers, process, ours)  # type: ignore[arg-type]

    def _hear(self, worker: Worker) -> Worker | None:
        try:
            report = worker.reports.recv()
        except EOFError:
            return self._bury(worker, "crash")
        if report is None:
            worker.process.join()
            return None
        if isinstance(report, Outcome):
            self.tally.add(report)
        elif isinstance(report[1], str):
            worker.at, worker.name = report
        else:
            self.tally.peak_kib = max(self.tally.peak_kib, report[0])
            self.tally.faults += ["a value in an event"] * report[1]
        return worker

    def _bury(self, worker: Worker, kind: str) -> Worker | None:
        if kind == "crash":
            worker.process.join(HANG_S)  # its end of the pipe is closed: it is ending
        worker.process.kill()
        worker.process.join()
        code = worker.process.exitcode or 0
        cause = signal.Signals(-code).name if code < 0 and kind == "crash" else f"{kind} {code}"
        self.tally.crashes.append(f"{worker.name}: {cause}")
        rest = range(worker.at + 1, worker.numbers.stop)
        if worker.at < 0 or not rest:
            return None
        return self._start(rest)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", default="fuzz")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    share = -(-options.count // options.workers)
    shares = [
        range(start, min(start + share, options.count))
        for start in range(0, options.count, share)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        tally = Fuzz(options.seed, Path(name)).run(shares)
    report = {
        "count": tally.codes.total(),
        "codes": dict(tally.codes.most_common()),
        "internal": tally.codes["INTERNAL"],
        "faults": len(tally.faults),
        "crashes": len(tally.crashes),
        "slowest_s": round(tally.slowest_s, 3),
        "slowest": tally.slowest,
        "peak_mib": tally.peak_kib >> 10,
    }
    sys.stdout.write(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    for line in (tally.faults + tally.crashes)[:_SHOWN]:
        sys.stderr.write(line + "\n")
    is_whole = tally.codes.total() + len(tally.crashes) == options.count
    is_sane = tally.peak_kib < PEAK_KIB
    return 0 if is_whole and is_sane and not tally.faults and not tally.crashes else 1


if __name__ == "__main__":
    sys.exit(main())
