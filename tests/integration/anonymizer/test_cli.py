"""The command `pleura anonymize`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pleura.anonymizer import cli
from pleura.anonymizer.cli import app
from pleura.anonymizer.errors import OcrUnavailable
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
        (["--key", "none"], "DEID-KEY-READ"),
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


@pytest.mark.parametrize("option", ["--key", "--mapping", "--name-map"])
@pytest.mark.parametrize("folder", ["in", "out", "q"])
def test_what_leads_back_to_people_lies_in_none_of_the_folders(
    site: Path, option: str, folder: str
) -> None:
    if option == "--key":
        (site / folder).mkdir(exist_ok=True)
        (site / "key").rename(site / folder / "file")
    extra = [option, str(site / folder / "file"), "--profile", "hipaa_safe_harbor"]
    before = sorted(site.rglob("*"))
    result = invoke(site, *extra, "--quarantine", str(site / "q"))
    assert result.exit_code == 3, result.output
    assert "DEID-OUT:" in result.stderr
    assert option in result.stderr
    assert sorted(site.rglob("*")) == before


def test_the_mapping_that_lies_beside_the_key_by_itself_is_checked_too(site: Path) -> None:
    (site / "out").mkdir()
    (site / "out" / "key.map.db").touch()
    (site / "key.map.db").symlink_to(site / "out" / "key.map.db")
    result = invoke(site, "--profile", "hipaa_safe_harbor")
    assert (result.exit_code, "--mapping" in result.stderr) == (3, True), result.output


def test_a_name_map_that_is_a_link_in_the_output_lies_there(site: Path) -> None:
    (site / "out").mkdir()
    (site / "out" / "names").symlink_to(site / "names")
    result = invoke(site, "--name-map", str(site / "out" / "names"))
    assert (result.exit_code, "--name-map" in result.stderr) == (3, True), result.output


def test_a_refused_run_leaves_nothing_behind(site: Path) -> None:
    (site / "file").write_text("no folder")
    before = sorted(site.iterdir())
    for extra in (
        ["--quarantine", str(site / "file" / "q")],
        ["--quarantine", str(site / "out" / "q")],
        ["--name-map", str(site / "file" / "names")],
    ):
        result = invoke(site, *extra, "--profile", "hipaa_safe_harbor")
        assert result.exit_code in (3, 4), result.output
        assert sorted(site.iterdir()) == before


def test_a_quarantine_open_to_others_is_named_before_a_file_is_read(site: Path) -> None:
    (site / "q").mkdir()
    (site / "q").chmod(0o755)  # whatever the umask is
    result = invoke(site, "--quarantine", str(site / "q"))
    assert result.exit_code == 4
    assert "HOST-MODE: the quarantine folder is open to others" in result.stderr
    assert not (site / "out").exists()


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


@pytest.mark.parametrize("place", ["missing/key", "."])
def test_a_key_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    result = CliRunner().invoke(app, ["keygen", str(tmp_path / place)])
    assert result.exit_code == 4
    assert "DEID-WRITE" in result.stderr


@pytest.mark.parametrize("option", ["--name-map", "--mapping", "--quarantine"])
def test_a_target_that_cannot_be_written_exits_4_before_a_file_is_read(
    site: Path, option: str
) -> None:
    (site / "file").write_text("no folder")
    extra = [option, str(site / "file" / "x")]
    if option == "--mapping":
        extra += ["--profile", "hipaa_safe_harbor"]
    result = invoke(site, *extra)
    assert result.exit_code == 4, result.output
    assert "DEID-WRITE" in result.stderr
    assert not list(site.glob("out/*"))


def test_what_lies_beside_the_objects_of_a_disc_is_left_out_and_exits_0(site: Path) -> None:
    (site / "in" / "README.TXT").write_text("Insert the disc. " * 20)
    directory = ct_dataset(SOPClassUID="1.2.840.10008.1.3.10")
    write(site / "in" / "DICOMDIR", directory)
    result = invoke(site)
    assert result.exit_code == 0, result.output
    assert "left out" in result.stderr
    assert "quarantined" not in result.stderr
    assert not list((site / "out.quarantine").rglob("*.dcm"))


def test_what_is_left_out_is_not_counted_as_quarantined_too(site: Path) -> None:
    (site / "in" / "README.TXT").write_text("Insert the disc. " * 20)
    write(site / "in" / "b.dcm", ct_dataset(SOPInstanceUID="1.2.9", BodyPartExamined="HEAD"))
    summary = json.loads(invoke(site, "--json").stdout)
    assert summary["quarantined"] == {"FACE_IN_FIELD": 1}
    assert (summary["accepted"], summary["left_out"]) == (1, 1)


def test_unread_text_is_warned_of(site: Path) -> None:
    assert "nobody looked" not in invoke(site).stderr
    result = invoke(site, "--accept-unread-text", out="other")
    assert "nobody looked for burned-in text" in result.stderr
    for said in (OcrUnavailable.hint, CliRunner().invoke(app, ["run", "--help"]).output):
        words = " ".join(said.replace("│", " ").split())
        assert "nothing of any picture is read or blacked out" in words


def test_ctrl_c_says_how_to_go_on_and_exits_130(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cli, "run_batch", interrupted)
        result = invoke(site)
    assert result.exit_code == 130
    assert "give the same command again" in result.stderr
    assert invoke(site).exit_code == 0


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
    assert result.exit_code == 3
    assert "DEID-KEYS-MIXED" in result.output
    assert "redo" not in result.output
    assert sorted(path.name for path in (site / "out").rglob("*")) == before


def test_another_profile_or_a_changed_audit_exits_3(site: Path) -> None:
    """What the how-to says; 1 would say that the batch ran and put some in quarantine."""
    invoke(site)
    result = invoke(site, "--options", "strict_prose")
    assert (result.exit_code, "DEID-PROFILES-MIXED" in result.stderr) == (3, True)
    audit = site / "out.audit.jsonl"
    audit.write_bytes(audit.read_bytes().replace(b'"ACCEPTED"', b'"REJECTED"', 1))
    result = invoke(site)
    assert (result.exit_code, "DEID-AUDIT" in result.stderr) == (3, True)


def test_one_file_is_one_file_and_the_quarantine_is_told_whole(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "1 file in" in invoke(site).stderr
    write(site / "in" / "b.dcm", ct_dataset(SOPInstanceUID="1.2.9", BodyPartExamined="HEAD"))
    monkeypatch.chdir(site)
    assert str(site / "q") in invoke(site, "--quarantine", "q").stderr
    told = CliRunner().invoke(app, ["verify", str(site / "out")]).stderr
    assert "1 file\n" in told
    assert "compared" not in told


def test_where_the_audit_was_moved_away_no_head_is_made_up(site: Path) -> None:
    assert "audit head" in invoke(site).stderr
    (site / "out.audit.jsonl").rename(site / "kept")
    result = invoke(site)
    assert result.exit_code == 0
    assert "audit head" not in result.stderr
    assert "0" * 64 not in result.stderr
    assert "no audit" in result.stderr
    assert not (site / "out.audit.jsonl").exists()


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
