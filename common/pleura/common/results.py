"""Results: what a site may send back, as closed types that become signed predicates.

An update has a path into aggregation; an evaluation has none. A refusal says by
code why a site does not take part; it carries no value of any patient.
"""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pleura.common.ids import (
    FederationIdField,
    KeyIdField,
    NonceField,
    RunIdField,
    Sha256Field,
    SiteIdField,
)
from pleura.common.orders import Amount, BlobRef, Spec

PatientsBucket = Annotated[str, Field(pattern=r"^(<\d+|\d+-\d+|\d+\+)$")]
Code = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_-]{1,39}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
BUCKET_BOUNDS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


def patients_bucket(count: int) -> str:
    """Return the public 1-2-5 bucket of a number of patients, e.g. `50-99`, `<10`, `100000+`."""
    if count < BUCKET_BOUNDS[0]:
        return f"<{BUCKET_BOUNDS[0]}"
    for low, high in itertools.pairwise(BUCKET_BOUNDS):
        if count < high:
            return f"{low}-{high - 1}"
    return f"{BUCKET_BOUNDS[-1]}+"


class DpReport(Spec):
    """What the round's mechanism was and what the run has cost a patient so far."""

    unit: Literal["patient"] = "patient"
    mode: Literal["dp", "none"]
    sigma: Amount
    q: Amount
    steps: Annotated[int, Field(ge=0)]
    clip: Amount
    delta: Amount
    epsilon_run: Amount
    epsilon_total_after: Amount
    engine: Literal["loop", "opacus", "none"]


class Answer(Spec):
    """Fields every answer of a site shares; they bind it to one order of one run."""

    federation_id: FederationIdField
    run_id: RunIdField
    round: Annotated[int, Field(ge=0, le=1000)]
    attempt: Annotated[int, Field(ge=1, le=100)]
    site_id: SiteIdField
    key_id: KeyIdField
    plan_hash: Sha256Field
    base_model_digest: Sha256Field  # tensor digest of the order's base
    order_digest: Sha256Field  # SHA-256 of the order's envelope bytes
    order_nonce: NonceField
    created: datetime


class UpdateStatement(Answer):
    """A trained update: packed deltas (new - base), one signed statement over their digests."""

    kind: Literal["update"] = "update"
    update: BlobRef
    update_kind: Literal["delta"] = "delta"
    preproc_digest: Sha256Field
    code_digest: Sha256Field
    dp: DpReport
    dataset_commitment: Sha256Field
    patients: PatientsBucket
    versions: dict[str, str] = Field(default_factory=dict, max_length=16)


class MetricValue(Spec):
    """One metric with its 95 % interval, or the reason why there is none."""

    name: Literal[
        "auroc", "auprc", "brier", "sensitivity", "specificity", "specificity_at_sensitivity"
    ]
    value: Finite | None = None
    low: Finite | None = None
    high: Finite | None = None
    method: Literal["cluster_bootstrap", "delong", "wilson", "none"] = "none"
    reason: Literal["", "one_class", "too_few_patients", "suppressed"] = ""

    @model_validator(mode="after")
    def _value_or_reason(self) -> MetricValue:
        if (self.value is None) == (self.reason == ""):
            raise ValueError("a metric has either a value or a reason")
        return self


class RemovalCount(Spec):
    """How many objects, as a public bucket, lost or changed this tag at ingest; never a value."""

    tag: Annotated[str, Field(pattern=r"^(\([0-9A-F]{4},[0-9A-F]{4}\)|private|unknown)$")]
    keyword: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{0,64}$")] = ""  # DICOM dictionary
    action: Annotated[str, Field(pattern=r"^[a-z_]{1,24}$")]
    objects: PatientsBucket


class EvaluationStatement(Answer):
    """Metrics of one sealed model at one site; no gradient, no per-case output."""

    kind: Literal["evaluation"] = "evaluation"
    split: Literal["test", "external"]
    metrics: Annotated[tuple[MetricValue, ...], Field(max_length=32)]
    patients: PatientsBucket
    images: PatientsBucket
    failed_images: PatientsBucket
    preproc_digest: Sha256Field
    code_digest: Sha256Field
    removals: Annotated[tuple[RemovalCount, ...], Field(max_length=1000)] = ()
    quarantined: PatientsBucket = "<10"


class RefusalStatement(Answer):
    """A site's signed no: policy, budget, cohort or data, by code."""

    kind: Literal["refusal"] = "refusal"
    code: Code


SiteAnswer = UpdateStatement | EvaluationStatement | RefusalStatement
