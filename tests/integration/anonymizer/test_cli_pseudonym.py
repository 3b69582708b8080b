"""`pleura anonymize pseudonym`: forward only, from standard input, and nothing is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from typer.testing import CliRunner, Result

from pleura.anonymizer.cli import app
from pleura.anonymizer.pseudonyms import ProjectKey
from tests.builders.anonymize_cli import run, two_files
from tests.builders.identified import PLANTED


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return two_files(tmp_path)


def ask(site: Path, given: str | bytes, *extra: object, key: str = "key") -> Result:
    words = ("pseudonym", "--key", site / key, *extra)
    return CliRunner().invoke(app, [str(word) for word in words], input=given)


def named(site: Path) -> str:
    return str(dcmread(next((site / "out").rglob("*.dcm"))).PatientID)


@pytest.mark.parametrize("profile", ["gdpr_pseudonymous", "hipaa_safe_harbor"])
def test_a_patient_of_the_output_is_found_and_no_id_is_said(site: Path, profile: str) -> None:
    run(site, profile=profile)
    patient = PLANTED["PatientID"]
    result = ask(site, f"\ufeff {patient} \r\n")
    assert (result.exit_code, result.stdout) == (0, named(site) + "\n")
    assert patient not in result.output


def test_who_was_never_drawn_is_a_dash_and_asking_draws_nothing(site: Path) -> None:
    run(site, profile="hipaa_safe_harbor")
    before = (site / "key.map.db").read_bytes()
    for _ in range(2):
        result = ask(site, f"nobody\n{PLANTED['PatientID']}\n\n")
        assert result.stdout.splitlines() == ["-", named(site), "-"]
        assert result.exit_code == 1
        assert "DEID-NOT-DRAWN" in result.stderr
    assert (site / "key.map.db").read_bytes() == before


def test_a_mapping_of_another_key_is_refused(site: Path) -> None:
    run(site, profile="hipaa_safe_harbor")
    ProjectKey.create(site / "other")
    result = ask(site, "x\n", "--mapping", site / "key.map.db", key="other")
    assert result.exit_code == 3
    assert "DEID-MAPPING-KEY" in result.stderr


def test_computed_names_are_asked_for_though_a_mapping_is_there(site: Path) -> None:
    run(site, profile="hipaa_safe_harbor")
    result = ask(site, "MRN-1\n", "--computed")
    assert result.stdout == ProjectKey.load(site / "key").patient("MRN-1", "") + "\n"
    assert ask(site, "", "--computed", "--mapping", site / "key.map.db").exit_code == 2


def test_an_id_that_is_not_utf8_gets_no_name(site: Path) -> None:
    result = ask(site, "Müller\nMRN-1\n".encode("latin-1"))
    lines = result.stdout.splitlines()
    assert (result.exit_code, lines[0]) == (1, "-")
    assert lines[1] == ProjectKey.load(site / "key").patient("MRN-1", "")
