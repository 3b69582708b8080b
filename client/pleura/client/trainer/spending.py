"""Spending: what a private round costs a patient, charged before its first gradient.

Binds the plan's mechanism to the site's ledger. The site's own cap and delta are
the terms; the epsilon of an answer is stated at that delta. What was trained once
for a round and base is found again by its digest and never trained a second time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from pleura.client.errors import EpsilonUnderstated
from pleura.client.privacy.budget import BudgetLedger, Reservation
from pleura.client.settings import PolicySection
from pleura.client.trainer.identity import load_or_create_secret
from pleura.common.orders import TrainOrder
from pleura.common.privacy.accounting import Mechanism, epsilon
from pleura.common.results import DpReport

COHORT: Final = "cohort-1"  # one site-wide cohort: every run charges everyone
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Spend:
    """What an answer may say about its cost so far, at the site's delta."""

    epsilon_run: float
    epsilon_total_after: float


class SiteBudget:
    """The ledger of one trainer under its steward's policy."""

    def __init__(self, folder: Path, policy: PolicySection) -> None:
        """Open `budget.db` in the trainer's private folder.

        Raises:
            BudgetDamaged: ledger or seal does not add up.
            KeyUnreadable, KeyFileInsecure: the seal key cannot be used.
        """
        seal_key = load_or_create_secret(folder / "seal.key")
        self._policy = policy
        self._ledger = BudgetLedger(
            folder / "budget.db", seal_key=seal_key, max_attempts=policy.max_attempts
        )

    def close(self) -> None:
        self._ledger.close()

    def reserve(self, order: TrainOrder) -> Reservation:
        """Charge one attempt at a round.

        Raises:
            EpsilonUnderstated, BudgetExceeded, BudgetTermsDiffer, RoundOvercharged,
            UpdateAlreadySpent, AccountingFailed, BudgetDamaged, DiskFull: nothing may be trained.
        """
        plan = order.plan
        whole_run = _mechanism(order, plan.total_steps)
        if epsilon((whole_run,), plan.privacy.delta) > plan.privacy.epsilon:
            raise EpsilonUnderstated("the plan's noise costs more than the epsilon it states")
        return self._ledger.reserve(
            order.run_id,
            order.plan_hash,
            order.round,
            order.attempt,
            _mechanism(order, plan.train.local_steps),
            base_digest=order.base.tensor_digest,
            cohort=COHORT,
            delta=self._policy.delta,
            cap=self._policy.epsilon_cap,
            plan_total=whole_run,
        )

    def spent(self, reservation: Reservation, blob_sha256: str) -> None:
        """Record which stored bytes a charge led to, before they may leave.

        Raises:
            BudgetDamaged, DiskFull: they may not leave.
        """
        self._ledger.spent(reservation, blob_sha256)

    def stored(self, order: TrainOrder) -> str | None:
        """Return the blob already paid for this round and base, if there is one.

        Raises:
            BudgetDamaged: the ledger fails its check.
        """
        return self._ledger.stored(order.run_id, order.round, order.base.tensor_digest)

    def so_far(self, order: TrainOrder) -> Spend:
        """Return what the order's run and all runs were charged.

        Raises:
            BudgetDamaged, AccountingFailed: there is no such figure.
        """
        summary = self._ledger.summary()
        run = next((r.epsilon for r in summary.runs if r.run_id == order.run_id), 0.0)
        return Spend(run, summary.epsilon_spent)

    def report(self, order: TrainOrder, steps: int, spend: Spend) -> DpReport:
        """Return the mechanism and cost as the signed update states them."""
        privacy = order.plan.privacy
        return DpReport(
            mode="dp",
            sigma=privacy.sigma,
            q=Decimal(order.plan.train.batch_patients) / Decimal(privacy.n_ref),
            steps=steps,
            clip=privacy.clip,
            delta=self._policy.delta,
            epsilon_run=_rounded_up(spend.epsilon_run),
            epsilon_total_after=_rounded_up(spend.epsilon_total_after),
            engine="loop",
        )


def no_privacy_report(steps: int) -> DpReport:
    """Return the report of a round without differential privacy; it promises nothing."""
    zero = Decimal(0)
    return DpReport(
        mode="none", sigma=zero, q=zero, steps=steps, clip=zero, delta=zero,
        epsilon_run=zero, epsilon_total_after=zero, engine="none",
    )  # fmt: skip


def _mechanism(order: TrainOrder, steps: int) -> Mechanism:
    plan = order.plan
    return Mechanism(plan.privacy.sigma, plan.train.batch_patients, plan.privacy.n_ref, steps)


def _rounded_up(epsilon: float) -> Decimal:
    scale = 10**_DIGITS
    return Decimal(math.ceil(epsilon * scale)) / Decimal(scale)
