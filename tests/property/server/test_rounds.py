"""Invariants of the round machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleura.common.ids import SiteId
from pleura.server.rounds import (
    MAX_ATTEMPTS,
    Answered,
    Node,
    Outcome,
    RoundView,
    Sending,
    SiteView,
    decide,
    is_push_due,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = [SiteId(f"site-{n}") for n in range(6)]

moments = st.floats(0, 400).map(lambda s: START + timedelta(seconds=s))
nodes = st.builds(Node, st.integers(1, 3), st.none() | moments)


@st.composite
def sendings(draw: st.DrawFn) -> Sending:
    sending, now = Sending(), START
    for is_push in draw(st.lists(st.booleans(), max_size=6)):
        now += timedelta(seconds=draw(st.floats(0, 60)))
        sending = sending.pushed(draw(nodes), now) if is_push else sending.failed(now)
    return sending


@st.composite
def views(draw: st.DrawFn) -> RoundView:
    count = draw(st.integers(1, 6))
    sites = tuple(
        SiteView(
            name,
            draw(st.sampled_from(Answered)),
            draw(st.none() | nodes),
            draw(st.booleans()),
            draw(sendings()),
        )
        for name in NAMES[:count]
    )
    return RoundView(
        attempt=draw(st.integers(1, MAX_ATTEMPTS + 2)),
        deadline_at=draw(moments),
        min_sites=draw(st.integers(0, count)),
        sites=sites,
    )


def admitted(view: RoundView) -> int:
    return sum(s.answered is Answered.ADMITTED for s in view.sites)


@given(views(), moments)
def test_no_round_waits_past_its_deadline(view: RoundView, now: datetime) -> None:
    if now >= view.deadline_at:
        assert decide(view, now).outcome is not Outcome.WAIT


@given(views(), moments)
def test_a_round_closes_only_with_its_minimum_of_admitted_sites(
    view: RoundView, now: datetime
) -> None:
    if decide(view, now).outcome is Outcome.CLOSE:
        assert admitted(view) >= view.min_sites


@given(views(), moments)
def test_a_round_short_of_sites_is_repeated_only_after_its_deadline(
    view: RoundView, now: datetime
) -> None:
    if decide(view, now).outcome in (Outcome.REPEAT, Outcome.FAIL):
        assert now >= view.deadline_at
        assert admitted(view) < view.min_sites


@given(views(), moments)
def test_a_round_fails_only_after_the_last_attempt(view: RoundView, now: datetime) -> None:
    outcome = decide(view, now).outcome
    if outcome is Outcome.FAIL:
        assert view.attempt >= MAX_ATTEMPTS
    if outcome is Outcome.REPEAT:
        assert view.attempt < MAX_ATTEMPTS


@given(views(), moments)
def test_nothing_is_pushed_to_a_site_that_answered_or_was_revoked(
    view: RoundView, now: datetime
) -> None:
    pushed = set(decide(view, now).push)
    for site in view.sites:
        if site.answered is not Answered.NOTHING or site.is_revoked or site.node is None:
            assert site.site_id not in pushed


@given(views(), moments)
def test_an_evaluation_round_always_closes(view: RoundView, now: datetime) -> None:
    evaluation = RoundView(view.attempt, view.deadline_at, 0, view.sites)
    later = max(now, view.deadline_at)
    assert decide(evaluation, later).outcome is Outcome.CLOSE


@given(nodes, moments)
def test_a_site_that_was_never_sent_the_order_is_due_at_once(node: Node, now: datetime) -> None:
    assert is_push_due(SiteView(NAMES[0], node=node), now)


@given(nodes, nodes, moments)
def test_a_new_activation_of_a_site_gets_the_order_at_once(
    before: Node, after: Node, now: datetime
) -> None:
    sending = Sending().pushed(before, now)
    assert is_push_due(SiteView(NAMES[0], node=after, sending=sending), now) == (before != after)


@pytest.mark.parametrize(("pushes", "silence_s"), [(1, 15), (2, 30), (3, 60), (4, 60), (50, 60)])
def test_silence_is_answered_by_pushing_again_with_growing_pauses(
    pushes: int, silence_s: int
) -> None:
    node, sending = Node(1), Sending()
    for _ in range(pushes):
        sending = sending.pushed(node, START)
    site = SiteView(NAMES[0], node=node, sending=sending)
    assert not is_push_due(site, START + timedelta(seconds=silence_s - 0.001))
    assert is_push_due(site, START + timedelta(seconds=silence_s))


@pytest.mark.parametrize(("errors", "pause_s"), [(1, 0.5), (2, 1), (3, 2), (6, 15), (40, 15)])
def test_an_error_reply_is_answered_by_pushing_again_soon(errors: int, pause_s: float) -> None:
    node, sending = Node(1), Sending()
    for _ in range(errors):
        sending = sending.pushed(node, START).failed(START)
    site = SiteView(NAMES[0], node=node, sending=sending)
    assert not is_push_due(site, START + timedelta(seconds=pause_s - 0.001))
    assert is_push_due(site, START + timedelta(seconds=pause_s))


def test_all_answered_closes_before_the_deadline() -> None:
    sites = tuple(SiteView(name, Answered.ADMITTED) for name in NAMES[:3])
    view = RoundView(1, START + timedelta(hours=1), 3, sites)
    assert decide(view, START).outcome is Outcome.CLOSE


def test_a_round_does_not_wait_for_a_revoked_site() -> None:
    sites = (
        SiteView(NAMES[0], Answered.ADMITTED),
        SiteView(NAMES[1], Answered.ADMITTED),
        SiteView(NAMES[2], node=Node(1), is_revoked=True),
    )
    view = RoundView(1, START + timedelta(hours=1), 2, sites)
    assert decide(view, START).outcome is Outcome.CLOSE
