"""What `verify` says of files that fail: which, why and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pleura.anonymizer.audit import AuditEntry, AuditLog
from pleura.anonymizer.checks import EVERY
from pleura.anonymizer.cli_verify import printable
from pleura.common.clock import SystemClock
from tests.builders.anonymize_cli import call, run, two_files, verified


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return two_files(tmp_path)


def append_audit(audit: Path, other: Path) -> None:
    """Write the lines of another audit behind those of one."""
    entries = [
        AuditEntry(
            code=line.code, key_id=line.key_id, input_digest=line.input_digest,
            receipt=line.receipt.to_json() if line.receipt else b"",
        )
        for line in AuditLog(other).lines_after(0)
    ]  # fmt: skip
    AuditLog(audit).append(entries, now=SystemClock().now())


def test_files_that_fail_are_listed_with_every_problem_and_what_to_do(site: Path) -> None:
    run(site)
    (first, _) = sorted((site / "out").rglob("*.dcm"))
    first.with_name("notes.txt").write_text("no DICOM")
    first.rename(first.with_name("moved.dcm"))
    _, failed, report = verified(site)
    assert failed == {"unreadable": 1, "bytes not in the audit": 1, "place": 1}
    folder = first.parent.relative_to(site / "out").as_posix()
    assert report["files"] == [
        {"path": f"{folder}/moved.dcm", "problems": ["place"]},
        {"path": f"{folder}/notes.txt", "problems": ["bytes not in the audit", "unreadable"]},
    ]
    text = call("verify", site / "out").stderr
    assert "moved.dcm" in text
    assert text.count("what to do:") == 3
    assert "not sound" in text


def test_more_than_twenty_files_are_counted_on_the_terminal_and_listed_in_json(site: Path) -> None:
    run(site)
    for number in range(25):
        (site / "out" / f"{number:02}.txt").write_text("no DICOM")
    assert "and 5 more" in call("verify", site / "out").stderr
    assert len(verified(site)[2]["files"]) == 25  # type: ignore[arg-type]


def test_files_of_two_keys_in_one_output_fail(site: Path) -> None:
    run(site)
    (site / "other").mkdir()
    other = two_files(site / "other")
    run(other)
    shutil.copytree(other / "out", site / "out", dirs_exist_ok=True)
    append_audit(site / "out.audit.jsonl", other / "out.audit.jsonl")
    code, failed, report = verified(site)
    assert (code, failed) == (1, {"keys mixed": 2})
    assert [use["files"] for use in report["keys"]] == [2, 2]  # type: ignore[attr-defined]
    assert call("verify", site / "out").stderr.count("computed: 2 files") == 2


def test_files_of_two_mappings_of_one_key_in_one_output_fail(site: Path) -> None:
    run(site, profile="hipaa_safe_harbor")
    other = site / "other"
    other.mkdir()
    shutil.copy(site / "key", other / "key")
    shutil.copytree(site / "in", other / "in")
    run(other, profile="hipaa_safe_harbor")
    shutil.copytree(other / "out", site / "out", dirs_exist_ok=True)
    append_audit(site / "out.audit.jsonl", other / "out.audit.jsonl")
    code, failed, report = verified(site)
    assert (code, failed) == (1, {"keys mixed": 2})
    assert [use["files"] for use in report["keys"]] == [2, 2]  # type: ignore[attr-defined]
    assert call("verify", site / "out").stderr.count("drawn in mapping") == 2


def test_files_of_two_profiles_or_options_in_one_output_fail(site: Path) -> None:
    run(site)
    assert verified(site)[:2] == (0, {})
    (site / "other").mkdir()
    other = two_files(site / "other")
    run(other, "--options", "patient_chars")
    shutil.copytree(other / "out", site / "out", dirs_exist_ok=True)
    (site / "out.audit.jsonl").unlink()
    (site / "out.journal.db").unlink()
    code, failed, _ = verified(site)
    assert (code, failed) == (1, {"profiles mixed": 2})


def test_every_check_that_is_made_is_explained(site: Path) -> None:
    run(site)
    checks = ("--against", site / "in", "--name-map", site / "names")
    _, _, report = verified(site, *checks)
    assert set(report["failed"]) == set(EVERY)  # type: ignore[call-overload]
    text = call("verify", site / "out", *checks).stderr
    assert all(check.promise.split()[0] in text for check in EVERY.values())


def cut(audit: Path) -> None:
    audit.write_bytes(b"".join(audit.read_bytes().splitlines(keepends=True)[:-1]))


def test_a_line_cut_off_the_end_of_the_audit_fails_where_the_journal_is(site: Path) -> None:
    run(site)
    before = sorted(site.iterdir())
    code, failed, report = verified(site)
    assert (code, failed, report["audit_end_known"]) == (0, {}, True)
    assert "changed or cut" in call("verify", site / "out").stderr
    assert call("receipt", site / "out").exit_code == 0
    assert sorted(site.iterdir()) == before
    cut(site / "out.audit.jsonl")
    assert verified(site)[:2] == (1, {"audit chain": 1})
    result = call("receipt", site / "out")
    assert result.exit_code != 0
    assert "DEID-AUDIT" in result.stderr


def test_an_audit_that_the_journal_knows_and_is_gone_fails(site: Path) -> None:
    run(site)
    (site / "out.audit.jsonl").unlink()
    assert verified(site)[:2] == (1, {"audit chain": 1})
    assert "not sound" in call("verify", site / "out").stderr


def test_without_the_journal_nobody_claims_that_the_end_is_there(site: Path) -> None:
    run(site)
    cut(site / "out.audit.jsonl")
    (site / "out.journal.db").unlink()
    _, failed, report = verified(site)
    assert "audit chain" not in failed
    assert report["audit_end_known"] is False
    text = " ".join(call("verify", site / "out").stderr.split())
    assert "without the journal" in text
    assert "or cut" not in text


def test_a_path_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[31m\n\udcff.dcm") == "a?[31m??.dcm"
