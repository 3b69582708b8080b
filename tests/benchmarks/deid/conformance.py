"""New errors that dciodvfy (dicom3tools) reports in an output but not in its planted file."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.deid.manifest import Corpus

_VALUE = re.compile(r"<[^<>]*> - |\[\d+\]| = <.*")


def new_errors(corpus: Corpus, outputs: Mapping[str, Path | None]) -> int | None:
    """Count error kinds (message, element, module) that a tool brought into files.

    Returns None where dciodvfy is not installed. One kind counts once a file.
    """
    program = shutil.which("dciodvfy")
    if program is None:
        return None
    total = 0
    for file in corpus.files:
        path = outputs.get(file.path.name)
        if path is not None:
            total += len(_errors(program, path) - _errors(program, file.path))
    return total


def _errors(program: str, path: Path) -> frozenset[str]:
    done = subprocess.run([program, str(path)], capture_output=True, timeout=60, check=False)
    text = (done.stdout + done.stderr).decode("latin-1")
    lines = (line for line in text.splitlines() if line.startswith("Error"))
    return frozenset(_VALUE.sub("", line).strip() for line in lines)
