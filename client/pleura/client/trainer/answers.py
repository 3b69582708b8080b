"""Answers: the signed statements a site may give to an order. Pure apart from the key.

Every answer repeats what binds it to its order: run, round, attempt, plan, base,
nonce and the digest of the order's envelope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pleura.client.trainer.identity import code_digest, versions
from pleura.client.trainer.policy import OpenedOrder
from pleura.client.validation.evaluate import Evaluation
from pleura.common.ids import SiteId
from pleura.common.keys import SigningKey
from pleura.common.orders import BlobRef, EvaluateOrder
from pleura.common.results import (
    DpReport,
    EvaluationStatement,
    RefusalStatement,
    RemovalCount,
    UpdateStatement,
    patients_bucket,
)
from pleura.common.statements import Subject, sign_statement


@dataclass(frozen=True, slots=True)
class Signer:
    """The site's name and signing key; it signs answers and nothing else."""

    site_id: SiteId
    key: SigningKey

    def refusal(self, opened: OpenedOrder, code: str, now: datetime) -> bytes:
        """Return the signed no of this site, by code."""
        statement = RefusalStatement(**self._binding(opened, now), code=code)
        return sign_statement(statement, [_order_subject(opened)], self.key)

    def update(
        self,
        opened: OpenedOrder,
        packed: BlobRef,
        *,
        dp: DpReport,
        commitment: str,
        patients: int,
        now: datetime,
    ) -> bytes:
        """Return the signed statement over one packed update."""
        statement = UpdateStatement(
            **self._binding(opened, now),
            update=packed,
            preproc_digest=opened.order.plan.preproc.digest,
            code_digest=code_digest(),
            dp=dp,
            dataset_commitment=commitment,
            patients=patients_bucket(patients),
            versions=versions(),
        )
        subjects = [
            Subject("update", packed.blob_sha256),
            Subject("update-tensors", packed.tensor_digest),
            _order_subject(opened),
        ]
        return sign_statement(statement, subjects, self.key)

    def evaluation(
        self,
        opened: OpenedOrder,
        order: EvaluateOrder,
        found: Evaluation,
        *,
        removals: Sequence[RemovalCount],
        quarantined: int,
        now: datetime,
    ) -> bytes:
        """Return the signed metrics of one model; counts leave as buckets only."""
        statement = EvaluationStatement(
            **self._binding(opened, now),
            split=order.split,
            metrics=found.metrics,
            patients=patients_bucket(found.patients),
            images=patients_bucket(found.images),
            failed_images=patients_bucket(found.failed),
            preproc_digest=order.plan.preproc.digest,
            code_digest=code_digest(),
            removals=tuple(removals),
            quarantined=patients_bucket(quarantined),
        )
        subjects = [Subject("model", order.base.blob_sha256), _order_subject(opened)]
        return sign_statement(statement, subjects, self.key)

    def _binding(self, opened: OpenedOrder, now: datetime) -> dict[str, Any]:
        order = opened.order
        return {
            "federation_id": order.federation_id,
            "run_id": order.run_id,
            "round": order.round,
            "attempt": order.attempt,
            "site_id": self.site_id,
            "key_id": self.key.public.key_id,
            "plan_hash": order.plan_hash,
            "base_model_digest": order.base.tensor_digest,
            "order_digest": opened.digest,
            "order_nonce": order.nonce,
            "created": now,
        }


def _order_subject(opened: OpenedOrder) -> Subject:
    return Subject("order", opened.digest)
