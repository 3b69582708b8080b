"""What every driver shares: the command line, the loop over the files, the report.

A driver is run as a script in the environment of its tool: `python DRIVER --in FOLDER --out
FOLDER --json FILE`. The report is `{"files": {source name: output path or null}, "note": text,
"seconds_cpu": s, "seconds_wall": s, "peak_mb": mb}`. A file that the tool fails on has no
output, and the note counts the kinds of failure, never a value of a file. The clock runs from
after the imports to the last file; the peak is the process's own (`VmHWM`), since what
`getrusage` says of a child begins at the size of its parent.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

Work = Callable[[Path, Path], Path]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the command line that every driver has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--in", dest="source", type=Path, required=True)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--json", type=Path, required=True)
    return made


def drive(given: argparse.Namespace, begin: Callable[[], Work]) -> None:
    """Run the work that `begin` returns over each file (source, out folder) and report."""
    given.out.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in given.source.iterdir() if path.is_file())
    outputs: dict[str, str | None] = {path.name: None for path in files}
    failures: Counter[str] = Counter()
    started, used = time.perf_counter(), cpu_seconds()
    work = begin()
    for path in files:
        try:
            outputs[path.name] = str(work(path, given.out))
        except (Exception, SystemExit) as exc:  # noqa: BLE001  a foreign tool may raise anything
            failures[type(exc).__name__] += 1
    report = {
        "files": outputs,
        "note": ", ".join(f"{count} {name}" for name, count in sorted(failures.items())),
        "seconds_cpu": cpu_seconds() - used,
        "seconds_wall": time.perf_counter() - started,
        "peak_mb": peak_mb(),
    }
    given.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


def cpu_seconds() -> float:
    """Return the processor time of this process and of the ended processes it started."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def peak_mb() -> float:
    """Return the largest resident set of this process so far (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel does not tell the peak memory")
