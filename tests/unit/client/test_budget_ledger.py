"""The budget ledger never loses a charge and never lets one too many through."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pleura.client.errors import (
    BudgetDamaged,
    BudgetExceeded,
    BudgetTermsDiffer,
    RoundOvercharged,
    UpdateAlreadySpent,
)
from pleura.client.privacy import budget_rows
from pleura.client.privacy.budget import BudgetLedger, Reservation
from pleura.client.privacy.budget_rows import Charge, Terms
from pleura.common.errors import AccountingFailed
from pleura.common.privacy.accounting import Mechanism, epsilon
from tests.builders.budget import (
    BASE,
    DELTA,
    HASH,
    KEY,
    TINY,
    UPDATE,
    reopened,
    reserve,
    steps_charged,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budget.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[BudgetLedger]:
    opened = BudgetLedger(path, seal_key=KEY)
    yield opened
    opened.close()


# --- vectors of PRIVACY.md section 4 --------------------------------------------------


def test_genesis_and_first_charge_hash_to_the_vectors() -> None:
    terms = Terms("cohort-1", DELTA, Decimal(8), 4)
    genesis = budget_rows.row_hash(budget_rows.genesis_row(terms))
    assert genesis == "c9b5c561a9f6404ec5b49005b1852bcdbeba76a07caaa57285163472b82293b3"
    event = Mechanism(Decimal("1.8120"), 64, 1000, 16)
    row = budget_rows.charge_row(Charge(1, "run-1", 1, 1, event, "", ""), "cohort-1", genesis)
    assert row["event"] == {"T": 16, "q": "0.064", "sigma": "1.8120"}
    expected = "992dbc543a835c95ec1339418234e803f9410583313c0f72f9611f500f15a11d"
    assert budget_rows.row_hash(row) == expected


def test_first_reservation_writes_the_vector_genesis(ledger: BudgetLedger, path: Path) -> None:
    reserve(ledger, cap=Decimal(8))
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT row_hash FROM rows WHERE seq = 0").fetchone()[0]
    db.close()
    assert found == "c9b5c561a9f6404ec5b49005b1852bcdbeba76a07caaa57285163472b82293b3"


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (Fraction(64, 1000), "0.064"),
        (Fraction(1), "1"),
        (Fraction(1, 1024), "0.0009765625"),
        (Fraction(64, 300), "16/75"),
    ],
)
def test_rate_is_written_without_rounding(rate: Fraction, text: str) -> None:
    assert budget_rows.exact_text(rate) == text
    assert Fraction(text) == rate


# --- charging -------------------------------------------------------------------------


def test_each_round_is_charged_and_the_figures_add_up(ledger: BudgetLedger) -> None:
    assert ledger.summary().epsilon_spent == 0.0
    for number in range(1, 11):
        reservation = reserve(ledger, number)
        expected = epsilon([Mechanism(Decimal(4), 1, 10, 10 * number)], DELTA)
        assert reservation.epsilon_run == reservation.epsilon_total_after == expected
    summary = ledger.summary()
    assert summary.epsilon_spent == pytest.approx(0.982854, abs=1e-5)
    assert (summary.cap, summary.delta) == (Decimal(1), DELTA)
    assert [(run.run_id, run.steps) for run in summary.runs] == [("run-1", 100)]


def test_reservation_counts_as_spent_after_a_restart(ledger: BudgetLedger, path: Path) -> None:
    reserve(ledger)
    again = reopened(path)
    assert steps_charged(again) == 10
    assert again.stored("run-1", 1, f"{1:064d}") is None
    again.close()


def test_plan_above_the_cap_is_refused_before_its_first_round(ledger: BudgetLedger) -> None:
    with pytest.raises(BudgetExceeded, match="plan_over_cap"):
        reserve(ledger, cap=Decimal("0.98"))
    assert ledger.summary().count == 0
    reserve(ledger, cap=Decimal("0.983"))


def test_round_above_the_cap_is_refused_though_its_plan_fits(ledger: BudgetLedger) -> None:
    terms = {"cap": Decimal("0.99")}
    for number in range(1, 11):
        reserve(ledger, number, **terms)
    with pytest.raises(BudgetExceeded):  # a second attempt is one round more than the plan
        reserve(ledger, 10, attempt=2, **terms)
    assert steps_charged(ledger) == 100


def test_second_run_within_the_cap_is_refused_by_the_filter(ledger: BudgetLedger) -> None:
    for number in range(1, 11):
        reserve(ledger, number)
    with pytest.raises(BudgetExceeded, match="filter_over_cap"):
        reserve(
            ledger,
            run_id="run-2",
            plan_hash="d" * 64,
            mechanism=TINY,
            plan_total=TINY,
        )
    assert [run.run_id for run in ledger.summary().runs] == ["run-1"]


def test_second_run_that_passes_the_filter_is_charged_beside_the_first(
    ledger: BudgetLedger,
) -> None:
    first = reserve(ledger, mechanism=TINY, plan_total=TINY)
    second = reserve(ledger, run_id="run-2", mechanism=TINY, plan_total=TINY)
    assert second.epsilon_run == first.epsilon_run
    assert second.epsilon_total_after == epsilon([TINY, TINY], DELTA)


def test_first_run_meets_the_filter_once_a_second_has_begun(ledger: BudgetLedger) -> None:
    reserve(ledger, 1)
    reserve(ledger, run_id="run-2", mechanism=TINY, plan_total=TINY)
    with pytest.raises(BudgetExceeded, match="filter_over_cap"):
        for number in range(2, 11):
            reserve(ledger, number)
    assert steps_charged(ledger) < 101


def test_lower_cap_is_obeyed_and_a_higher_one_refused(ledger: BudgetLedger) -> None:
    reserve(ledger)
    with pytest.raises(BudgetTermsDiffer):
        reserve(ledger, 2, cap=Decimal("1.01"))
    with pytest.raises(BudgetExceeded, match="plan_over_cap"):
        reserve(ledger, 2, cap=Decimal("0.2"))
    reserve(ledger, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"cohort": "cohort-2"},
        {"delta": Decimal("1e-6")},
        {"plan_hash": "e" * 64},
        {"mechanism": Mechanism(Decimal("3.9"), 1, 10, 10)},
        {"mechanism": Mechanism(Decimal("4.0"), 1, 11, 10)},
        {"mechanism": Mechanism(Decimal("4.0"), 1, 10, 101)},
    ],
    ids=["cohort", "delta", "plan", "sigma", "q", "steps"],
)
def test_terms_other_than_the_fixed_ones_are_refused(
    ledger: BudgetLedger, changes: dict[str, Any]
) -> None:
    reserve(ledger)
    with pytest.raises(BudgetTermsDiffer):
        reserve(ledger, 2, **changes)
    assert steps_charged(ledger) == 10


def test_round_is_charged_for_each_attempt_up_to_the_limit(ledger: BudgetLedger) -> None:
    reserve(ledger, 1, attempt=1)
    reserve(ledger, 1, attempt=2)
    assert steps_charged(ledger) == 20
    with pytest.raises(RoundOvercharged):
        reserve(ledger, 1, attempt=3)
    with pytest.raises(RoundOvercharged):  # other base, same round: still the third charge
        reserve(ledger, 1, attempt=1, base_digest=BASE)


def test_plan_without_a_finite_figure_is_refused(ledger: BudgetLedger) -> None:
    endless = Mechanism(Decimal("1e-200"), 1, 1, 1)
    with pytest.raises(AccountingFailed):
        reserve(ledger, mechanism=endless, plan_total=endless)
    assert ledger.summary().count == 0


# --- stored updates ---------------------------------------------------------------------


def test_spent_round_gives_its_stored_update_and_no_second_charge(
    ledger: BudgetLedger, path: Path
) -> None:
    reservation = reserve(ledger, base_digest=BASE)
    ledger.spent(reservation, UPDATE)
    ledger.spent(reservation, UPDATE)  # said twice, written once
    again = reopened(path)
    for opened in (ledger, again):
        assert opened.stored("run-1", 1, BASE) == UPDATE
        assert opened.stored("run-1", 1, HASH) is None
        assert opened.stored("run-1", 2, BASE) is None
        with pytest.raises(UpdateAlreadySpent):
            reserve(opened, attempt=2, base_digest=BASE)
    assert steps_charged(again) == 10
    assert again.summary().count == 3
    again.close()


def test_reservation_that_led_to_other_bytes_is_damage(ledger: BudgetLedger) -> None:
    reservation = reserve(ledger)
    ledger.spent(reservation, UPDATE)
    with pytest.raises(BudgetDamaged):
        ledger.spent(reservation, HASH)


def test_reservation_of_another_ledger_is_refused(ledger: BudgetLedger) -> None:
    reserve(ledger)
    with pytest.raises(BudgetDamaged):
        ledger.spent(Reservation(7, "run-1", 1, 1, 0.1, 0.1, HASH), UPDATE)
