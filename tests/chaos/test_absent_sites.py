"""A site that is absent or silent delays a round by its deadline at most and ends no run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.builders.federations import (
    Federation,
    StudyPlan,
    federation,
    paused,
    process_named,
    write_hospitals,
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
PRESENT, GHOST = ("north", "river", "harbour"), "ghost"
ROUNDS, DEADLINE_S = 2, 10
SLACK_S = 5.0  # aggregation and a busy machine; the deadline itself is exact to 0.25 s


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("absent")
    hospitals = write_hospitals(folder / "pacs", (*PRESENT, GHOST))
    with federation(folder, hospitals, join=False) as found:
        for site in PRESENT:
            found.join(site)
        found.join(GHOST, start=False)  # enrolled and approved, never there
        found.await_ingest(*PRESENT)
        yield found


def small(sites: tuple[str, ...], **changes: int) -> StudyPlan:
    settled = {"min_sites": 2, "deadline_s": DEADLINE_S, "rounds": ROUNDS, "local_steps": 2}
    return StudyPlan(sites, **{**settled, **changes})  # type: ignore[arg-type]


def expect_rounds_without(running: Federation, run_id: str, missing: str) -> None:
    closed = running.server.find("round.closed", run=run_id)
    # the last is the evaluation, which the missing site delays too
    assert [e["round"] for e in closed] == [1, 2, 2]
    for event in closed:
        assert event["count"] == 2
        assert DEADLINE_S - 1 <= event["seconds"] <= DEADLINE_S + SLACK_S
    for round_ in range(1, ROUNDS + 1):
        decided = running.decisions(run_id, round_)
        assert missing not in decided
        assert set(decided.values()) == {"admitted"}
        absent = running.server.find("site.absent", run=run_id, round=round_, site=missing)
        assert {e["code"] for e in absent} == {"ABSENT"}


def test_run_with_everyone_there_waits_for_no_deadline(running: Federation) -> None:
    run_id = running.begin(small(PRESENT, min_sites=3, deadline_s=120))
    assert running.await_end(run_id)["event"] == "run.finished"
    for event in running.server.find("round.closed", run=run_id):
        assert event["seconds"] < 60


def test_site_that_never_started_delays_each_round_by_the_deadline(running: Federation) -> None:
    run_id = running.begin(small((*PRESENT[:2], GHOST)))
    assert running.await_end(run_id)["event"] == "run.finished"
    expect_rounds_without(running, run_id, GHOST)


def test_site_that_polls_but_never_answers_delays_each_round_by_the_deadline(
    running: Federation,
) -> None:
    silent = PRESENT[2]
    with paused(process_named(running.local, silent, "trainer")):
        run_id = running.begin(small(PRESENT))
        assert running.await_end(run_id)["event"] == "run.finished"
        orders = running.server.find("order.sent", run=run_id, site=silent)
        assert orders, "it was there and was asked"
    expect_rounds_without(running, run_id, silent)


def test_site_that_was_silent_takes_part_again(running: Federation) -> None:
    run_id = running.begin(small(PRESENT, min_sites=3, deadline_s=120))
    assert running.await_end(run_id)["event"] == "run.finished"
    for round_ in range(1, ROUNDS + 1):
        assert running.decisions(run_id, round_) == dict.fromkeys(PRESENT, "admitted")


def test_run_that_needs_the_absent_site_fails_by_name_and_keeps_its_model(
    running: Federation,
) -> None:
    run_id = running.begin(small((*PRESENT[:2], GHOST), min_sites=3, deadline_s=4))
    end = running.await_end(run_id)
    assert (end["event"], end["code"]) == ("run.failed", "REJ-QUORUM")
    shown = running.state(run_id)
    assert [m["round"] for m in shown["models"]] == [0]
    running.local.check_alive()
