"""`pleura anonymize erase`: a patient goes and stays away, and nobody else does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pleura.anonymizer.journal import no_batch
from tests.builders.anonymize_cli import call, run, two_files
from tests.builders.identified import ct_dataset, write


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return two_files(tmp_path)


@pytest.mark.parametrize("profile", ["gdpr_pseudonymous", "hipaa_safe_harbor"])
def test_an_erased_patient_is_gone_and_does_not_come_back(site: Path, profile: str) -> None:
    run(site, profile=profile)
    (patient,) = (site / "out").iterdir()
    words = ("erase", patient.name, site / "out", "--key", site / "key")
    assert call(*words).exit_code == 2
    assert len(list(patient.iterdir())) == 1
    done = json.loads(call(*words, "--yes", "--json").stdout)
    assert (done["files"], done["is_repeat"]) == (2, False)
    assert not patient.exists()
    assert json.loads(call(*words, "--yes", "--json").stdout)["is_repeat"] is True
    again = run(site, "--json", profile=profile)
    assert again.exit_code == 1
    assert json.loads(again.stdout)["quarantined"] == {"ERASED": 2}


def test_nobody_is_erased_while_a_batch_may_bring_them_back(site: Path) -> None:
    run(site)
    (patient,) = (site / "out").iterdir()
    words = ("erase", patient.name, site / "out", "--key", site / "key", "--yes")
    with no_batch(site / "out.journal.db"):
        result = call(*words)
    assert "DEID-RUNNING" in result.stderr
    assert result.exit_code != 0
    assert len(list(patient.rglob("*.dcm"))) == 2
    assert call(*words).exit_code == 0


def test_erasing_one_patient_leaves_the_work_on_others_done(site: Path) -> None:
    other = ct_dataset(PatientID="B2", StudyInstanceUID="1.2.9", SOPInstanceUID="1.2.9.1")
    write(site / "in" / "z.dcm", other)
    run(site)
    gone = next(p for p in (site / "out").iterdir() if len(list(p.rglob("*.dcm"))) == 2)
    call("erase", gone.name, site / "out", "--key", site / "key", "--yes")
    summary = json.loads(run(site, "--json").stdout)
    assert (summary["accepted"], summary["quarantined"]) == (1, {"ERASED": 2})
    assert summary["resumed"] == 1
    assert gone.name.encode() not in (site / "out.journal.db").read_bytes()


def test_a_patient_whose_rows_were_lost_is_erased_by_folder(site: Path) -> None:
    run(site)
    (site / "out.erasure.db").unlink()
    (patient,) = (site / "out").iterdir()
    result = call("erase", patient.name, site / "out", "--key", site / "key", "--yes")
    assert result.exit_code == 0
    assert "deleted 2 files" in result.stderr


@pytest.mark.parametrize("profile", ["gdpr_pseudonymous", "hipaa_safe_harbor"])
def test_nothing_is_erased_with_another_key(site: Path, profile: str) -> None:
    run(site, profile=profile)
    (patient,) = (site / "out").iterdir()
    call("keygen", site / "other")
    result = call("erase", patient.name, site / "out", "--key", site / "other", "--yes")
    assert "DEID-KEYS-MIXED" in result.stderr
    assert result.exit_code != 0
    assert len(list(patient.rglob("*.dcm"))) == 2


@pytest.mark.parametrize("is_there", [False, True])
def test_nothing_is_erased_with_another_mapping(site: Path, is_there: bool) -> None:
    run(site, "--mapping", site / "mine.db", profile="hipaa_safe_harbor")
    (patient,) = (site / "out").iterdir()
    if is_there:
        (site / "more" / "in").mkdir(parents=True)
        more = two_files(site / "more")
        (site / "key").rename(more / "key")
        run(more, "--mapping", site / "other.db", profile="hipaa_safe_harbor")
        (more / "key").rename(site / "key")
    words = ("erase", patient.name, site / "out", "--key", site / "key", "--yes", "--mapping")
    result = call(*words, site / "other.db")
    assert (result.exit_code, "DEID-MAPPINGS-MIXED" in result.stderr) == (3, True)
    assert len(list(patient.rglob("*.dcm"))) == 2
    assert call(*words, site / "mine.db").exit_code == 0
    assert not patient.exists()


def test_a_patient_has_no_second_name_from_another_mapping(site: Path) -> None:
    run(site, "--mapping", site / "mine.db", profile="hipaa_safe_harbor")
    write(site / "in" / "c.dcm", ct_dataset(SOPInstanceUID="1.2.10"))
    result = run(site, "--mapping", site / "other.db", profile="hipaa_safe_harbor")
    assert (result.exit_code, "DEID-MAPPINGS-MIXED" in result.stderr) == (3, True)
    assert len(list((site / "out").rglob("*.dcm"))) == 2


def test_copies_go_from_every_quarantine_that_a_run_had(site: Path) -> None:
    content = (site / "in" / "a.dcm").read_bytes()
    for number, name in enumerate(("one", "two")):
        (site / "in" / f"cut{number}.dcm").write_bytes(content[: -40 - number])
        run(site, "--quarantine", site / name)
    assert [len(list((site / name).rglob("*.dcm"))) for name in ("one", "two")] == [1, 1]
    (patient,) = (site / "out").iterdir()
    words = ("erase", patient.name, site / "out", "--key", site / "key", "--yes", "--json")
    assert call(*words, "--quarantine", site / "nowhere").exit_code == 2
    assert json.loads(call(*words).stdout)["quarantined_copies"] == 2
    assert not list(site.glob("*/TRUNCATED/*.dcm"))


@pytest.mark.parametrize("name", ["../in", "PAAAAAAAAAAAAAAAA"])
def test_an_unknown_pseudonym_is_not_erased(site: Path, name: str) -> None:
    run(site)
    result = call("erase", name, site / "out", "--key", site / "key", "--yes")
    assert result.exit_code == 3
    assert len(list((site / "out").rglob("*.dcm"))) == 2
