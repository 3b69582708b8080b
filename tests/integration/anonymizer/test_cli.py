"""The command `pleura anonymize`."""

from __future__ import annotations

import json
import os
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


def test_a_folder_that_cannot_be_read_is_told_and_exits_1(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = site / "in" / "closed"
    closed.mkdir()
    (site / "in" / "link.dcm").symlink_to(site / "in" / "Quibbleworth.dcm")
    scan = os.scandir

    def refuses(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuses)
    result = invoke(site, "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert (summary["folders_not_readable"], summary["links_passed_by"]) == (1, 1)
    assert summary["quarantined"] == {}


def test_an_input_without_files_exits_3_and_leaves_nothing(site: Path) -> None:
    (site / "empty").mkdir()
    result = invoke(site, source="empty", out="none")
    assert result.exit_code == 3
    assert "DEID-NO-INPUT" in result.output
    assert not (site / "none").exists()


def test_reading_all_and_nothing_is_a_wrong_command_line(site: Path) -> None:
    assert invoke(site, "--ocr", "all", "--accept-unread-text").exit_code == 2


def test_another_key_is_refused_before_anything_is_added(site: Path) -> None:
    assert invoke(site).exit_code == 0
    before = sorted(path.name for path in (site / "out").rglob("*"))
    (site / "key").unlink()
    ProjectKey.create(site / "key")
    result = invoke(site)
    assert result.exit_code == 1
    assert "DEID-KEYS-MIXED" in result.output
    assert sorted(path.name for path in (site / "out").rglob("*")) == before


def test_a_second_run_adds_to_the_name_map(site: Path) -> None:
    invoke(site, "--name-map", str(site / "names"))
    write(site / "more" / "z.dcm", ct_dataset(SOPInstanceUID="1.2.77"))
    invoke(site, "--name-map", str(site / "names"), source="more")
    lines = [json.loads(line) for line in (site / "names").read_text().splitlines()]
    assert len(lines) == len(list((site / "out").rglob("*.dcm")))
    (site / "names").write_text("a list of somebody's\n")
    result = invoke(site, "--name-map", str(site / "names"), source="more")
    assert "DEID-NAME-MAP" in result.output
    assert (site / "names").read_text() == "a list of somebody's\n"


def test_no_folder_of_an_output_is_open_whatever_the_umask(site: Path) -> None:
    old = os.umask(0)
    try:
        invoke(site)
    finally:
        os.umask(old)
    folders = [site / "out", *(p for p in (site / "out").rglob("*") if p.is_dir())]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
