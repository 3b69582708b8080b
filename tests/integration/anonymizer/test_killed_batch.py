"""A batch whose processes are killed goes on, does nothing twice and leaves nothing partial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pleura.anonymizer.audit import AuditLog
from pleura.anonymizer.pseudonyms import ProjectKey
from tests.builders.identified import ct_dataset, write

FILES = 720  # the batch must not end before it is killed


@pytest.fixture
def site(tmp_path: Path) -> Path:
    ProjectKey.create(tmp_path / "key")
    for number in range(FILES):
        changes = {"SOPInstanceUID": f"1.2.3.{number}", "StudyInstanceUID": f"1.2.4.{number % 4}"}
        write(tmp_path / "in" / f"{number:03}.dcm", ct_dataset(**changes))
    return tmp_path


def start(site: Path, jobs: int, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pleura.common.cli", "anonymize", "run", str(site / "in")]
    command += [str(site / "out"), "--profile", "gdpr_pseudonymous", "--key", str(site / "key")]
    options.setdefault("stderr", subprocess.DEVNULL)
    words = [*command, "--jobs", str(jobs), "--json"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **options)


def staged(site: Path) -> int:
    return len(list((site / "out.staging").rglob("*.dcm")))


def wait_for_some(site: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while staged(site) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def check_whole(site: Path, summary: dict[str, object]) -> None:
    assert (summary["accepted"], summary["quarantined"]) == (FILES, {})
    files = list((site / "out").rglob("*"))
    assert len([p for p in files if p.suffix == ".dcm"]) == FILES
    assert not [p for p in files if p.suffix == ".part"]
    assert not (site / "out.staging").exists()
    digests = [line.input_digest for line in AuditLog(site / "out.audit.jsonl").lines_after(0)]
    assert len(digests) == len(set(digests)) == FILES
    assert AuditLog(site / "out.audit.jsonl").head == summary["audit_head"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_batch_goes_on_and_does_no_file_twice(site: Path, jobs: int) -> None:
    process = start(site, jobs)
    wait_for_some(site, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert staged(site) >= 5
    assert not list((site / "out").rglob("*.dcm"))
    again = start(site, jobs)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    check_whole(site, json.loads(output))


def test_a_batch_whose_worker_is_killed_ends_with_every_file(site: Path) -> None:
    process = start(site, 2)
    wait_for_some(site, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [
        c for c in children if b"anonymizer.serving" in Path(f"/proc/{c}/cmdline").read_bytes()
    ]
    os.kill(int(workers[0]), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    check_whole(site, json.loads(output))


def test_erasing_reaches_what_a_killed_batch_staged(site: Path) -> None:
    process = start(site, 2)
    wait_for_some(site, process)
    process.kill()
    process.communicate()
    (patient,) = (site / "out.staging" / "tree").glob("P*")
    erasing = [sys.executable, "-m", "pleura.common.cli", "anonymize", "erase", patient.name]
    erasing += [str(site / "out"), "--key", str(site / "key"), "--yes", "--json"]
    done = json.loads(subprocess.run(erasing, capture_output=True, check=True).stdout)
    assert done["files"] >= 5
    assert staged(site) == 0
    for name in ("out.journal.db", "out.journal.db-wal"):
        file = site / name
        assert not file.exists() or patient.name.encode() not in file.read_bytes()
    again = start(site, 2)
    output, _ = again.communicate(timeout=120)
    assert json.loads(output)["quarantined"] == {"ERASED": FILES}
    assert not list((site / "out").rglob("*.dcm"))


def test_an_interrupted_batch_says_so_once_and_goes_on_later(site: Path) -> None:
    process = start(site, 2, stderr=subprocess.PIPE, start_new_session=True)
    wait_for_some(site, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.count("give the same command again") == 1
    again = start(site, 2)
    output, _ = again.communicate(timeout=120)
    check_whole(site, json.loads(output))
