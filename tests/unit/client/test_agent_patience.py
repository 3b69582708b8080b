"""The agent gives a reply up in the end: a SuperLink that was started anew never takes it."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from pleura.client.agent import process
from pleura.client.agent.courier import Courier
from pleura.client.agent.fleet import FleetLink
from pleura.client.errors import CoordinatorUnreachable


class ForgetfulFleet:
    """Refuses a reply `refusals` times."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.taken = refusals, 0

    def push(self, reply: object, runtime_s: float) -> None:
        if self.refusals:
            self.refusals -= 1
            raise CoordinatorUnreachable("status 500")
        self.taken += 1


def agent_of(fleet: ForgetfulFleet) -> process.Agent:
    stop = threading.Event()
    return process.Agent(cast(FleetLink, fleet), cast(Courier, None), stop, bundle="")


def test_reply_is_pushed_again_until_it_is_taken() -> None:
    fleet = ForgetfulFleet(refusals=2)
    agent_of(fleet)._push(cast(Any, None), 0.0)
    assert fleet.taken == 1


def test_reply_that_is_never_taken_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PUSH_PATIENCE_S", 0.3)
    with pytest.raises(CoordinatorUnreachable):
        agent_of(ForgetfulFleet(refusals=1_000_000))._push(cast(Any, None), 0.0)
