"""Accounting: what Poisson-sampled Gaussian steps cost one patient, and what fits a cap.

One event a step, PoissonSampled(q, Gaussian(sigma)), add/remove one patient. The
figure is the privacy loss distribution (PLD) of the composition at delta; Renyi
DP, which is always at least as large, stands in where PLD gives no finite figure,
and where neither does the plan is refused. Every figure is an upper bound: the
loss is rounded up to multiples of `INTERVAL`, which overstates the epsilon of
each vector of PRIVACY.md section 3 by less than 1e-5. Nothing here knows a site,
a ledger or a model. `admits` is the rule for a cap over several runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from dp_accounting import dp_event, rdp
from dp_accounting.pld import privacy_loss_distribution as pld

from pleura.common.errors import AccountingFailed

INTERVAL: Final = 1e-4  # of the discretised privacy loss
SOLVER_MARGIN: Final = Decimal("0.01")
_SUPPORT: Final = 20.0  # widest loss of one step that is kept at INTERVAL
_COARSE: Final = 100 * INTERVAL
_PLD_LIMIT: Final = 100.0  # above this the coarse or RDP figure will do: no plan may cost as much
_SIGMA_UNIT: Final = Decimal("0.0001")
_SIGMA_MAX: Final = 10_000_000  # in units of 1e-4: the bound of PrivacySpec.sigma
_FILTER_ORDERS: Final = range(2, 257)

Refusal = Literal["", "plan_over_cap", "filter_over_cap"]


@dataclass(frozen=True, slots=True)
class Mechanism:
    """`steps` noisy steps: noise multiplier `sigma`, sampling rate exactly q_num / q_den.

    Raises:
        AccountingFailed: sigma is not positive and finite, q is outside (0, 1], steps < 1.
    """

    sigma: Decimal
    q_num: int
    q_den: int
    steps: int

    def __post_init__(self) -> None:
        if not self.sigma.is_finite() or self.sigma <= 0:
            raise AccountingFailed("sigma is not a positive number")
        if not 0 < self.q_num <= self.q_den:
            raise AccountingFailed("the sampling rate is outside (0, 1]")
        if self.steps < 1:
            raise AccountingFailed("a mechanism needs at least one step")

    @property
    def q(self) -> Fraction:
        """The sampling rate, exact."""
        return Fraction(self.q_num, self.q_den)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a run fits: `epsilon` after it, its Renyi cost at the filter's order, and why not."""

    admitted: bool
    epsilon: float
    renyi: float
    reason: Refusal


_Group = tuple[Decimal, Fraction, int]


def epsilon(mechanisms: Sequence[Mechanism], delta: Decimal) -> float:
    """Return an upper bound of epsilon at `delta` for all steps together; 0.0 for none.

    Steps with equal sigma and q are one self-composition, so the order of rounds
    does not matter. Results are remembered by value.

    Raises:
        AccountingFailed: neither PLD nor RDP is finite, or delta is outside (0, 1).
    """
    if not 0 < delta < 1:
        raise AccountingFailed("delta is outside (0, 1)")
    return _epsilon(_grouped(mechanisms), delta)


def renyi(mechanisms: Sequence[Mechanism], order: int) -> float:
    """Return the Renyi divergence bound of all steps together at an integer order.

    Raises:
        AccountingFailed: the bound is not finite.
    """
    value = float(_rdp_accountant(_grouped(mechanisms), (float(order),)).rdp[0])
    return _checked(value)


def renyi_epsilon(mechanisms: Sequence[Mechanism], delta: Decimal) -> float:
    """Return the RDP figure, never below the PLD one; infinity where it has none."""
    return _rdp_epsilon(_grouped(mechanisms), delta)


def conversion(order: int, delta: Decimal) -> float:
    """Return conv(a): epsilon = renyi(a) + conv(a) holds at `delta`."""
    log_delta = math.log(float(delta))
    return math.log1p(-1 / order) - (log_delta + math.log(order)) / (order - 1)


def filter_order(cap: Decimal, delta: Decimal) -> int:
    """Return a*, the order a cohort's genesis fixes: it leaves the most for many small runs."""
    return max(_FILTER_ORDERS, key=lambda a: (float(cap) - conversion(a, delta)) / a)


def admits(
    others: Sequence[Sequence[Mechanism]],
    run: Sequence[Mechanism],
    *,
    cap: Decimal,
    delta: Decimal,
    order: int | None = None,
) -> Decision:
    """Decide whether `run` fits under `cap` beside the runs already charged.

    A first run needs PLD <= cap. From the second run on later plans may have been
    chosen after earlier results, so the sum of Renyi costs at the fixed order must
    also stay below cap - conv(order): a privacy filter.

    Args:
        others: what each other run has been charged.
        run: everything this run has been charged and asks for.
        order: the order fixed at genesis; `filter_order` if absent.

    Raises:
        AccountingFailed: no finite figure exists.
    """
    order = filter_order(cap, delta) if order is None else order
    everything = [step for other in others for step in other] + list(run)
    total, cost = epsilon(everything, delta), renyi(everything, order)
    reason: Refusal = ""
    if total > float(cap):
        reason = "plan_over_cap"
    elif any(others) and cost > float(cap) - conversion(order, delta):
        reason = "filter_over_cap"
    return Decision(not reason, total, cost, reason)


