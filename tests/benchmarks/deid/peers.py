"""The de-identifiers that pip can install, run over one folder, each in a process of its own.

They live in `.venv-peers`, apart from everything of this repository: their drivers know only
the folder they read and the folder they write. A peer that cannot be installed, does not start,
dies or fails on a file gives no output for it and a note that says so; the bench goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "PLEURA_PEERS_VENV"
ROOT: Final = Path(__file__).resolve().parents[3]
DRIVERS: Final = Path(__file__).with_name("drivers")
PINS: Final = {"dicognito": "0.19.0", "dicom-anonymizer": "2.1.0", "deid": "0.4.13"}
LIMIT_S: Final = 3600
_VERSIONS: Final = (
    "import importlib.metadata as m, json, sys; "
    "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}))"
)


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the table: a driver, and what is added to its command line."""

    name: str
    script: Path
    options: tuple[str, ...] = ()


PEERS: Final = (
    Peer(f"dicognito {PINS['dicognito']}", DRIVERS / "dicognito_driver.py"),
    Peer(f"dicom-anonymizer {PINS['dicom-anonymizer']}", DRIVERS / "dicom_anonymizer_driver.py"),
    Peer(
        f"dicom-anonymizer {PINS['dicom-anonymizer']}, 2026c",
        DRIVERS / "dicom_anonymizer_driver.py",
        ("--rules", "2026c"),
    ),
    Peer(f"deid {PINS['deid']}", DRIVERS / "deid_driver.py"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one tool made of a folder: source name to output, None where there is none."""

    name: str
    outputs: Mapping[str, Path | None]
    note: str
    cpu_s: float | None = None
    wall_s: float | None = None
    peak_mb: float | None = None


def ensure_venv(root: Path = ROOT) -> Path:
    """Return the folder of an environment that holds every peer; make it where it is missing.

    PLEURA_PEERS_VENV names one that is there already.

    Raises:
        ValueError: the named environment lacks a peer or holds another version of it.
        OSError: the environment cannot be made.
        subprocess.SubprocessError: pip could not install the peers.
    """
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else root / ".venv-peers"
    if _missing(folder):
        if named:
            raise ValueError(f"{VARIABLE} names no environment with {_pins()}")
        venv.create(folder, with_pip=True)
        command = [str(_python(folder)), "-m", "pip", "install", "--quiet"]
        subprocess.run(
            [*command, "--disable-pip-version-check", *_pins()], check=True, timeout=LIMIT_S
        )
        if _missing(folder):
            raise ValueError(f"pip did not install {_missing(folder)}")
    return folder


def run_all(
    corpus_folder: Path, work: Path, *, peers: Sequence[Peer] = PEERS, root: Path = ROOT
) -> list[Outcome]:
    """Run every peer over `corpus_folder`; outputs and reports lie in `work`."""
    try:
        python = _python(ensure_venv(root))
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        note = f"the peers' environment is missing: {type(exc).__name__}"
        return [Outcome(peer.name, _nothing(corpus_folder), note) for peer in peers]
    return [
        run_driver(peer, python, corpus_folder, work / f"{number:02d}")
        for number, peer in enumerate(peers, 1)
    ]


def run_driver(peer: Peer, python: Path, corpus_folder: Path, work: Path) -> Outcome:
    """Run one driver; whatever it does, every file of the corpus has an entry."""
    work.mkdir(parents=True)
    report, out = work / "report.json", work / "out"
    command = [
        str(python), str(peer.script), "--in", str(corpus_folder.resolve()),
        "--out", str(out.resolve()), "--json", str(report.resolve()), *peer.options,
    ]  # fmt: skip
    with (work / "log.txt").open("wb") as log:
        try:
            done = subprocess.run(
                command, cwd=work, stdout=log, stderr=log, timeout=LIMIT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            return Outcome(peer.name, _nothing(corpus_folder), f"{type(exc).__name__}, no output")
    if done.returncode != 0:
        note = f"the tool ended with {done.returncode}, no output"
        return Outcome(peer.name, _nothing(corpus_folder), note)
    try:
        return _read_report(peer.name, report, out, corpus_folder)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        note = f"unreadable report: {type(exc).__name__}"
        return Outcome(peer.name, _nothing(corpus_folder), note)


def _read_report(name: str, report: Path, out: Path, corpus_folder: Path) -> Outcome:
    said = json.loads(report.read_text(encoding="utf-8"))
    outputs, absent = _nothing(corpus_folder), 0
    for source in outputs:
        place = said["files"].get(source)
        if place is None:
            continue
        path = Path(place)
        if path.is_file() and path.resolve().is_relative_to(out.resolve()):
            outputs[source] = path
        else:
            absent += 1
    notes = [said["note"], f"{absent} outputs reported but not there" if absent else ""]
    return Outcome(
        name,
        outputs,
        "; ".join(note for note in notes if note),
        said["seconds_cpu"],
        said.get("seconds_wall"),
        said.get("peak_mb"),
    )


def _nothing(corpus_folder: Path) -> dict[str, Path | None]:
    return {path.name: None for path in sorted(corpus_folder.iterdir()) if path.is_file()}


def _python(folder: Path) -> Path:
    return folder.absolute() / "bin" / "python"


def _pins() -> list[str]:
    return [f"{name}=={version}" for name, version in PINS.items()]


def _missing(folder: Path) -> list[str]:
    if not _python(folder).exists():
        return list(PINS)
    done = subprocess.run(
        [str(_python(folder)), "-c", _VERSIONS], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return list(PINS)
    found = {name.replace("_", "-"): version for name, version in json.loads(done.stdout).items()}
    return [name for name, version in PINS.items() if found.get(name) != version]


if __name__ == "__main__":
    print(ensure_venv(), file=sys.stderr)
