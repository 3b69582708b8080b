"""What the coordinator signs besides orders: the plan of a run, absences, aggregates.

None of these carries a clock reading or a random value of its own. A step that is
repeated after a crash therefore signs the same bytes, and the log, which keeps a
statement once, shows one entry.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pleura.common.ids import FederationIdField, RunIdField, Sha256Field, SiteIdField
from pleura.common.keys import SigningKey
from pleura.common.orders import Amount, BlobRef, RunPlan, Spec
from pleura.common.results import Code
from pleura.common.statements import Subject, sign_statement
from pleura.server.runs import ModelRecord, Run, RunState

RoundNumber = Annotated[int, Field(ge=0, le=1000)]
Attempt = Annotated[int, Field(ge=1, le=100)]


class PlanStatement(Spec):
    """A run begins: its plan, fixed for good, and the model all sites start from."""

    kind: Literal["plan"] = "plan"
    federation_id: FederationIdField
    run_id: RunIdField
    plan: RunPlan
    plan_hash: Sha256Field
    initial: BlobRef


class AggregateInput(Spec):
    """One admitted update: its signed statement, its tensors and its weight."""

    site_id: SiteIdField
    statement_digest: Sha256Field
    update_digest: Sha256Field
    weight: Amount


class AggregateStatement(Spec):
    """A round's result: anyone who holds the inputs can recompute `output` bit for bit.

    The rule `mean` is `base + server_lr * sum(w_i x_i) / sum(w_i)` in IEEE double,
    sites in byte order, tensors in key order, one rounding to single precision.
    """

    kind: Literal["aggregate"] = "aggregate"
    federation_id: FederationIdField
    run_id: RunIdField
    round: RoundNumber
    attempt: Attempt
    plan_hash: Sha256Field
    order_digest: Sha256Field
    rule: Literal["mean"] = "mean"
    server_lr: Amount
    base: BlobRef
    inputs: Annotated[tuple[AggregateInput, ...], Field(min_length=1, max_length=100)]
    output: BlobRef


class DropoutStatement(Spec):
    """A site did not take part in a round, and why, by code; never a silent skip."""

    kind: Literal["dropout"] = "dropout"
    federation_id: FederationIdField
    run_id: RunIdField
    round: RoundNumber
    attempt: Attempt
    stage: Literal["train", "test", "external"]
    order_digest: Sha256Field
    site_id: SiteIdField
    code: Code
    answer_digest: Sha256Field | None = None


class ClosingStatement(Spec):
    """A run ended: how, after which round, and with which model."""

    kind: Literal["closing"] = "closing"
    federation_id: FederationIdField
    run_id: RunIdField
    plan_hash: Sha256Field
    state: Literal["finished", "failed", "stopped"]
    code: Code | None = None
    round: RoundNumber
    model: BlobRef


def sign_closing(
    run: Run, state: RunState, code: str | None, model: ModelRecord, key: SigningKey
) -> bytes:
    """Return the signed statement that a run ended in `state` with `model`."""
    closing = ClosingStatement.model_validate(
        {
            "federation_id": run.plan.federation_id,
            "run_id": run.run_id,
            "plan_hash": run.plan_hash,
            "state": state.value,
            "code": code,
            "round": model.round,
            "model": model.ref,
        }
    )
    return sign_statement(closing, [Subject("model", model.ref.tensor_digest)], key)
