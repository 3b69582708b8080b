"""Runs of the de-identifier under test: every run is a process of its own, with a key file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pleura.anonymizer.profile import Profile, load_profile
from tests.benchmarks.deid import peers
from tests.benchmarks.deid.consistency import Consistency, compare

LIMIT_S: Final = 3600
_COLUMNS: Final[Mapping[str, str]] = {
    "modified_dates": "rtn_long_modif_dates",
    "descriptors": "clean_desc",
    "structured": "clean_struct_cont",
    "graphics": "clean_graph",
    "patient_chars": "rtn_pat_chars",
    "device": "rtn_dev_id",
    "safe_private": "rtn_safe_priv",
}


@dataclass(frozen=True, slots=True)
class Run:
    """Outputs by name of the source, and what the tool said."""

    outputs: Mapping[str, Path | None]
    note: str


def columns_of(profile: Profile) -> frozenset[str]:
    """Return the option columns of Table E.1-1 a profile claims."""
    return frozenset(_COLUMNS[name] for name in profile.options)


def run_profile(
    name: str, folder: Path, work: Path, key_file: Path, *, skip_pixels: bool = False
) -> Run:
    """De-identify a folder under one profile in another process.

    Raises:
        subprocess.SubprocessError: the process failed or did not end.
    """
    work.mkdir(parents=True)
    report = work / "report.json"
    command = [
        sys.executable, "-m", "tests.benchmarks.deid.pleura_driver", "--in", str(folder),
        "--out", str(work / "out"), "--json", str(report), "--key-file", str(key_file),
        "--profile", load_profile(name).name, *(["--skip-pixels"] if skip_pixels else []),
    ]  # fmt: skip
    with (work / "log.txt").open("wb") as log:
        subprocess.run(command, cwd=peers.ROOT, stdout=log, stderr=log, timeout=LIMIT_S, check=True)
    said = json.loads(report.read_text(encoding="utf-8"))
    outputs = {source: Path(path) if path else None for source, path in said["files"].items()}
    return Run(outputs, said["note"])


def check_consistency(name: str, folder: Path, work: Path) -> Consistency:
    """Run a profile twice with one key and once with another, pixels left unread."""
    work.mkdir(parents=True)
    runs = [
        run_profile(name, folder, work / label, work / f"{key}.key", skip_pixels=True)
        for label, key in (("first", "a"), ("again", "a"), ("other", "b"))
    ]
    first, again, other = (run.outputs for run in runs)
    return compare(first, again, other)
