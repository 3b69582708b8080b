"""What a batch meets on a real host: pipes, closed files, foreign folders, a cut audit."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from pleura.anonymizer import members
from pleura.anonymizer.audit import AuditEntry, AuditLog, cut_back, verify_audit
from pleura.anonymizer.batch import BatchSummary, run_batch
from pleura.anonymizer.errors import (
    AuditBroken,
    KeysMixed,
    NameMapDamaged,
    OutputForeign,
    ProfilesMixed,
    WriteRefused,
)
from pleura.anonymizer.holdings import erase_from
from pleura.anonymizer.journal import Journal
from pleura.anonymizer.naming import read_name_map
from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.common.clock import SystemClock
from pleura.common.errors import DiskFull
from tests.builders.deidentified import GDPR, KEY
from tests.builders.identified import ct_dataset, write


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write(tmp_path / "in" / "a.dcm", ct_dataset())
    return tmp_path


def run(site: Path, **changes: object) -> BatchSummary:
    options: dict[str, object] = {"profile": GDPR, "key": KEY, "follow_archives": True} | changes
    files = sorted(p for p in (site / "in").rglob("*") if not p.is_dir())
    return run_batch(files, site / "out", site / "q", **options)  # type: ignore[arg-type]


# --- objects ---------------------------------------------------------------------


def test_one_sop_uid_in_two_studies_turns_both_objects_away(site: Path) -> None:
    write(site / "in" / "b.dcm", ct_dataset(StudyInstanceUID="1.2.7", StudyDescription="Thorax"))
    for _ in range(2):  # the second run judges them again
        summary = run(site)
        assert (summary.accepted, dict(summary.quarantined)) == (0, {"DUPLICATE_DIFFERS": 2})
    assert not list((site / "out").rglob("*.dcm"))


def test_an_object_taken_out_of_the_output_disputes_nothing(site: Path) -> None:
    run(site)
    (placed,) = (site / "out").rglob("*.dcm")
    placed.unlink()
    (site / "in" / "a.dcm").unlink()
    write(site / "in" / "b.dcm", ct_dataset(StudyDescription="Thorax"))
    assert run(site).accepted == 1


# --- sources ---------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [0, 1])
def test_a_named_pipe_is_unreadable_and_keeps_nobody_waiting(site: Path, jobs: int) -> None:
    os.mkfifo(site / "in" / "b.dcm")
    summary = run(site, jobs=jobs)
    assert (summary.accepted, dict(summary.quarantined)) == (1, {"UNREADABLE": 1})


def test_a_file_that_could_not_be_read_is_tried_again(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, opened = site / "in" / "a.dcm", os.open

    def refuses(path: object, *args: object, **options: object) -> int:
        if path == closed:  # root may read everything, so rights cannot tell
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuses)
        assert dict(run(site).quarantined) == {"UNREADABLE": 1}
    assert run(site).accepted == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "TRUNCATED"),
        (bytes(100), "TRUNCATED"),
        (b"\x08\0\x05\0CS\n\0ISO_IR 100" + bytes(200), "NO_PREAMBLE"),
        (b"\x02\0\0\0UL\4\0" + bytes(200), "NO_PREAMBLE"),
        (b"Read me first." * 20, "NOT_DICOM"),
    ],
)
def test_what_is_no_part_10_file_is_told_apart(site: Path, content: bytes, code: str) -> None:
    (site / "in" / "b").write_bytes(content)
    summary = run(site)
    assert dict(summary.quarantined) == {code: 1}
    assert summary.is_clean == (code == "NOT_DICOM")
    assert bool(list((site / "q").rglob("*.dcm"))) == (code != "NOT_DICOM")


def test_a_folder_without_any_object_is_not_clean(site: Path) -> None:
    (site / "in" / "a.dcm").write_text("Read me first. " * 20)
    assert not run(site).is_clean


def test_an_archive_s_directory_is_parsed_once(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(site / "in" / "b.zip", "w") as archive:
        for number in range(5):
            path = write(site / "member", ct_dataset(SOPInstanceUID=f"1.2.3.{number}9"))
            archive.write(path, f"m{number}")
    opened, parsed = zipfile.ZipFile, []

    def counts(path: Path) -> zipfile.ZipFile:
        parsed.append(path)
        return opened(path)

    monkeypatch.setattr(members.zipfile, "ZipFile", counts)
    assert run(site).accepted == 6
    assert len(parsed) == 1


# --- targets ---------------------------------------------------------------------


def test_an_output_that_others_filled_is_refused(site: Path) -> None:
    (site / "out").mkdir()
    (site / "out" / "letter.txt").write_text("mine")
    with pytest.raises(OutputForeign):
        run(site)
    assert [p.name for p in (site / "out").iterdir()] == ["letter.txt"]


def test_an_output_on_a_volume_of_its_own_is_empty(site: Path) -> None:
    (site / "out" / "lost+found").mkdir(parents=True)
    assert run(site).accepted == 1


@pytest.mark.parametrize("target", ["out", "q", "maps"])
def test_a_target_that_cannot_be_written_is_named_before_a_file_is_read(
    site: Path, target: str
) -> None:
    (site / target).write_text("a file where a folder should be")
    with pytest.raises(WriteRefused, match="folder"):
        run(site, name_map=site / "maps" / "names.jsonl")
    assert not list(site.glob("*.journal.db"))


def test_another_key_profile_or_option_needs_another_output(site: Path) -> None:
    run(site)
    for changes in (
        {"profile": load_profile("research_dates")},
        {"profile": GDPR.with_options(["strict_prose"])},
    ):
        with pytest.raises(ProfilesMixed):
            run(site, **changes)
    with pytest.raises(KeysMixed):
        run(site, key=ProjectKey(bytes(31) + b"\1", 1))
    assert run(site).resumed == 1


# --- audit -----------------------------------------------------------------------


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_lines_cut_off_the_end_of_the_audit_are_noticed(site: Path, lines: int) -> None:
    for number in range(3):
        write(site / "in" / f"{number}.dcm", ct_dataset(SOPInstanceUID=f"1.2.3.{number}9"))
    run(site)
    path = site / "out.audit.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))
    with pytest.raises(AuditBroken):
        run(site)


def test_an_audit_of_the_same_length_from_elsewhere_is_noticed(site: Path) -> None:
    run(site)
    other = site / "other"
    shutil.copytree(site / "in", other / "in")
    run(other)
    audit = site / "out.audit.jsonl"
    audit.write_bytes((other / "out.audit.jsonl").read_bytes())
    with pytest.raises(AuditBroken):
        run(site)


def test_an_audit_taken_away_is_followed_by_another_even_after_a_kill(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hint of AuditBroken says: keep it and start another one."""
    run(site)
    (site / "out.audit.jsonl").rename(site / "kept.jsonl")
    write(site / "in" / "b.dcm", ct_dataset(SOPInstanceUID="1.2.3.9", StudyInstanceUID="1.2.7"))

    def killed(*_: object) -> None:
        raise DiskFull

    with monkeypatch.context() as patched:  # between the audit line and the row
        patched.setattr(Journal, "settle_whole", killed)
        with pytest.raises(DiskFull):
            run(site)
    summary = run(site)
    assert summary.accepted == 2
    assert verify_audit(site / "out.audit.jsonl") == summary.audit_head
    assert len((site / "out.audit.jsonl").read_bytes().splitlines()) == 1


