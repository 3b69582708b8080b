"""The round machine: given what is known of a round and the time, what to do next.

    open -> waiting -> closed            every site answered, or the deadline passed
                    -> repeated          the deadline passed with fewer than min_sites
                    -> failed            the same, after `MAX_ATTEMPTS` attempts

Pure: frozen values in, a decision out. A site that is absent or silent delays a
round by its deadline at most. A round short of `min_sites` is repeated with a new
order after its deadline, so that an operator has time to mend the cause; after
`MAX_ATTEMPTS` attempts the run fails with REJ-QUORUM and keeps its last model.
Evaluation rounds have no minimum and therefore always close.

Delivery is at least once: an order is pushed again after an error reply, when a
site came back as another or a re-activated node, and with backoff while no answer
comes. The site joins the job it already runs or re-sends the answer it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from pleura.common.ids import SiteId

MAX_ATTEMPTS: Final = 5
ERROR_RETRY_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
SILENCE_RETRY_S: Final = (15.0, 30.0, 60.0)


class Answered(StrEnum):
    """What a site has answered to this attempt so far."""

    NOTHING = "nothing"
    ADMITTED = "admitted"
    REFUSED = "refused"


class Outcome(StrEnum):
    """What becomes of the round now."""

    WAIT = "wait"
    CLOSE = "close"
    REPEAT = "repeat"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Node:
    """The Flower node of a site; a new activation means its process began anew."""

    node_id: int
    activated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """What was tried to reach a site in this attempt by this process.

    `errors` counts error replies in a row; `failed_at` is the last of them, if
    nothing was pushed since.
    """

    pushes: int = 0
    pushed_at: datetime | None = None
    pushed_to: Node | None = None
    errors: int = 0
    failed_at: datetime | None = None

    def pushed(self, node: Node, now: datetime) -> Sending:
        """Return this after a push to `node`."""
        if self.pushed_to is not None and node != self.pushed_to:
            return Sending(pushes=1, pushed_at=now, pushed_to=node)
        return Sending(self.pushes + 1, now, node, self.errors)

    def failed(self, now: datetime) -> Sending:
        """Return this after an error reply; one push has one failure."""
        if self.failed_at is not None:
            return self
        return Sending(self.pushes, self.pushed_at, self.pushed_to, self.errors + 1, now)


@dataclass(frozen=True, slots=True)
class SiteView:
    """One site of a round; `node` is None while it never connected."""

    site_id: SiteId
    answered: Answered = Answered.NOTHING
    node: Node | None = None
    is_revoked: bool = False
    sending: Sending = Sending()


@dataclass(frozen=True, slots=True)
class RoundView:
    """A round as known now; `min_sites` 0 is an evaluation."""

    attempt: int
    deadline_at: datetime
    min_sites: int
    sites: tuple[SiteView, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """Which sites to push the order to now, and what becomes of the round."""

    push: tuple[SiteId, ...]
    outcome: Outcome


def decide(view: RoundView, now: datetime) -> Decision:
    """Return what to do with a round at `now`."""
    outcome = _outcome(view, now)
    if outcome is not Outcome.WAIT:
        return Decision((), outcome)
    return Decision(tuple(s.site_id for s in view.sites if is_push_due(s, now)), outcome)


def is_push_due(site: SiteView, now: datetime) -> bool:
    """Say whether the order must be sent to a site (again) at `now`."""
    if site.node is None or site.is_revoked or site.answered is not Answered.NOTHING:
        return False
    sending = site.sending
    if sending.pushed_at is None or site.node != sending.pushed_to:
        return True
    if sending.failed_at is not None:
        return now >= sending.failed_at + _step(ERROR_RETRY_S, sending.errors)
    return now >= sending.pushed_at + _step(SILENCE_RETRY_S, sending.pushes)


def _outcome(view: RoundView, now: datetime) -> Outcome:
    admitted = sum(s.answered is Answered.ADMITTED for s in view.sites)
    awaited = sum(s.answered is Answered.NOTHING and not s.is_revoked for s in view.sites)
    has_quorum = admitted >= view.min_sites
    if has_quorum and awaited == 0:
        return Outcome.CLOSE
    if now < view.deadline_at:
        return Outcome.WAIT
    if has_quorum:
        return Outcome.CLOSE
    return Outcome.FAIL if view.attempt >= MAX_ATTEMPTS else Outcome.REPEAT


def _step(steps: tuple[float, ...], count: int) -> timedelta:
    return timedelta(seconds=steps[min(max(count, 1), len(steps)) - 1])
