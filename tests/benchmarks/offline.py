"""What no coordinator may do and a study needs: train pooled or alone, score every test case.

Reads the de-identified objects of all sites' stores in one process. Training is
the site's own `train_round` with the same total number of steps as the federated
run, so that only the federation differs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pleura.client.data.cohort import Cohort, Sample
from pleura.client.tasks.registry import task_of
from pleura.client.training.federated import train_round
from pleura.client.training.init_model import write_initial_model
from pleura.client.training.weights import Arrays, load_arrays, read_arrays
from pleura.client.validation.scores import score
from pleura.common.ids import new_nonce
from pleura.common.orders import BlobRef, RunPlan, TrainOrder
from pleura.common.stats.auc import auroc
from pleura.common.stats.bootstrap import Interval, cluster_bootstrap

REPLICATES = 2000
SMALLEST = 1e-7  # probabilities are kept this far from 0 and 1 in the loss


@dataclass(frozen=True, slots=True)
class Case:
    """One scored test sample of the pooled test split."""

    site: str
    patient: str
    key: str
    label: bool
    probability: float


@dataclass(frozen=True, slots=True)
class Figure:
    """AUROC with its patient-clustered interval and the mean cross-entropy; None: one class."""

    images: int
    auroc: float | None
    interval: Interval | None
    loss: float

    def __str__(self) -> str:
        if self.auroc is None or self.interval is None:
            return "not estimable"
        return f"{self.auroc:.3f} [{self.interval.low:.3f}-{self.interval.high:.3f}]"


def pooled(cohorts: Mapping[str, Cohort]) -> Cohort:
    """Return one cohort of several sites' samples; patients of two sites stay two patients."""
    first = next(iter(cohorts.values()))
    samples: Iterable[Sample] = (s for cohort in cohorts.values() for s in cohort.samples)
    return Cohort.of(first.task, first.split, samples)


def train_alone(
    plan: RunPlan, cohort: Cohort, name: str, folder: Path, *, times: int = 1
) -> Arrays:
    """Return the weights after the plan's total steps on one cohort, in one round.

    Args:
        plan: the federated plan whose values and initial weights are used.
        cohort: training samples of one site, or of all.
        name: of this training; part of its seed.
        folder: scratch; pictures prepared here are kept for the next training.
        times: multiplies the steps, e.g. by the number of sites for the same work.
    """
    alone = _alone(plan, name, plan.total_steps * times)
    initial = folder / f"{name}.initial"
    base = write_initial_model(alone, initial)
    now = datetime.now(UTC)
    order = TrainOrder(
        federation_id=alone.federation_id,
        run_id=alone.run_id,
        round=1,
        plan=alone,
        plan_hash=alone.digest,
        base=base,
        nonce=new_nonce(),
        issued_at=now,
        expires_at=now + timedelta(hours=1),
    )
    trained = train_round(
        order,
        initial,
        cohort,
        site_id=name,
        update_path=folder / f"{name}.update",
        progress=_silent,
        cache_folder=folder / "pictures",
    )
    before = read_arrays(initial, base)
    change = read_arrays(folder / f"{name}.update", trained.packed)
    return {key: before[key] + change[key] for key in before}


def score_all(
    plan: RunPlan, weights: Arrays, cohorts: Mapping[str, Cohort], folder: Path
) -> tuple[Case, ...]:
    """Return every sample of some sites' cohorts scored by one model.

    Raises:
        RuntimeError: an image could not be read.
    """
    task = task_of(plan)
    model = task.build_model(plan.seed)
    load_arrays(model, weights)
    cases: list[Case] = []
    for site, cohort in cohorts.items():
        dataset = task.build_dataset(cohort, cache_folder=folder / "pictures")
        found = score(model, task, dataset, _silent)
        if found.failed:
            raise RuntimeError(f"{site}: {found.failed} images could not be read")
        s = found.scores
        rows = zip(s.patients, s.keys, s.labels, s.probabilities, strict=True)
        cases += [Case(site, p, k, bool(label), prob) for p, k, label, prob in rows]
    return tuple(cases)


def model_of(path: Path, ref: BlobRef) -> Arrays:
    """Return the weights of a packed model."""
    return read_arrays(path, ref)


def figure(cases: Iterable[Case], sites: Collection[str] | None = None) -> Figure:
    """Return AUROC and loss over the cases of some sites, or of all."""
    kept = [case for case in cases if sites is None or case.site in sites]
    labels = np.array([case.label for case in kept], dtype=bool)
    values = np.array([case.probability for case in kept], dtype=np.float64)
    loss = cross_entropy(labels, values)
    if labels.all() or not labels.any():
        return Figure(len(kept), None, None, loss)
    patients = [f"{case.site}/{case.patient}" for case in kept]
    interval = cluster_bootstrap(
        {"auroc": auroc}, labels, values, patients, replicates=REPLICATES, seed=1
    )
    return Figure(len(kept), auroc(labels, values), interval["auroc"], loss)


def cross_entropy(labels: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> float:
    """Return the mean binary cross-entropy in nats."""
    inside = np.clip(probabilities, SMALLEST, 1.0 - SMALLEST)
    return float(-np.mean(np.where(labels, np.log(inside), np.log1p(-inside))))


def _alone(plan: RunPlan, name: str, steps: int) -> RunPlan:
    values = plan.model_dump(by_alias=True)
    values["train"]["local_steps"] = steps
    values["fed"] |= {"rounds": 1, "min_sites": 1, "weighting": "uniform", "weights": {}}
    return RunPlan.model_validate({**values, "training_sites": (name,), "external_sites": ()})


def _silent(_done: int, _total: int) -> None:
    """Report no progress."""
