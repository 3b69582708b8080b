"""The demo's study: which hospitals it invents and which plan they run.

The numbers are those of a study one can watch: five rounds and more, patient
level differential privacy at epsilon 8, minutes on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pleura.client.demo.federation import SitePlan
from pleura.client.errors import DemoDataMissing
from pleura.client.phantoms.looks import LookName
from pleura.client.phantoms.site import PhantomSite, PhantomTask
from pleura.common.orders import TaskName

EXTERNAL_PREFIX: Final = "external"
SEED: Final = 20260101
CONSPICUITY: Final = 1.8  # lesions a resident would find; privacy costs the faint ones


@dataclass(frozen=True, slots=True)
class DemoSite:
    """A hospital of the demo: where its DICOM and labels lie, and what invents them."""

    site_id: str
    dicom: Path
    labels: Path
    phantom: PhantomSite | None

    @property
    def is_external(self) -> bool:
        return self.site_id.startswith(EXTERNAL_PREFIX)


_LOOKS: Final[tuple[tuple[str, LookName, float], ...]] = (
    ("north", "aurora", 0.45),
    ("river", "borealis", 0.40),
    ("harbour", "aurora", 0.55),
    (EXTERNAL_PREFIX, "cirrus", 0.45),
)


def phantom_sites(root: Path, task: PhantomTask, patients: int) -> tuple[DemoSite, ...]:
    """Return three training hospitals and one external hospital with invented patients."""
    return tuple(
        DemoSite(
            site_id=name,
            dicom=root / "pacs" / name,
            labels=root / "pacs" / f"{name}-labels.csv",
            phantom=PhantomSite(
                name=name,
                look=look,
                patients=patients,
                seed=SEED + index,
                task=task,
                prevalence=prevalence,
                conspicuity=CONSPICUITY,
            ),
        )
        for index, (name, look, prevalence) in enumerate(_LOOKS)
    )


def real_sites(folder: Path) -> tuple[DemoSite, ...]:
    """Return one site for each sub-folder that holds `dicom/` and `labels.csv`.

    Raises:
        DemoDataMissing: fewer than one training site is there.
    """
    sites = tuple(
        DemoSite(child.name.lower(), child / "dicom", child / "labels.csv", None)
        for child in sorted(folder.iterdir() if folder.is_dir() else ())
        if (child / "dicom").is_dir() and (child / "labels.csv").is_file()
    )
    if not any(not site.is_external for site in sites):
        raise DemoDataMissing("no training site found")
    return sites


def site_plan(site: DemoSite, task: TaskName) -> SitePlan:
    """Return how a demo hospital configures its daemon.

    Radiographs may carry burned-in text that this version cannot read; the demo's
    operators accept that explicitly, and the receipt of every object says so.
    """
    return SitePlan(
        site_id=site.site_id,
        watch=site.dicom,
        labels=site.labels,
        task=task,
        policy={"min_patients": 20, "epsilon_cap": "8"},
        ingest={
            "profile": "gdpr_pseudonymous",
            "accept_unread_text": task == "cxr_abnormal",
            "poll_s": 0.5,
            "settle_s": 0.2,
            "reserve_gb": 0.2,
        },
    )


def plan_toml(task: TaskName, sites: tuple[DemoSite, ...], *, rounds: int, n_ref: int) -> str:
    """Return the text of `plan.toml`; the coordinator solves the noise multiplier."""
    training = [site.site_id for site in sites if not site.is_external]
    external = [site.site_id for site in sites if site.is_external]
    batch = min(100, n_ref)
    preproc = (
        'modality = "CXR"\nsize_px = 48'
        if task == "cxr_abnormal"
        else 'modality = "CT"\nsize_px = 48\nslices = 8'
    )
    dimensions = 2 if task == "cxr_abnormal" else 3
    return f"""# what a consortium lead writes for a study; every key is checked
training_sites = {training!r}
external_sites = {external!r}
seed = {SEED}

[task]
name = "{task}"

[model]
arch = "tiny_cnn_gn"
spatial_dims = {dimensions}

[preproc]
{preproc}

[train]
optimizer = "sgd"
lr = "1.0"
schedule = "cosine"
local_steps = 6
batch_patients = {batch}
images_per_patient = 2

[privacy]
mode = "dp"
epsilon = "8"
delta = "1e-5"
clip = "1"
n_ref = {n_ref}

[fed]
rounds = {rounds}
min_sites = {min(2, len(training))}
deadline_s = 120
norm_bound = "60"

[evaluation]
every_rounds = 1
bootstrap = 500
"""
