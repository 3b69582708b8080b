"""New errors that dciodvfy (dicom3tools) reports in an output but not in its planted file.

Table E.1-1 itself breaks some objects: it orders a dummy for an attribute whose condition is
another attribute that it orders away. Which errors these are is found by doing only that: what
the table removes without a choice goes from the planted file, nothing else is touched.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from tests.benchmarks.deid.manifest import Corpus

_VALUE = re.compile(r"<[^<>]*> - |\[\d+\]| = <.*| <\d+(\.\d+)+>")


@dataclass(frozen=True, slots=True)
class NewErrors:
    """Error kinds, each counted once a file: the tool's own, and those the table orders."""

    own: int
    ordered: int


def new_errors(corpus: Corpus, outputs: Mapping[str, Path | None]) -> NewErrors | None:
    """Count error kinds (message, element, module) that a tool brought into files.

    Returns None where dciodvfy is not installed.
    """
    program = shutil.which("dciodvfy")
    if program is None:
        return None
    own = ordered = 0
    for file in corpus.files:
        path = outputs.get(file.path.name)
        if path is None:
            continue
        new = _errors(program, path) - _errors(program, file.path)
        removed = {r.tag for r in file.records if r.row is not None and r.row.basic == "X"}
        by_table = _errors_without(program, file.path, removed) if new else frozenset[str]()
        own += len(new - by_table)
        ordered += len(new & by_table)
    return NewErrors(own, ordered)


def _errors_without(program: str, path: Path, tags: Set[int]) -> frozenset[str]:
    """Return the errors of a file that has lost some attributes, at every depth."""
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(action="ignore"),
        disable_value_validation(),
    ):
        ds = dcmread(path)
        _remove(ds, tags)
        ds.save_as(Path(folder) / "a.dcm")
        return _errors(program, Path(folder) / "a.dcm")


def _remove(ds: Dataset, tags: Set[int]) -> None:
    for tag in [element.tag for element in ds if int(element.tag) in tags]:
        del ds[tag]
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                _remove(item, tags)


def _errors(program: str, path: Path) -> frozenset[str]:
    done = subprocess.run([program, str(path)], capture_output=True, timeout=60, check=False)
    text = (done.stdout + done.stderr).decode("latin-1")
    lines = (line for line in text.splitlines() if line.startswith("Error"))
    return frozenset(_VALUE.sub("", line).strip() for line in lines)
