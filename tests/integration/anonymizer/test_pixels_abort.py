"""A codec that aborts its process costs the file it was given, not the batch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pleura.anonymizer import batch
from pleura.anonymizer.batch import run_batch
from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.workers import Outcome, Task
from tests.builders.identified import ct_dataset, project_key, write


class AbortingJob(batch.DeidJob):
    """A job in which a codec aborts on one file, as GDCM does where it cannot go on."""

    __slots__ = ()

    def run(self, task: Task) -> Outcome:
        if task.path.name == "broken":
            os.abort()
        return super().run(task)


def test_an_abort_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "DeidJob", AbortingJob)
    files = [
        write(
            tmp_path / "in" / name,
            ct_dataset(
                SOPInstanceUID=f"1.2.3.{i}", StudyInstanceUID=f"1.2.4.{i}", PatientID=f"P{i}"
            ),
        )
        for i, name in enumerate(("first", "broken", "last"), 1)
    ]
    summary = run_batch(
        files, tmp_path / "out", tmp_path / "quarantine",
        profile=load_profile("gdpr_pseudonymous"), key=project_key(), jobs=2,
    )  # fmt: skip
    assert dict(summary.quarantined) == {"INTERNAL": 1}
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 2
