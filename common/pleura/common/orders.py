"""Run plans and orders: everything a coordinator may ask of a site, as closed types.

A plan is fixed and signed at the start of a run; every order carries it whole,
with its hash. Names are literals and numbers are bounded, so an order can choose
among what is installed and nothing else: no import path, expression, URL or file
name travels. Decimals travel as strings and are compared as decimals.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pleura.common.canonical import canonical_json, sha256_hex
from pleura.common.ids import (
    FederationIdField,
    NonceField,
    RunIdField,
    Sha256Field,
    SiteId,
    SiteIdField,
)

TaskName = Literal["ct_nodule_malignancy", "cxr_abnormal"]
Architecture = Literal["tiny_cnn_gn", "resnet18_gn", "densenet121_gn"]
Amount = Annotated[Decimal, Field(allow_inf_nan=False)]


class Spec(BaseModel):
    """Base of every wire value: frozen, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskRef(Spec):
    """A built-in task by name and version; the site's registry is closed."""

    name: TaskName
    version: Literal[1] = 1


class ModelSpec(Spec):
    """A built-in GroupNorm network. `in_channels` are slices for a 2D net on a CT stack."""

    arch: Architecture
    norm: Literal["group"] = "group"
    num_groups: Literal[1, 2, 4, 8] = 8
    in_channels: Annotated[int, Field(ge=1, le=9)] = 1
    spatial_dims: Literal[2, 3] = 2


class PreprocSpec(Spec):
    """From DICOM to an array in [0, 1]; its hash is part of every signed update.

    `size_px` is the side of the square; CT stacks have `slices` planes and the
    window `hu_low`..`hu_high` in Hounsfield units.
    """

    modality: Literal["CXR", "CT"]
    size_px: Annotated[int, Field(ge=16, le=1024)]
    slices: Annotated[int, Field(ge=1, le=192)] = 1
    hu_low: Annotated[int, Field(ge=-1024, le=3071)] = -1000
    hu_high: Annotated[int, Field(ge=-1023, le=3071)] = 400
    version: Literal[1] = 1

    @model_validator(mode="after")
    def _window_is_open(self) -> PreprocSpec:
        if self.hu_high <= self.hu_low:
            raise ValueError("hu_high must be above hu_low")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of this spec, 64 hex digits."""
        return sha256_hex(canonical_json(self.model_dump(mode="json")))


class TrainSpec(Spec):
    """Local training of one round at one site."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[Amount, Field(gt=0, le=1)]
    momentum: Annotated[Amount, Field(ge=0, lt=1)] = Decimal("0")
    weight_decay: Annotated[Amount, Field(ge=0, le=1)] = Decimal("0")
    schedule: Literal["constant", "cosine"] = "constant"
    local_steps: Annotated[int, Field(ge=1, le=10_000)]
    batch_patients: Annotated[int, Field(ge=1, le=512)]
    images_per_patient: Annotated[int, Field(ge=1, le=16)] = 4
    augment: bool = True


class PrivacySpec(Spec):
    """Patient-level differential privacy of a run (PRIVACY.md section 2).

    `n_ref` is the public normaliser: q = batch_patients / n_ref. `sigma` is the
    noise multiplier; `epsilon` what the whole run may cost a patient at `delta`.
    In mode `none` the site's own policy must allow it too.
    """

    unit: Literal["patient"] = "patient"
    mode: Literal["dp", "none"] = "dp"
    epsilon: Annotated[Amount, Field(gt=0, le=20)] = Decimal("8")
    delta: Annotated[Amount, Field(gt=0, le=Decimal("1e-4"))] = Decimal("1e-5")
    clip: Annotated[Amount, Field(gt=0, le=100)] = Decimal("1")
    sigma: Annotated[Amount, Field(gt=0, le=1000)] = Decimal("1")
    n_ref: Annotated[int, Field(ge=1, le=10_000_000)] = 100


class FedSpec(Spec):
    """How rounds run and how admitted updates become the next model."""

    strategy: Literal["fedavg"] = "fedavg"
    weighting: Literal["uniform", "plan"] = "uniform"
    weights: dict[SiteIdField, Annotated[Amount, Field(gt=0, le=1)]] = Field(default_factory=dict)
    server_lr: Annotated[Amount, Field(ge=Decimal("1e-4"), le=10)] = Decimal("1")
    rounds: Annotated[int, Field(ge=1, le=1000)]
    min_sites: Annotated[int, Field(ge=1, le=100)] = 3
    deadline_s: Annotated[int, Field(ge=1, le=86_400)] = 600
    norm_bound: Annotated[Amount, Field(gt=0, le=1_000_000)] = Decimal("100")


class EvalSpec(Spec):
    """Metrics computed at the site; `min_cell` counts patients and has a floor."""

    bootstrap: Annotated[int, Field(ge=200, le=10_000)] = 2000
    min_cell: Annotated[int, Field(ge=10, le=1000)] = 10
    every_rounds: Annotated[int, Field(ge=0, le=1000)] = 0
    operating_sensitivity: Annotated[Amount, Field(gt=0, lt=1)] = Decimal("0.9")


