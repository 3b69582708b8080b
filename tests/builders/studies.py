"""A small finished study as values, for report tests."""

from __future__ import annotations

from decimal import Decimal

from pleura.common.ids import FederationId, RunId, SiteId
from pleura.common.orders import (
    BlobRef,
    FedSpec,
    ModelSpec,
    PreprocSpec,
    PrivacySpec,
    RunPlan,
    TaskRef,
    TrainSpec,
)
from pleura.common.results import DpReport, MetricValue, RemovalCount
from pleura.server.reports.study import SiteResult, StudyResult


def plan(**changes: object) -> RunPlan:
    """Return a valid plan for three training sites and one external site."""
    fields: dict[str, object] = {
        "federation_id": FederationId("demo"),
        "run_id": RunId("run-1"),
        "task": TaskRef(name="cxr_abnormal"),
        "model": ModelSpec(arch="tiny_cnn_gn"),
        "preproc": PreprocSpec(modality="CXR", size_px=64),
        "train": TrainSpec(lr=Decimal("0.1"), local_steps=4, batch_patients=8),
        "privacy": PrivacySpec(sigma=Decimal("1.2"), n_ref=64),
        "fed": FedSpec(rounds=3, min_sites=2, deadline_s=60),
        "training_sites": tuple(SiteId(s) for s in ("site-a", "site-b", "site-c")),
        "external_sites": (SiteId("site-x"),),
        "seed": 7,
    }
    fields.update(changes)
    return RunPlan.model_validate(fields)


def blob_ref(letter: str = "a") -> BlobRef:
    return BlobRef(
        blob_sha256=letter * 64, size_bytes=1000, tensor_digest=letter * 64, schema_digest="0" * 64
    )


def auroc(value: float) -> MetricValue:
    return MetricValue(
        name="auroc", value=value, low=value - 0.08, high=value + 0.05, method="cluster_bootstrap"
    )


def study(**changes: object) -> StudyResult:
    """Return a study in which site-c missed one round and was refused in another."""
    dp = DpReport(
        mode="dp",
        sigma=Decimal("1.2"),
        q=Decimal("0.125"),
        steps=12,
        clip=Decimal(1),
        delta=Decimal("1e-5"),
        epsilon_run=Decimal("3.1"),
        epsilon_total_after=Decimal("4.4"),
        engine="loop",
    )
    removal = (RemovalCount(tag="(0010,0010)", action="replaced", objects="100-199"),)

    def site(
        name: str, role: str, rounds: tuple[str, ...], metrics: tuple[MetricValue, ...]
    ) -> SiteResult:
        return SiteResult(
            site=name,
            role=role,
            rounds=rounds,
            metrics=metrics,
            note="" if metrics else "REJ-COHORT",
            patients="50-99",
            images="100-199",
            privacy=dp if role == "training" else None,
            removals=removal,
            quarantined="<10",
        )

    one_class = MetricValue(name="auroc", reason="one_class")
    fields: dict[str, object] = {
        "plan": plan(),
        "state": "finished",
        "rounds_done": 3,
        "started": "2026-01-01T00:00:00.000Z",
        "finished": "2026-01-01T00:02:00.000Z",
        "initial_model": blob_ref("a"),
        "final_model": blob_ref("b"),
        "sites": (
            site("site-a", "training", ("trained",) * 3, (auroc(0.91),)),
            site("site-b", "training", ("trained",) * 3, (one_class,)),
            site("site-c", "training", ("trained", "absent", "REJ-NORM"), ()),
            site("site-x", "external", (), (auroc(0.83),)),
        ),
        "curve": {"site-a": ((0, 0.5), (1, 0.8), (3, 0.91)), "site-x": ((0, 0.5), (3, 0.83))},
        "log_size": 31,
        "log_head": "c" * 64,
    }
    fields.update(changes)
    return StudyResult(**fields)  # type: ignore[arg-type]
