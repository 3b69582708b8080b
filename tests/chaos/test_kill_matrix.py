"""Kill -9 of every process in the middle of a round: the study ends with the same model.

All cases run in one federation, one run each, with the same seeds and without
privacy, so the final model has the same bytes unless a kill lost or doubled an update.
A round is held in its middle by stopping a trainer, so no case depends on luck.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.builders.federations import (
    Federation,
    StudyPlan,
    descendants,
    federation,
    is_living,
    kill,
    paused,
    process_named,
    wait_until,
    write_hospitals,
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]
SITES = ("north", "river", "harbour")
ROUNDS, KILLED_IN = 3, 2
PLAN = StudyPlan(SITES, rounds=ROUNDS, min_sites=3, deadline_s=300, local_steps=12)


@dataclass(frozen=True)
class Reference:
    federation: Federation
    digest: str
    seconds: float


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    folder = tmp_path_factory.mktemp("kill")
    with federation(folder, write_hospitals(folder / "pacs", SITES)) as running:
        began = time.monotonic()
        run_id = running.begin(PLAN)
        assert running.await_end(run_id)["event"] == "run.finished"
        seconds = time.monotonic() - began
        yield Reference(running, running.final_digest(run_id), seconds)


def killed_study(reference: Reference, strike: Callable[[Federation], None]) -> str:
    """Run the study with `strike` in the middle of its second round; return its run id."""
    running = reference.federation
    run_id = running.begin(PLAN)
    running.server.until("round.closed", run=run_id, round=KILLED_IN - 1)
    with paused(process_named(running.local, "river", "trainer")):
        running.server.until("round.opened", run=run_id, round=KILLED_IN)
        running.sites["north"].until("job.started", run=run_id, round=KILLED_IN)
        assert not running.server.find("round.closed", run=run_id, round=KILLED_IN)
        strike(running)
    began = time.monotonic()
    assert running.await_end(run_id)["event"] == "run.finished"
    print(f"ended {time.monotonic() - began:.1f} s after the kill")
    return run_id


def expect_same_model(reference: Reference, run_id: str) -> None:
    running = reference.federation
    assert running.final_digest(run_id) == reference.digest
    for round_ in range(1, ROUNDS + 1):
        assert running.decisions(run_id, round_) == dict.fromkeys(SITES, "admitted")
    trained = [r for r in running.state(run_id)["rounds"] if r["kind"] == "train"]
    assert len(trained) == ROUNDS, "no round was repeated with another order"


def test_held_round_alone_changes_nothing(reference: Reference) -> None:
    expect_same_model(reference, killed_study(reference, lambda _: None))


@pytest.mark.parametrize("name", ["gateway", "superlink", "superexec", "serverapp"])
def test_killed_process_of_the_coordinator_costs_no_bit(reference: Reference, name: str) -> None:
    def strike(running: Federation) -> None:
        kill(process_named(running.local, "server", name))

    expect_same_model(reference, killed_study(reference, strike))


@pytest.mark.parametrize("name", ["agent", "trainer"])
def test_killed_process_of_a_site_costs_no_bit(reference: Reference, name: str) -> None:
    def strike(running: Federation) -> None:
        kill(process_named(running.local, "north", name))

    expect_same_model(reference, killed_study(reference, strike))


def test_killed_coordinator_as_a_whole_costs_no_bit(reference: Reference) -> None:
    def strike(running: Federation) -> None:
        local = running.local
        below = descendants(local.pid("server"))
        kill(local.pid("server"))
        wait_until(lambda: not any(map(is_living, below)), "its processes die with it")
        local.stop_one("server")
        local.run_server()

    expect_same_model(reference, killed_study(reference, strike))


def test_killed_site_as_a_whole_costs_no_bit(reference: Reference) -> None:
    def strike(running: Federation) -> None:
        local = running.local
        below = descendants(local.pid("harbour"))
        kill(local.pid("harbour"))
        wait_until(lambda: not any(map(is_living, below)), "its processes die with it")
        local.stop_one("harbour")
        local.start_site("harbour")

    expect_same_model(reference, killed_study(reference, strike))


def test_a_lost_update_would_change_the_model(reference: Reference) -> None:
    """The negative twin: with one site less the final model differs."""
    running = reference.federation
    fewer = StudyPlan(
        SITES[:2], rounds=ROUNDS, min_sites=2, deadline_s=300, local_steps=PLAN.local_steps
    )
    run_id = running.begin(fewer)
    assert running.await_end(run_id)["event"] == "run.finished"
    assert running.final_digest(run_id) != reference.digest


def test_statement_log_verifies_after_all_kills(reference: Reference) -> None:
    reference.federation.local.server("log", "head")  # recomputes the whole chain
