"""Initial model from invented patients: what training without any real patient reaches.

Private training from random weights spends most of its budget on finding edges.
Phantoms cost no privacy, so a lead may train on them first and hand the result to
`pleura server runs create --initial-model`; the plan and every order name its digest.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from pydicom import dcmread

from pleura.client.data.cohort import Cohort, Sample
from pleura.client.phantoms.looks import LookName
from pleura.client.phantoms.site import PhantomSite, write_site
from pleura.common.orders import RunPlan, TaskName
from pleura.common.tensors import write_packed
from tests.benchmarks.offline import train_alone
from tests.benchmarks.study_runs import say

TASK: TaskName = "ct_nodule_malignancy"
LOOKS: tuple[LookName, ...] = ("aurora", "borealis", "cirrus")
PATIENTS = 300
SEED = 5


def phantom_model(plan: RunPlan, folder: Path, *, patients: int = PATIENTS) -> Path:
    """Train the plan's network on phantoms of three scanners; return the packed model.

    Args:
        plan: a plan without privacy; its optimiser and total steps are used.
        folder: scratch for DICOM and prepared pictures.
        patients: invented patients of each scanner.
    """
    cohort = Cohort.of(
        TASK, "train", (s for look in LOOKS for s in _samples(folder / look, look, patients))
    )
    say(f"training on {cohort.patients} phantoms")
    path = folder / "phantoms.safetensors"
    write_packed(path, train_alone(plan, cohort, "phantoms", folder))
    return path


def _samples(folder: Path, look: LookName, patients: int) -> list[Sample]:
    site = PhantomSite(name=look, look=look, patients=patients, seed=SEED, task=TASK)
    summary = write_site(folder, site)
    with summary.labels_csv.open(newline="", encoding="utf-8") as file:
        labels = {row["accession"]: int(row["label"]) for row in csv.DictReader(file)}
    series = sorted({path.parent for path in folder.rglob("IM*")})
    return [_sample(files, labels) for files in series]


def _sample(series: Path, labels: dict[str, int]) -> Sample:
    files = sorted(series.iterdir())
    header = dcmread(files[0], stop_before_pixels=True)
    digests = ((path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files)
    return Sample(
        patient=str(header.PatientID),
        key=str(header.StudyInstanceUID),
        files=tuple(digests),
        label=labels[str(header.AccessionNumber)],
    )
