"""The command `pleura anonymize` in this process, over a site with two files of one patient."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from pleura.anonymizer.cli import app
from pleura.anonymizer.pseudonyms import ProjectKey
from tests.builders.identified import PLANTED, ct_dataset, write


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def run(site: Path, *extra: object, profile: str = "gdpr_pseudonymous") -> Result:
    command = ("run", site / "in", site / "out", "--profile", profile, "--jobs", 1)
    return call(*command, "--key", site / "key", "--name-map", site / "names", *extra)


def two_files(tmp_path: Path) -> Path:
    """Write a key and two CT slices; return the site's folder."""
    ProjectKey.create(tmp_path / "key")
    write(tmp_path / "in" / "a.dcm", ct_dataset())
    write(tmp_path / "in" / "b.dcm", ct_dataset(SOPInstanceUID="1.2.9"))
    return tmp_path


def verified(site: Path, *extra: object) -> tuple[int, dict[str, int], dict[str, object]]:
    result = call("verify", site / "out", "--json", *extra)
    assert not any(value in result.output for value in PLANTED.values())
    report = json.loads(result.stdout)
    return result.exit_code, {k: n for k, n in report["failed"].items() if n}, report


def pairs(site: Path) -> tuple[object, ...]:
    return "--against", site / "in", "--name-map", site / "names"
