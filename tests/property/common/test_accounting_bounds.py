"""Accounting is an upper bound that never falls when more is done."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from pleura.common.privacy.accounting import Mechanism, admits, epsilon, renyi_epsilon

DELTA = Decimal("1e-5")
MECHANISMS = st.builds(
    Mechanism,
    sigma=st.decimals("1.5", "20", places=2),
    q_num=st.integers(1, 30),
    q_den=st.integers(100, 400),
    steps=st.integers(1, 60),
)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(one=MECHANISMS, other=MECHANISMS)
def test_composition_costs_more_than_each_part_and_no_more_than_renyi_says(
    one: Mechanism, other: Mechanism
) -> None:
    both = epsilon([one, other], DELTA)
    assert max(epsilon([one], DELTA), epsilon([other], DELTA)) <= both + 1e-9
    assert both <= renyi_epsilon([one, other], DELTA)
    assert both == epsilon([other, one], DELTA)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(runs=st.lists(MECHANISMS, min_size=1, max_size=3), cap=st.decimals("0.1", "3", places=1))
def test_whatever_is_admitted_stays_below_the_cap(runs: list[Mechanism], cap: Decimal) -> None:
    charged: list[list[Mechanism]] = []
    for run in runs:
        decision = admits(charged, [run], cap=cap, delta=DELTA)
        assert decision.admitted == (decision.reason == "")
        if decision.admitted:
            charged.append([run])
    assert epsilon([step for run in charged for step in run], DELTA) <= float(cap)
