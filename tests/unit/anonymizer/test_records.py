"""Receipts, the audit chain and the quarantine folder hold counts and digests only."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from pleura.anonymizer import audit
from pleura.anonymizer.audit import AuditEntry, append, verify_audit
from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.errors import AuditBroken, KeysMixed
from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.quarantine import quarantine_file
from pleura.anonymizer.receipt import Receipt, hidden_below_five, summarise
from pleura.common.canonical import parse_json
from pleura.common.errors import DiskFull, StateInsecure
from tests.builders.identified import ct_dataset, project_key, write

KEY = project_key()
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ZERO = "0" * 64


def receipt(tmp_path: Path) -> Receipt:
    source = write(tmp_path / "a.dcm", ct_dataset())
    profile = load_profile("gdpr_pseudonymous")
    return deidentify_file(source, tmp_path / "out", profile=profile, key=KEY).receipt


def entry(code: str = "TRUNCATED") -> AuditEntry:
    return AuditEntry(code=code, key_id=KEY.key_id, input_digest=KEY.keyed("input", code))


def test_a_receipt_round_trips_and_has_a_stable_digest(tmp_path: Path) -> None:
    made = receipt(tmp_path)
    again = Receipt.model_validate_json(made.to_json())
    assert again == made
    assert again.digest == made.digest


@pytest.mark.parametrize(
    "change",
    [
        {"note": "Quibbleworth"},
        {"pseudonym": "Quibbleworth"},
        {"removed": {"Quibbleworth": 1}},
        {"actions": {"looked at": 1}},
        {"sop_uid": "1.2.3"},
        {"method_codes": ["Quibbleworth"]},
        {"overrides": ["because"]},
    ],
)
def test_a_receipt_takes_no_free_text(tmp_path: Path, change: dict[str, object]) -> None:
    fields = receipt(tmp_path).model_dump(mode="json") | change
    with pytest.raises(ValidationError):
        Receipt.model_validate(fields)


def test_a_cohort_receipt_hides_small_counts(tmp_path: Path) -> None:
    one = receipt(tmp_path)
    summary = summarise("gdpr_pseudonymous", [one] * 6)
    assert (summary.objects, summary.patients, summary.overrides) == ("6", "<5", "0")
    assert [hidden_below_five(n) for n in (0, 1, 4, 5)] == ["0", "<5", "<5", "5"]


@pytest.mark.parametrize(
    "change", [{"key_id": "0" * 16}, {"mapping": "random"}, {"mapping_id": "0" * 16}]
)
def test_a_cohort_named_in_two_ways_gets_no_receipt(tmp_path: Path, change: dict[str, str]) -> None:
    one = receipt(tmp_path)
    with pytest.raises(KeysMixed):
        summarise("gdpr_pseudonymous", [one, one.model_copy(update=change)])


def test_the_audit_chain_holds_over_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    first = append(path, [entry(), entry("NOT_DICOM")], now=NOW)
    assert verify_audit(path) == first
    made = receipt(tmp_path)
    last = AuditEntry(
        code=made.code, key_id=made.key_id, input_digest=made.input_digest, receipt=made.to_json()
    )
    second = append(path, [last], now=NOW)
    assert verify_audit(path) == second != first
    assert path.stat().st_mode & 0o777 == 0o600
    assert parse_json(path.read_bytes().splitlines()[0])["prev"] == ZERO


@pytest.mark.parametrize("kind", ["changed", "removed", "swapped", "cut", "foreign", "spaced"])
def test_a_changed_audit_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "audit.jsonl"
    append(path, [entry(), entry("NOT_DICOM"), entry("LIMIT")], now=NOW)
    lines = path.read_bytes().splitlines(keepends=True)
    broken = {
        "changed": lines[0].replace(b"TRUNCATED", b"ACCEPTED") + lines[1] + lines[2],
        "removed": lines[0] + lines[2],
        "swapped": lines[1] + lines[0] + lines[2],
        "cut": b"".join(lines)[:-5],
        "foreign": b"".join(lines) + b"{}\n",
        "spaced": lines[0].replace(b",", b", ", 1) + lines[1] + lines[2],
    }[kind]
    path.write_bytes(broken)
    with pytest.raises(AuditBroken):
        verify_audit(path)
    with pytest.raises(AuditBroken):
        append(path, [entry()], now=NOW)
    assert path.read_bytes() == broken


def test_a_full_disk_takes_an_audit_line_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    head = append(path, [entry()], now=NOW)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(audit.os, "fsync", full)
    with pytest.raises(DiskFull):
        append(path, [entry("LIMIT")], now=NOW)
    monkeypatch.undo()
    assert verify_audit(path) == head
    with pytest.raises(OSError):
        append(tmp_path / "none" / "audit.jsonl", [entry()], now=NOW)


def test_quarantine_names_neither_file_nor_patient(tmp_path: Path) -> None:
    source = write(tmp_path / "Quibbleworth.dcm", ct_dataset())
    folder = tmp_path / "q"
    note = quarantine_file(source, folder, "LIMIT", key=KEY, profile="p_x", counts={"n": 2})
    copy = note.with_suffix(".dcm")
    assert copy.read_bytes() == source.read_bytes()
    assert note.parent.name == "LIMIT"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert copy.stat().st_mode & 0o777 == 0o600
    text = note.read_text()
    assert "Quibbleworth" not in text + str(note)
    assert parse_json(note.read_bytes())["counts"] == {"n": 2}


def test_an_unreadable_source_gets_a_note_without_copy(tmp_path: Path) -> None:
    note = quarantine_file(tmp_path / "gone", tmp_path / "q", "UNDECODABLE", key=KEY, profile="p_x")
    assert parse_json(note.read_bytes())["is_copied"] is False
    assert not note.with_suffix(".dcm").exists()


def test_an_open_quarantine_folder_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())
    folder = tmp_path / "q"
    folder.mkdir()
    folder.chmod(0o755)  # whatever the umask is
    with pytest.raises(StateInsecure, match="the quarantine folder"):
        quarantine_file(source, folder, "LIMIT", key=KEY, profile="p_x")


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EIO, OSError)])
def test_a_failing_disk_leaves_no_partial_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())

    def broken(descriptor: int) -> None:
        raise OSError(number, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(error):
        quarantine_file(source, tmp_path / "q", "LIMIT", key=KEY, profile="p_x")
    monkeypatch.undo()
    assert not [p for p in (tmp_path / "q").rglob("*") if p.is_file()]
