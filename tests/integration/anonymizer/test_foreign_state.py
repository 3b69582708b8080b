"""What others left where a batch works: never deleted, never run, and no reason to stop."""

from __future__ import annotations

import bz2
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pleura.anonymizer import audit as audit_module
from pleura.anonymizer.audit import AuditEntry, AuditLog, cut_back, verify_audit
from pleura.anonymizer.batch import BatchSummary, run_batch
from pleura.anonymizer.errors import AuditBroken, Quarantined, StagingForeign
from pleura.anonymizer.holdings import erase_from
from pleura.anonymizer.members import extracted
from pleura.anonymizer.quarantine import quarantine_file
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.staging import OWNER
from pleura.common.clock import SystemClock
from tests.builders.deidentified import GDPR, KEY
from tests.builders.identified import ct_dataset, write


def run(folder: Path, out: Path, *, jobs: int = 0, mirror: bool = False) -> BatchSummary:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return run_batch(
        files, out, out.with_name("q"), profile=GDPR, key=KEY, jobs=jobs, follow_archives=True,
        root=folder, mirror=mirror,
    )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write(tmp_path / "in" / "a.dcm", ct_dataset())
    return tmp_path


def test_a_folder_called_like_staging_is_never_emptied(site: Path) -> None:
    foreign = site / "out.staging"
    source = write(foreign / "a.dcm", ct_dataset())
    with pytest.raises(StagingForeign):
        run(foreign, site / "out")
    assert source.exists()


def test_a_link_is_no_staging(site: Path) -> None:
    (site / "out.staging").symlink_to(site / "in")
    with pytest.raises(StagingForeign):
        run(site / "in", site / "out")
    assert (site / "in" / "a.dcm").exists()


def test_code_in_the_working_directory_is_not_run(site: Path) -> None:
    (site / "in" / "socket.py").write_text(f"open({str(site / 'ran')!r}, 'w')")
    command = [sys.executable, "-P", "-m", "pleura.common.cli", "anonymize", "keygen", "../key"]
    subprocess.run(command, cwd=site / "in", check=True, capture_output=True)
    command[4:] = ["anonymize", "run", ".", "../out", "--profile", "gdpr_pseudonymous"]
    command += ["--key", "../key", "--jobs", "2"]
    done = subprocess.run(command, cwd=site / "in", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # socket.py is left out
    assert not (site / "ran").exists()


def entry(number: int) -> AuditEntry:
    return AuditEntry(code="NOT_DICOM", key_id="0" * 16, input_digest=f"{number:064x}")


def test_a_line_cut_by_a_kill_is_taken_back_and_the_batch_goes_on(site: Path) -> None:
    run(site / "in", site / "out")
    path = site / "out.audit.jsonl"
    with path.open("ab") as file:
        file.write(b'{"code":"ACC')
    write(site / "in" / "b.dcm", ct_dataset(SOPInstanceUID="1.2.3.9"))
    summary = run(site / "in", site / "out")
    assert (summary.accepted, verify_audit(path)) == (2, summary.audit_head)


def test_an_acknowledged_line_is_never_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    AuditLog(path).append([entry(1)], now=SystemClock().now())
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-3])
    cut_back(path, size)
    with pytest.raises(AuditBroken):
        AuditLog(path)


def test_a_disk_that_takes_half_a_line_gets_the_other_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write_whole = tmp_path / "audit", audit_module._write_whole

    class Slow:
        def __init__(self, file: object) -> None:
            self.file = file

        def write(self, data: memoryview) -> int:
            return int(self.file.write(data[:7]))  # type: ignore[attr-defined]

    monkeypatch.setattr(
        audit_module, "_write_whole", lambda file, text: write_whole(Slow(file), text)
    )
    log = AuditLog(path)
    log.append([entry(1), entry(2)], now=SystemClock().now())
    assert verify_audit(path) == log.head


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_a_damaged_archive_costs_its_own_files_only(site: Path, kind: int) -> None:
    path = site / "in" / "b.zip"
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("x.dcm", os.urandom(3000) * 2)
    raw = bytearray(path.read_bytes())
    raw[60:2000] = bytes(1940)
    path.write_bytes(raw)
    summary = run(site / "in", site / "out")
    assert (summary.accepted, sum(summary.quarantined.values())) == (1, 1)


def test_whatever_a_compression_raises_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x", b"x" * 5000)
    raw = path.read_bytes().replace(bz2.compress(b"x" * 5000)[4:20], bytes(16))
    path.write_bytes(raw)
    with pytest.raises(Quarantined), extracted(path, 0, tmp_path):
        pass


def test_a_source_that_cannot_be_read_to_its_end_stops_nothing(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "copy_file_range", broken)
    monkeypatch.setattr(os, "pread", broken)
    write(site / "in" / "b.dcm", ct_dataset(BodyPartExamined="HEAD"))
    assert dict(run(site / "in", site / "out").quarantined) == {"UNREADABLE": 2}


def test_a_source_that_vanishes_is_noted_without_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())
    opened = FileSource.__init__

    def gone(self: FileSource, given: object) -> None:
        source.unlink(missing_ok=True)
        opened(self, given)  # type: ignore[arg-type]

    monkeypatch.setattr(FileSource, "__init__", gone)
    note = quarantine_file(source, tmp_path / "q", "LIMIT", key=KEY, profile="x")
    assert '"is_copied":false' in note.read_text()
    assert not list((tmp_path / "q").rglob("*.dcm*"))


def test_a_name_that_is_no_text_is_a_name(site: Path) -> None:
    (site / "in" / "a.dcm").rename(site / "in" / os.fsdecode(b"M\xfcller.dcm"))
    assert run(site / "in", site / "out").accepted == 1


def test_a_name_that_is_no_text_is_mirrored_as_one(site: Path) -> None:
    (site / "in" / "a.dcm").rename(site / "in" / os.fsdecode(b"M\xfcller.dcm"))
    for _ in range(2):
        assert run(site / "in", site / "out", mirror=True).accepted == 1
        assert [p.name for p in (site / "out").rglob("*.dcm")] == ["M\\xfcller.dcm"]


def test_erasing_takes_what_was_unpacked_and_half_copied(site: Path) -> None:
    run(site / "in", site / "out")
    staging = site / "out.staging"
    (staging / "tree").mkdir(parents=True)
    left = [staging / ".member-x", staging / "tree" / "b.dcm.part", site / "q" / "LIMIT" / "c"]
    left[2] = left[2].with_name("c.dcm.part")
    left[2].parent.mkdir(parents=True)
    for path in (staging / OWNER, *left):
        path.write_bytes(b"")
    (pseudonym,) = [p.name for p in (site / "out").iterdir()]
    erase_from(site / "out", site / "q", KEY, site / "map.db", pseudonym)
    assert not [path for path in left if path.exists()]


def test_a_linked_output_is_one_output(site: Path) -> None:
    (site / "real").mkdir()
    (site / "alias").symlink_to(site / "real")
    assert run(site / "in", site / "alias").accepted == 1
    assert run(site / "in", site / "real").resumed == 1
    assert not (site / "alias.journal.db").exists()
