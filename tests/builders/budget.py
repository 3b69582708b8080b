"""A budget ledger in a test: its key, its usual plan, and one reservation."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from pleura.client.privacy.budget import BudgetLedger, Reservation
from pleura.common.privacy.accounting import Mechanism

KEY = bytes(range(32))
DELTA = Decimal("1e-5")
PLAN = Mechanism(Decimal("4.0"), 1, 10, 100)  # 0.982854: V4
ROUND = Mechanism(Decimal("4.0"), 1, 10, 10)
TINY = Mechanism(Decimal("200"), 1, 100, 1)
HASH, BASE, UPDATE = "a" * 64, "b" * 64, "c" * 64


def reserve(ledger: BudgetLedger, round_number: int = 1, **changes: Any) -> Reservation:
    arguments: dict[str, Any] = {
        "run_id": "run-1",
        "plan_hash": HASH,
        "round": round_number,
        "attempt": 1,
        "mechanism": ROUND,
        "base_digest": f"{round_number:064d}",
        "cohort": "cohort-1",
        "delta": DELTA,
        "cap": Decimal(1),
        "plan_total": PLAN,
    }
    return ledger.reserve(**(arguments | changes))


def steps_charged(ledger: BudgetLedger) -> int:
    return sum(run.steps for run in ledger.summary().runs)


def reopened(path: Path, **changes: Any) -> BudgetLedger:
    return BudgetLedger(path, **({"seal_key": KEY} | changes))