class RunPlan(Spec):
    """Everything that is fixed before the first gradient.

    Raises:
        pydantic.ValidationError: a bound is broken or parts contradict each other.
    """

    schema_: Literal["pleura/plan/v1"] = Field(default="pleura/plan/v1", alias="schema")
    federation_id: FederationIdField
    run_id: RunIdField
    task: TaskRef
    model: ModelSpec
    preproc: PreprocSpec
    train: TrainSpec
    privacy: PrivacySpec
    fed: FedSpec
    evaluation: EvalSpec = EvalSpec()
    training_sites: Annotated[tuple[SiteIdField, ...], Field(min_length=1, max_length=100)]
    external_sites: Annotated[tuple[SiteIdField, ...], Field(max_length=100)] = ()
    seed: Annotated[int, Field(ge=0, lt=2**53)]

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="after")
    def _parts_agree(self) -> RunPlan:
        sites = self.training_sites + self.external_sites
        if len(set(sites)) != len(sites):
            raise ValueError("a site is named twice, or both trains and validates externally")
        if self.fed.min_sites > len(self.training_sites):
            raise ValueError("min_sites is larger than the number of training sites")
        if self.train.batch_patients > self.privacy.n_ref:
            raise ValueError("batch_patients is larger than n_ref, so q would exceed 1")
        if self.fed.weighting == "plan" and set(self.fed.weights) != set(self.training_sites):
            raise ValueError("weighting = plan needs one weight for each training site")
        if self.fed.weighting == "uniform" and self.fed.weights:
            raise ValueError("weights are given but weighting is uniform")
        if (self.preproc.modality == "CT") != (self.task.name == "ct_nodule_malignancy"):
            raise ValueError("the task and the modality of the preprocessing differ")
        if self.privacy.mode == "dp" and self.train.weight_decay > 0:
            raise ValueError("weight_decay is not offered with differential privacy")
        return self

    def canonical(self) -> bytes:
        """Return the RFC 8785 bytes that `digest` covers."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical plan, 64 hex digits: the plan hash."""
        return sha256_hex(self.canonical())

    @property
    def total_steps(self) -> int:
        """T = rounds x local_steps: noisy steps of the whole run at one site."""
        return self.fed.rounds * self.train.local_steps

    def is_evaluation_due(self, round_: int) -> bool:
        """Say whether the model of a round is evaluated: the last, and every n-th if asked."""
        every = self.evaluation.every_rounds
        return round_ == self.fed.rounds or (every > 0 and round_ % every == 0 and round_ > 0)

    def weight_of(self, site: SiteId) -> Decimal:
        """Return the unnormalised aggregation weight of a training site."""
        return self.fed.weights[site] if self.fed.weighting == "plan" else Decimal(1)


class BlobRef(Spec):
    """A packed model or update: the file's SHA-256, its size, and the tensor digest."""

    blob_sha256: Sha256Field
    size_bytes: Annotated[int, Field(ge=1, le=8 * 2**30)]
    tensor_digest: Sha256Field
    schema_digest: Sha256Field


class TrainOrder(Spec):
    """Order to train one round from `base`; signed by the coordinator."""

    kind: Literal["train"] = "train"
    federation_id: FederationIdField
    run_id: RunIdField
    round: Annotated[int, Field(ge=1, le=1000)]
    attempt: Annotated[int, Field(ge=1, le=100)] = 1
    plan: RunPlan
    plan_hash: Sha256Field
    base: BlobRef
    nonce: NonceField
    issued_at: datetime
    expires_at: datetime

    @model_validator(mode="after")
    def _plan_is_the_hashed_one(self) -> TrainOrder:
        return _checked(self)


class EvaluateOrder(Spec):
    """Order to evaluate `model`: on the held-out split, or on everything at an external site."""

    kind: Literal["evaluate"] = "evaluate"
    federation_id: FederationIdField
    run_id: RunIdField
    round: Annotated[int, Field(ge=0, le=1000)]
    attempt: Annotated[int, Field(ge=1, le=100)] = 1
    plan: RunPlan
    plan_hash: Sha256Field
    base: BlobRef
    split: Literal["test", "external"]
    nonce: NonceField
    issued_at: datetime
    expires_at: datetime

    @model_validator(mode="after")
    def _plan_is_the_hashed_one(self) -> EvaluateOrder:
        return _checked(self)


Order = TrainOrder | EvaluateOrder
_O = TypeVar("_O", TrainOrder, EvaluateOrder)


def _checked(order: _O) -> _O:
    if order.plan.digest != order.plan_hash:
        raise ValueError("plan_hash is not the hash of the plan")
    if order.plan.run_id != order.run_id or order.plan.federation_id != order.federation_id:
        raise ValueError("the order and its plan name different runs")
    if order.expires_at <= order.issued_at:
        raise ValueError("the order expires before it is issued")
    return order
