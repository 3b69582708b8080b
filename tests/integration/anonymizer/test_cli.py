"""The command `pleura anonymize`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pleura.anonymizer.cli import app
from pleura.anonymizer.pseudonyms import ProjectKey
from tests.builders.identified import PLANTED, ct_dataset, write


@pytest.fixture
def site(tmp_path: Path) -> Path:
    ProjectKey.create(tmp_path / "key")
    write(tmp_path / "in" / "Quibbleworth.dcm", ct_dataset())
    return tmp_path


def invoke(site: Path, *extra: str, source: str = "in", out: str = "out") -> Result:
    extra = extra if "--jobs" in extra else (*extra, "--jobs", "1")
    command = ["run", str(site / source), str(site / out), "--profile", "gdpr_pseudonymous"]
    return CliRunner().invoke(app, [*command, "--key", str(site / "key"), *extra])


def test_a_clean_run_exits_0_and_prints_its_summary_as_json(site: Path) -> None:
    result = invoke(site, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["accepted"], summary["quarantined"]) == (1, {})
    assert len(list((site / "out").rglob("*.dcm"))) == 1
    assert not (site / "out.quarantine").exists()


def test_a_quarantined_object_exits_1_and_no_name_is_said(site: Path) -> None:
    head = ct_dataset(SOPInstanceUID="1.2.9", BodyPartExamined="HEAD")
    write(site / "in" / "Ludmilla.dcm", head)
    result = invoke(site)
    assert result.exit_code == 1
    assert "FACE_IN_FIELD" in result.stderr
    assert result.stdout == ""
    for value in (*PLANTED.values(), "Quibbleworth", "Ludmilla"):
        assert value not in result.output
    assert list((site / "out.quarantine" / "FACE_IN_FIELD").glob("*.dcm"))


def test_the_override_accepts_a_radiograph(site: Path) -> None:
    write(site / "in" / "b.dcm", ct_dataset(SOPInstanceUID="1.2.9", Modality="DX"))
    result = invoke(site, "--accept-unread-text", "--jobs", "2", "--quarantine", str(site / "q"))
    assert result.exit_code == 0, result.output
    assert len(list((site / "out").rglob("*.dcm"))) == 2


def test_one_file_may_be_given(site: Path) -> None:
    assert invoke(site, source="in/Quibbleworth.dcm").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--key", "none"], "KEY-READ"),
        (["--profile", "other"], "DEID-PROFILE"),
    ],
)
def test_a_wrong_key_or_profile_exits_3(site: Path, arguments: list[str], code: str) -> None:
    result = invoke(site, *arguments)
    assert result.exit_code == 3
    assert code in result.stderr
    assert not (site / "out").exists()


def test_an_output_inside_the_input_exits_3(site: Path) -> None:
    result = invoke(site, out="in/out")
    assert result.exit_code == 3
    assert "DEID-OUT" in result.stderr


def test_a_wrong_command_line_exits_2(site: Path) -> None:
    assert invoke(site, "--jobs", "0").exit_code == 2
    assert invoke(site, source="absent").exit_code == 2


def test_keygen_prints_the_key_id_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "project.key"
    result = CliRunner().invoke(app, ["keygen", str(path), "--version", "2"])
    assert result.exit_code == 0
    assert result.stdout.strip() == ProjectKey.load(path).key_id
    again = CliRunner().invoke(app, ["keygen", str(path)])
    assert again.exit_code == 3
    assert ProjectKey.load(path).version == 2
