"""What a study report shows, as frozen values; no drawing and no storage here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pleura.common.orders import BlobRef, RunPlan
from pleura.common.results import DpReport, MetricValue, RemovalCount


@dataclass(frozen=True, slots=True)
class SiteResult:
    """One site's line: its part in every round, its metrics, its privacy, its ingest.

    `rounds` has one word a round: `trained`, `absent`, or the code of a refusal.
    """

    site: str
    role: str  # training | external
    rounds: tuple[str, ...]
    metrics: tuple[MetricValue, ...]
    note: str  # why there are no metrics, by code; empty if there are
    patients: str
    images: str
    privacy: DpReport | None
    removals: tuple[RemovalCount, ...]
    quarantined: str

    def metric(self, name: str) -> MetricValue | None:
        """Return the metric of that name, if the site reported it."""
        return next((m for m in self.metrics if m.name == name), None)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A whole run: plan, models, sites, the curve over rounds and the head of the log.

    `curve` maps a site to (round, AUROC) pairs of its held-out patients.
    """

    plan: RunPlan
    state: str
    rounds_done: int
    started: str
    finished: str
    initial_model: BlobRef
    final_model: BlobRef
    sites: tuple[SiteResult, ...]
    curve: Mapping[str, tuple[tuple[int, float], ...]]
    log_size: int
    log_head: str


def privacy_sentences(plan: RunPlan) -> tuple[str, ...]:
    """Return what the report may and must say about privacy, from the plan alone."""
    if plan.privacy.mode == "none":
        return (
            "This run had no differential privacy: it gives no formal guarantee to any patient.",
            "Each site's own policy allowed this and the plan states it.",
        )
    return (
        f"Unit of protection: one patient with all images, labels and metadata of one site "
        f"(add or remove), at delta = {plan.privacy.delta}.",
        "Sites with disjoint patients: the federation's epsilon is the largest of the sites'.",
        "A patient known to two sites gets the sum of both epsilons.",
        "That a site took part is not protected. Clipping alone is never called privacy here.",
    )
