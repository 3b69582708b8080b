"""The commands that look at an output or a file: verify, receipt, explain."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.sequence import Sequence

from pleura.anonymizer import recall
from pleura.anonymizer.pseudonyms import ProjectKey
from tests.builders.anonymize_cli import call, pairs, run, two_files, verified
from tests.builders.identified import PLANTED, ct_dataset, item, write


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return two_files(tmp_path)


@pytest.mark.parametrize("profile", ["gdpr_pseudonymous", "research_dates", "hipaa_safe_harbor"])
def test_an_output_of_every_profile_is_sound_with_and_without_its_source(
    site: Path, profile: str
) -> None:
    assert run(site, profile=profile).exit_code == 0
    code, failed, report = verified(site, *pairs(site))
    assert (code, failed, report["checked"], report["pairs"]) == (0, {}, 2, 2)
    assert (site / "key.map.db").exists() is (profile == "hipaa_safe_harbor")


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"PatientIdentityRemoved": "NO"}, "marks"),
        ({"DeidentificationMethod": "by hand"}, "marks"),
        ({"PatientName": "Somebody"}, "pseudonym"),
        ({"FrameOfReferenceUID": "1.2.3.4.5.6"}, "foreign UID"),
        ({"SOPInstanceUID": "2.25.7"}, "place"),
        ({"ImageComments": "for Quibbleworth"}, "residual"),
        ({"StudyDate": "20200131"}, "residual"),
    ],
)
def test_a_changed_output_fails_its_check(site: Path, changes: dict[str, str], check: str) -> None:
    run(site)
    path = sorted((site / "out").rglob("*.dcm"))[0]
    ds = dcmread(path)
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    code, failed, _ = verified(site, *pairs(site))
    assert code == 1
    assert failed[check] == 1
    assert failed["bytes not in the audit"] == 1


def test_a_private_element_and_a_foreign_file_are_found(site: Path) -> None:
    run(site)
    path = sorted((site / "out").rglob("*.dcm"))[0]
    ds = dcmread(path)
    ds.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "x")
    ds.save_as(path)
    path.with_name("notes.txt").write_text("no DICOM")
    path.with_name("link.dcm").symlink_to(path)
    code, failed, _ = verified(site)
    assert code == 1
    assert failed["private element"] == failed["unreadable"] == 1
    assert failed["link or other file"] == 1


def test_the_source_itself_is_not_sound(site: Path) -> None:
    result = call("verify", site / "in")
    assert result.exit_code == 1
    assert "not sound" in result.stderr


def test_a_broken_audit_is_a_failed_check_and_stops_a_receipt(site: Path) -> None:
    run(site)
    audit = site / "out.audit.jsonl"
    audit.write_bytes(audit.read_bytes().replace(b'"ACCEPTED"', b'"REJECTED"', 1))
    assert verified(site)[1]["audit chain"] == 1
    result = call("receipt", site / "out")
    assert result.exit_code == 3
    assert "DEID-AUDIT" in result.stderr


def test_what_run_would_leave_out_is_not_called_left_out_where_nothing_ran(site: Path) -> None:
    (site / "notes.txt").write_text("Read me first. " * 20)
    for words in (("explain", site / "notes.txt", "--profile", "gdpr_pseudonymous"),
                  ("preview", site / "notes.txt", site / "a.png")):  # fmt: skip
        said = call(*words).stderr
        assert "NOT_DICOM" in said
        assert "was left out" not in said


def test_mirror_keeps_names_and_is_verified_as_such(site: Path) -> None:
    assert run(site, "--names", "mirror").exit_code == 0
    assert (site / "out" / "a.dcm").exists()
    assert verified(site)[1] == {"place": 2}
    assert verified(site, "--names", "mirror")[0] == 0


def test_a_receipt_hides_small_counts_and_every_pseudonym(site: Path) -> None:
    run(site)
    receipt = json.loads(call("receipt", site / "out", "--evidence", "--json").stdout)
    assert (receipt["objects"], receipt["patients"]) == ("<5", "<5")
    assert receipt["key_ids"] == [ProjectKey.load(site / "key").key_id]
    assert receipt["evidence"]["smallest_cell"] == "<5"
    text = call("receipt", site / "out", "--evidence").stdout
    (patient,) = (site / "out").iterdir()
    assert patient.name not in text
    assert "audit head" in text


def test_evidence_has_the_recall_of_the_reader_and_for_which_it_was_measured(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(site)
    shipped = recall.load_recall()
    monkeypatch.setattr(recall, "installed_reader", lambda: shipped.reader_version)
    monkeypatch.setattr(recall, "VERSION", shipped.pleura_version)
    result = call("receipt", site / "out", "--evidence")
    assert f"{shipped.reader} {shipped.reader_version}" in result.stdout
    assert str(shipped.measured_on) in result.stdout
    for share in (shipped.strong, shipped.every, shipped.markers_kept, *shipped.strings.values()):
        assert str(share) in result.stdout
    assert "warning" not in (result.stdout + result.stderr).lower()
    found = json.loads(call("receipt", site / "out", "--evidence", "--json").stdout)
    assert found["evidence"]["reader"]["recall"] == json.loads(shipped.to_json())
    assert "reader" not in call("receipt", site / "out").stdout


@pytest.mark.parametrize(("installed", "words"), [("1.4.99", "do not hold"), (None, "no text")])
def test_evidence_warns_where_another_reader_is_installed(
    site: Path, monkeypatch: pytest.MonkeyPatch, installed: str | None, words: str
) -> None:
    run(site)
    monkeypatch.setattr(recall, "installed_reader", lambda: installed)
    result = call("receipt", site / "out", "--evidence")
    assert words in result.stdout
    assert words in result.stderr
    found = json.loads(call("receipt", site / "out", "--evidence", "--json").stdout)
    assert any(words in warning for warning in found["evidence"]["reader"]["warnings"])


def test_evidence_without_the_figures_is_refused(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(site)
    monkeypatch.setattr(recall, "TABLE", "no_such_table.json")
    recall.load_recall.cache_clear()
    result = call("receipt", site / "out", "--evidence")
    assert result.exit_code == 3
    assert "DEID-RULES" in result.stderr
    assert call("receipt", site / "out").exit_code == 0
    recall.load_recall.cache_clear()


def test_a_receipt_needs_an_audit(site: Path) -> None:
    result = call("receipt", site / "in")
    assert result.exit_code == 3
    assert "DEID-NO-AUDIT" in result.stderr


def test_explain_names_rules_and_no_value(site: Path) -> None:
    words = ("explain", site / "in" / "a.dcm", "--profile", "research_dates")
    result = call(*words)
    assert result.exit_code == 0
    assert any(line.startswith("(0010,0010)") for line in result.stdout.splitlines())
    assert not any(value in result.output for value in PLANTED.values())
    assert json.loads(call(*words, "--json").stdout.splitlines()[0])["path"]
    assert call(*words, "--show-values").exit_code == 2


def test_explain_names_attributes_in_lines_of_100_columns_and_tells_its_words(site: Path) -> None:
    long = "ReferencedGeneralPurposeScheduledProcedureStepTransactionUID"
    inner = item(CodeValue="T-28000", RelatedSeriesSequence=Sequence([item(StudyInstanceUID="1")]))
    image = ct_dataset(AnatomicRegionSequence=Sequence([inner]), **{long: "1.2.3"})
    write(site / "in" / "a.dcm", image)
    words = ("explain", site / "in" / "a.dcm", "--profile", "hipaa_safe_harbor")
    result = call(*words)
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["attribute", "name", "VR"]
    (name,) = (line.split()[1:3] for line in lines if line.startswith("(0010,0010)"))
    assert name == ["PatientName", "PN"]
    assert any(line.startswith("  [0](0008,0100)") and "CodeValue" in line for line in lines)
    assert len({line.index(" SQ ") for line in lines if " SQ " in line}) == 1
    assert all(len(line) <= 100 for line in (*lines, *result.stderr.splitlines()))
    assert "keep list" in result.stderr
    found = [json.loads(line) for line in call(*words, "--json").stdout.splitlines()]
    assert {one["keyword"] for one in found} >= {"PatientName", long}
    assert call(*words, "--json").stderr == ""


def test_an_option_the_profile_does_not_offer_is_refused(site: Path) -> None:
    assert run(site, "--options", "device").exit_code == 3
    assert run(site, "--options", "shift_time", "--justification", "study 7").exit_code == 0


def test_the_summary_says_what_was_resumed_and_what_to_do(site: Path) -> None:
    run(site)
    for name in ("c.dcm", "e.dcm"):
        write(site / "in" / name, ct_dataset(SOPInstanceUID="1.2.11"))
    (site / "in" / "d").write_text("no DICOM")
    write(site / "in" / "f.dcm", ct_dataset(SOPInstanceUID="1.2.12", BodyPartExamined="HEAD"))
    result = run(site)
    assert result.exit_code == 1
    for words in ("duplicates", "finished by an earlier run", "left out", "FACE_IN_FIELD", "crop"):
        assert words in result.stderr
    text = call("verify", site / "out", *pairs(site))
    assert text.exit_code == 0
    assert "sound" in text.stderr


def test_a_damaged_member_of_an_archive_is_noted_and_the_others_go_on(site: Path) -> None:
    whole = (site / "in" / "b.dcm").read_bytes()
    with zipfile.ZipFile(site / "in" / "z.zip", "w") as archive:
        archive.writestr("Quibbleworth.dcm", (site / "in" / "a.dcm").read_bytes())
        archive.writestr("b.dcm", whole)
    for name in ("a.dcm", "b.dcm"):
        (site / "in" / name).unlink()
    packed = (site / "in" / "z.zip").read_bytes()
    (site / "in" / "z.zip").write_bytes(packed.replace(whole, whole[::-1]))
    result = run(site, "--json")
    summary = json.loads(result.stdout)
    assert (summary["accepted"], sum(summary["quarantined"].values())) == (1, 1)
    (note,) = (site / "out.quarantine").rglob("*.json")
    assert not list((site / "out.quarantine").rglob("*.dcm"))  # nobody can unpack it
    assert "Quibbleworth" not in note.read_text() + str(note)


def test_a_member_of_an_archive_is_compared_with_its_source(site: Path) -> None:
    with zipfile.ZipFile(site / "in" / "z.zip", "w") as archive:
        for name in ("a.dcm", "b.dcm"):
            archive.write(site / "in" / name, name)
            (site / "in" / name).unlink()
    assert run(site).exit_code == 0
    code, failed, report = verified(site, *pairs(site))
    assert (code, failed, report["pairs"]) == (0, {}, 2)