def solve_sigma(epsilon: Decimal, delta: Decimal, batch: int, n_ref: int, steps: int) -> Decimal:
    """Return the least 4-decimal sigma whose PLD epsilon is at most `epsilon` - 0.01.

    Raises:
        AccountingFailed: no sigma up to 1000 reaches the target.
    """
    target = float(epsilon - SOLVER_MARGIN)
    if target <= 0:
        raise AccountingFailed("the target epsilon is not above the margin of 0.01")

    def cost_at(interval: float) -> Callable[[int], float]:
        return lambda n: _pld_epsilon(
            _grouped([Mechanism(n * _SIGMA_UNIT, batch, n_ref, steps)]), delta, interval
        )

    above = _SIGMA_MAX
    for interval in (_COARSE, 10 * INTERVAL, INTERVAL):  # coarse is larger: brackets fine
        above = _least(cost_at(interval), target, above, 0.5 if interval > 1e-3 else 0.98)
    return above * _SIGMA_UNIT


def _least(cost: Callable[[int], float], target: float, above: int, shrink: float) -> int:
    """Return the least n >= 1 with cost(n) <= target, for a falling cost, given one such n."""
    cost_above = cost(above)
    if cost_above > target:
        raise AccountingFailed("no sigma up to 1000 reaches the target epsilon")
    below, cost_below = above, cost_above
    while cost_below <= target:
        above, cost_above = below, cost_below
        if above == 1:
            return 1
        below = min(above - 1, int(above * shrink))
        cost_below = cost(below) if below else math.inf
    turn = 0
    while above - below > 1:
        middle = _between(below, cost_below, above, cost_above, target, turn)
        value = cost(middle)
        if value <= target:
            above, cost_above = middle, value
        else:
            below, cost_below = middle, value
        turn += 1
    return above


def _between(
    below: int, cost_below: float, above: int, cost_above: float, target: float, turn: int
) -> int:
    """Interpolate, look just beside the last point, halve: in turn, so that it always ends."""
    if turn % 3 == 2 or not math.isfinite(cost_below):
        return (below + above) // 2
    guess = below + (above - below) * (cost_below - target) / (cost_below - cost_above)
    nudge = 0 if turn % 3 == 0 else (1 if guess - below < above - guess else -1)
    return min(max(math.ceil(guess) + nudge, below + 1), above - 1)


def _grouped(mechanisms: Sequence[Mechanism]) -> tuple[_Group, ...]:
    steps: dict[tuple[Decimal, Fraction], int] = {}
    for one in mechanisms:
        key = (one.sigma.normalize(), one.q)
        steps[key] = steps.get(key, 0) + one.steps
    return tuple(sorted((sigma, q, count) for (sigma, q), count in steps.items()))


@lru_cache(maxsize=1024)
def _epsilon(groups: tuple[_Group, ...], delta: Decimal) -> float:
    if not groups:
        return 0.0
    coarse = _pld_epsilon(groups, delta, _COARSE)
    if coarse > _PLD_LIMIT:
        return _checked(min(coarse, _rdp_epsilon(groups, delta)))
    figure = _pld_epsilon(groups, delta, INTERVAL)
    return _checked(figure if math.isfinite(figure) else _rdp_epsilon(groups, delta))


def _pld_epsilon(groups: tuple[_Group, ...], delta: Decimal, interval: float) -> float:
    """Return the PLD figure, or infinity where the composition has none."""
    # A very small sigma has a wide loss: a coarser interval keeps it fast, and stays an upper bound
    try:
        widest = max(1 / (2 * float(s) ** 2) + 8 / float(s) for s, _, _ in groups)
        interval *= 2.0 ** max(0, math.ceil(math.log2(widest / (_SUPPORT * interval / INTERVAL))))
        parts = [
            pld.from_gaussian_mechanism(
                float(sigma),
                sampling_prob=float(q),
                value_discretization_interval=interval,
                use_connect_dots=True,
            ).self_compose(steps)
            for sigma, q, steps in groups
        ]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.compose(part)
        figure = float(whole.get_epsilon_for_delta(float(delta)))
    except (ValueError, ArithmeticError, MemoryError, IndexError):
        return math.inf
    return figure if math.isfinite(figure) and figure >= 0 else math.inf


def _rdp_accountant(
    groups: tuple[_Group, ...], orders: tuple[float, ...] | None = None
) -> rdp.RdpAccountant:
    accountant = rdp.RdpAccountant(orders=orders)
    with np.errstate(all="ignore"):
        for sigma, q, steps in groups:
            step = dp_event.PoissonSampledDpEvent(float(q), dp_event.GaussianDpEvent(float(sigma)))
            accountant.compose(step, steps)
    return accountant


def _rdp_epsilon(groups: tuple[_Group, ...], delta: Decimal) -> float:
    try:
        figure = float(_rdp_accountant(groups).get_epsilon(float(delta)))
    except (ValueError, ArithmeticError):
        return math.inf
    return figure if math.isfinite(figure) and figure >= 0 else math.inf


def _checked(figure: float) -> float:
    if not math.isfinite(figure) or figure < 0:
        raise AccountingFailed("neither PLD nor RDP gives a finite figure")
    return figure