def test_a_foreign_file_without_a_line_ending_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_bytes(b"Dear colleague")
    cut_back(path, 0)
    assert path.read_bytes() == b"Dear colleague"


def test_a_new_audit_is_durable_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pleura.anonymizer import audit as audit_module

    synced: list[Path] = []
    monkeypatch.setattr(audit_module, "fsync_folder", synced.append)
    log = AuditLog(tmp_path / "audit")
    entry = AuditEntry(code="LIMIT", key_id="0" * 16, input_digest="0" * 64)
    for _ in range(2):
        log.append([entry], now=SystemClock().now())
    assert synced == [tmp_path]


# --- names -----------------------------------------------------------------------


def test_the_name_map_tells_of_refused_inputs_and_relative_to_the_input(site: Path) -> None:
    write(site / "in" / "sub" / "b.dcm", ct_dataset(BodyPartExamined="HEAD", SOPInstanceUID="1.9"))
    (site / "in" / "n.txt").write_text("Read me first. " * 20)
    run(site, name_map=site / "names.jsonl", root=site / "in")
    lines = [json.loads(line) for line in (site / "names.jsonl").read_text().splitlines()]
    assert [(r["in"], r["member"], r["code"]) for r in lines] == [
        ("a.dcm", None, "ACCEPTED"),
        ("n.txt", None, "NOT_DICOM"),
        ("sub/b.dcm", None, "FACE_IN_FIELD"),
    ]
    assert [r["out"] is None for r in lines] == [False, True, True]
    assert (site / "out" / lines[0]["out"]).is_file()


def test_a_name_map_keeps_what_other_inputs_became(site: Path) -> None:
    run(site, name_map=site / "names.jsonl", root=site / "in")
    write(site / "in" / "a.dcm", ct_dataset(SOPInstanceUID="1.9"))  # of another disc, say
    (site / "in" / "b.dcm").write_text("Read me first. " * 20)
    for _ in range(2):
        run(site, name_map=site / "names.jsonl", root=site / "in")
    found = read_name_map(site / "names.jsonl")
    assert [(str(e.source), e.code) for e in found] == [
        ("a.dcm", "ACCEPTED"), ("a.dcm", "ACCEPTED"), ("b.dcm", "NOT_DICOM"),
    ]  # fmt: skip
    assert len({e.placed for e in found}) == 3


@pytest.mark.parametrize(
    "content", ['{"in": "a"}\n', "[]\n", '{"in":"a","member":"x","out":null,"code":"X"}\n']
)
def test_a_file_that_is_no_name_map_is_kept(site: Path, content: str) -> None:
    (site / "names.jsonl").write_text(content)
    with pytest.raises(NameMapDamaged):
        run(site, name_map=site / "names.jsonl")
    assert (site / "names.jsonl").read_text() == content


def test_erasing_finds_mirrored_files_that_a_killed_batch_placed(
    site: Path, killed_while_telling: Callable[[], None]
) -> None:
    killed_while_telling()
    (placed,) = (site / "out").rglob("*.dcm")
    assert placed.name == "a.dcm"
    done, _ = erase_from(
        site / "out", site / "q", KEY, site / "map.db", str(dcmread(placed).PatientID)
    )
    assert done.files == 1
    assert not placed.exists()


@pytest.fixture
def killed_while_telling(site: Path) -> Callable[[], None]:
    """Run a batch that ends when it tells of its first file, before anybody wrote that down."""

    def killed(_: object) -> None:
        raise DiskFull

    def start() -> None:
        with pytest.raises(DiskFull):
            run(site, root=site / "in", mirror=True, on_result=killed)

    return start
