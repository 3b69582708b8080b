"""Accounting against the vectors of PRIVACY.md section 3."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from scipy.stats import norm

from pleura.common.errors import AccountingFailed
from pleura.common.privacy.accounting import (
    Mechanism,
    admits,
    conversion,
    epsilon,
    filter_order,
    renyi,
    renyi_epsilon,
    solve_sigma,
)

DELTA = Decimal("1e-5")


def mechanism(sigma: str, q: str, steps: int) -> Mechanism:
    rate = Fraction(q)
    return Mechanism(Decimal(sigma), rate.numerator, rate.denominator, steps)


V2 = mechanism("0.9", "0.0256", 1170)
V4 = mechanism("4.0", "0.1", 100)
# sigma, q, T, delta, PRV upper, PLD, RDP
VECTORS = [
    ("1.0", "0.064", 320, "1e-4", 6.734364, 6.723862, 7.564701),
    ("0.9", "0.0256", 1170, "1e-5", 6.935345, 6.924942, 7.648717),
    ("0.7", "0.01024", 4900, "1e-6", 11.182199, 11.171683, 12.231660),
    ("4.0", "0.1", 100, "1e-5", 0.992926, 0.982854, 1.081702),
    ("5.0", "1", 10, "1e-5", 2.604536, 2.594383, 2.813653),
    ("1.1", "0.01", 10000, "1e-5", 5.202865, 5.192620, 5.632011),
]


@pytest.mark.parametrize(("sigma", "q", "steps", "delta", "prv", "pld", "rdp"), VECTORS)
def test_epsilon_is_the_pld_figure_and_stays_below_renyi(
    sigma: str, q: str, steps: int, delta: str, prv: float, pld: float, rdp: float
) -> None:
    event = [mechanism(sigma, q, steps)]
    found = epsilon(event, Decimal(delta))
    assert found == pytest.approx(pld, abs=1e-5)
    assert abs(found - (prv - 0.01)) <= 1e-3 * max(1.0, found)
    assert renyi_epsilon(event, Decimal(delta)) == pytest.approx(rdp, abs=1e-5)
    assert found <= rdp


def test_unsampled_steps_cost_what_the_analytic_gaussian_says() -> None:
    found = epsilon([mechanism("5.0", "1", 10)], DELTA)
    scale = 5 / math.sqrt(10)

    def delta_at(eps: float) -> float:
        low, high = -eps * scale - 0.5 / scale, -eps * scale + 0.5 / scale
        return float(norm.cdf(high) - math.exp(eps) * norm.cdf(low))

    assert delta_at(found) <= 1e-5 <= delta_at(found - 1e-4)


def test_two_mechanisms_compose_to_the_vector() -> None:
    assert epsilon([V2, V4], DELTA) == pytest.approx(7.034738, abs=1e-5)


def test_rounds_of_a_run_cost_what_the_run_costs_at_once() -> None:
    rounds = [mechanism("4", "0.1", 10), mechanism("4.0", "1/10", 40)] * 2
    assert epsilon(rounds, DELTA) == epsilon([V4], DELTA)


def test_no_step_costs_nothing() -> None:
    assert epsilon([], DELTA) == 0.0


def test_more_steps_and_less_noise_cost_more() -> None:
    base = epsilon([mechanism("4", "0.1", 100)], DELTA)
    assert epsilon([mechanism("4", "0.1", 101)], DELTA) > base
    assert epsilon([mechanism("3.9999", "0.1", 100)], DELTA) > base
    assert epsilon([mechanism("4", "0.1001", 100)], DELTA) > base


# batch, n_ref, steps, delta -> sigma with margin at epsilon 1, 3, 8
PLANS = [
    (64, 1000, 320, "1e-5", ("4.4535", "1.8164", "0.9895")),
    (128, 5000, 1170, "1e-5", ("3.4180", "1.4415", "0.8441")),
    (512, 50000, 4900, "2e-6", ("3.0609", "1.2960", "0.7831")),
]
ROWS = [
    (batch, n_ref, count, delta, eps, sigma)
    for batch, n_ref, count, delta, sigmas in PLANS
    for eps, sigma in zip((1, 3, 8), sigmas, strict=True)
]


@pytest.mark.parametrize(("batch", "n_ref", "count", "delta", "eps", "sigma"), ROWS)
def test_table_holds_the_least_sigma_that_reaches_the_target(
    batch: int, n_ref: int, count: int, delta: str, eps: int, sigma: str
) -> None:
    def cost(text: Decimal) -> float:
        return epsilon([Mechanism(text, batch, n_ref, count)], Decimal(delta))

    assert cost(Decimal(sigma)) <= eps - 0.01 < cost(Decimal(sigma) - Decimal("0.0001"))


@pytest.mark.parametrize(("batch", "n_ref", "count", "delta", "eps", "sigma"), [ROWS[0], ROWS[6]])
def test_solver_finds_the_table(
    batch: int, n_ref: int, count: int, delta: str, eps: int, sigma: str
) -> None:
    assert solve_sigma(Decimal(eps), Decimal(delta), batch, n_ref, count) == Decimal(sigma)


def test_solver_rounds_up_where_the_table_without_margin_rounds() -> None:
    found = solve_sigma(Decimal("1.01"), DELTA, 64, 1000, 320)
    assert Decimal("4.4146") <= found <= Decimal("4.4147")


@pytest.mark.parametrize("eps", ["0.01", "0.005", "0.0100001"])
def test_solver_refuses_a_target_no_noise_reaches(eps: str) -> None:
    with pytest.raises(AccountingFailed):
        solve_sigma(Decimal(eps), DELTA, 1, 1, 10_000)


@pytest.mark.parametrize(
    ("cap", "order", "room"), [(1, 18, 0.549949), (3, 8, 1.785891), (8, 4, 4.912138)]
)
def test_filter_order_and_room_are_the_vectors(cap: int, order: int, room: float) -> None:
    assert filter_order(Decimal(cap), DELTA) == order
    assert cap - conversion(order, DELTA) == pytest.approx(room, abs=1e-6)


def test_renyi_costs_at_order_4_are_the_vectors() -> None:
    assert renyi([V2], 4) == pytest.approx(4.804211, abs=1e-6)
    assert renyi([mechanism("0.8436", "0.0256", 1170)], 4) == pytest.approx(6.887730, abs=2e-6)


def test_first_run_needs_only_its_own_epsilon_below_the_cap() -> None:
    full = mechanism("0.8441", "0.0256", 1170)
    decision = admits([], [full], cap=Decimal(8), delta=DELTA)
    assert decision.admitted
    assert decision.renyi > 4.912138  # it would not pass the filter, and need not


def test_no_second_run_follows_a_first_that_used_the_filter_up() -> None:
    full = mechanism("0.8441", "0.0256", 1170)
    tiny = mechanism("1000", "0.001", 1)
    decision = admits([[full]], [tiny], cap=Decimal(8), delta=DELTA)
    assert not decision.admitted
    assert decision.epsilon <= 8
    assert decision.reason == "filter_over_cap"


def test_second_run_that_passes_the_filter_is_admitted() -> None:
    tiny = mechanism("20", "0.01", 10)
    assert admits([[V2]], [tiny], cap=Decimal(8), delta=DELTA).admitted


def test_run_above_the_cap_is_refused() -> None:
    decision = admits([], [V2], cap=Decimal("6.9"), delta=DELTA)
    assert not decision.admitted
    assert decision.reason == "plan_over_cap"


@pytest.mark.parametrize(
    ("sigma", "q_num", "q_den", "steps"),
    [
        ("0", 1, 2, 1),
        ("-1", 1, 2, 1),
        ("NaN", 1, 2, 1),
        ("Infinity", 1, 2, 1),
        ("1", 0, 2, 1),
        ("1", 3, 2, 1),
        ("1", 1, 2, 0),
    ],
)
def test_impossible_mechanism_is_refused(sigma: str, q_num: int, q_den: int, steps: int) -> None:
    with pytest.raises(AccountingFailed):
        Mechanism(Decimal(sigma), q_num, q_den, steps)


@pytest.mark.parametrize("delta", ["0", "1", "-0.1"])
def test_impossible_delta_is_refused(delta: str) -> None:
    with pytest.raises(AccountingFailed):
        epsilon([V4], Decimal(delta))


def test_plan_without_any_finite_figure_is_refused() -> None:
    with pytest.raises(AccountingFailed):
        epsilon([mechanism("1e-200", "1", 1)], DELTA)


def test_renyi_stands_in_where_the_loss_has_no_finite_distribution() -> None:
    event = [mechanism("1e-30", "1", 1000)]
    assert epsilon(event, DELTA) <= renyi_epsilon(event, DELTA) < math.inf


def test_sampling_rate_keeps_the_exact_fraction() -> None:
    assert Mechanism(Decimal(1), 64, 300, 1).q == Fraction(16, 75)
