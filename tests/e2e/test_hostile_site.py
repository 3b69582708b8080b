"""An enrolled site that misbehaves is refused by name, and rounds complete without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import pytest

from pleura.client.settings import load_settings
from pleura.common.canonical import sha256_hex
from tests.builders.federations import (
    ENDS,
    Federation,
    StudyPlan,
    federation,
    paused,
    process_named,
    wait_until,
    write_hospitals,
)
from tests.builders.hostile_agent import (
    HostileAgent,
    honest,
    not_finite,
    replayed_answer,
    signed_by_another_key,
    tampered,
    too_long,
    twice,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
HONEST, HOSTILE = ("north", "river"), "mallory"
EXPECTED = {
    1: "admitted",
    2: "REJ-SIGNATURE",
    3: "REJ-ROUND",
    4: "REJ-KEY",
    5: "REJ-NONFINITE",
    6: "REJ-NORM",
}


@dataclass(frozen=True)
class Attacked:
    federation: Federation
    run_id: str
    other_run_id: str
    agent: HostileAgent


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """Let the hostile site act in every round of one run and in two of a second run."""
    folder = tmp_path_factory.mktemp("hostile")
    hospitals = write_hospitals(folder / "pacs", (*HONEST, HOSTILE))
    with ExitStack() as stack:
        running = stack.enter_context(federation(folder, hospitals, join=False))
        for site in HONEST:
            running.join(site)
        running.join(HOSTILE, start=False)
        running.await_ingest(*HONEST)

        def answer_of_first_round() -> bytes:
            return agent.honest[1]

        acts = (
            honest,
            tampered,
            replayed_answer(answer_of_first_round),
            signed_by_another_key,
            not_finite,
            too_long,
        )
        script = {
            **{("first", number): act for number, act in enumerate(acts, start=1)},
            ("second", 1): replayed_answer(answer_of_first_round, when_told=True),
            ("second", 2): twice,
        }
        settings = load_settings(running.local.site_config(HOSTILE))
        agent = stack.enter_context(HostileAgent(settings, script))

        def await_event(name: str | frozenset[str], **fields: object) -> None:
            wait_until(
                lambda: bool(agent.failures or running.server.find(name, **fields)),
                f"{name} {fields}",
            )
            assert agent.failures == []

        sites = (*HONEST, HOSTILE)
        plan = StudyPlan(sites, rounds=len(EXPECTED), local_steps=2, run_id="first")
        run_id = running.begin(plan)
        await_event(ENDS, run=run_id)
        other = running.begin(StudyPlan(sites, rounds=2, local_steps=2, run_id="second"))
        await_event("update.admitted", run=other, round=1, site=HONEST[1])
        with paused(process_named(running.local, HONEST[1], "trainer")):  # round 2 stays open
            agent.told.set()
            await_event("update.refused", run=other, round=2, site=HOSTILE)
        await_event(ENDS, run=other)
        yield Attacked(running, run_id, other, agent)


@pytest.mark.parametrize("round_", sorted(EXPECTED))
def test_bad_update_is_refused_by_name_and_the_round_completes(
    attacked: Attacked, round_: int
) -> None:
    decided = attacked.federation.decisions(attacked.run_id, round_)
    assert decided == {**dict.fromkeys(HONEST, "admitted"), HOSTILE: EXPECTED[round_]}
    closed = attacked.federation.server.find("round.closed", run=attacked.run_id, round=round_)
    assert [event["count"] for event in closed][:1] == [3 if round_ == 1 else 2]


def test_update_of_another_run_is_refused(attacked: Attacked) -> None:
    decided = attacked.federation.decisions(attacked.other_run_id, 1)
    assert decided == {**dict.fromkeys(HONEST, "admitted"), HOSTILE: "REJ-RUN"}


def test_second_answer_to_an_order_is_refused_and_the_first_stays(attacked: Attacked) -> None:
    server, run_id = attacked.federation.server, attacked.other_run_id
    admitted = server.find("update.admitted", run=run_id, round=2, site=HOSTILE)
    refused = server.find("update.refused", run=run_id, round=2, site=HOSTILE)
    assert [e["code"] for e in refused] == ["REJ-REPLAY"]
    assert len(admitted) == 1
    assert refused[0]["digest"] != admitted[0]["digest"]
    assert attacked.federation.decisions(run_id, 2) == dict.fromkeys((*HONEST, HOSTILE), "admitted")


def test_refused_update_is_no_input_of_the_aggregate(attacked: Attacked) -> None:
    report = attacked.federation.local.write_report(
        attacked.run_id, attacked.federation.root / "report"
    )
    row = next(
        line
        for line in report.read_text(encoding="utf-8").splitlines()
        if f"<td>{HOSTILE}</td>" in line and "REJ-SIGNATURE" in line
    )
    for code in EXPECTED.values():
        assert code in row or code == "admitted"


def test_signed_request_sent_twice_is_refused(attacked: Attacked) -> None:
    target = "/pleura/v1/site"
    headers = attacked.agent.channel.signing_headers("GET", target, sha256_hex(b""))
    with httpx.Client(
        base_url=attacked.agent.channel.url, verify=attacked.agent.channel.ssl_context
    ) as client:
        first, second = (client.get(target, headers=headers) for _ in range(2))
    assert first.status_code == 200
    assert (second.status_code, second.json()["code"]) == (401, "REJ-REPLAY")


def test_signed_request_moved_to_another_path_is_refused(attacked: Attacked) -> None:
    headers = attacked.agent.channel.signing_headers("GET", "/pleura/v1/site", sha256_hex(b""))
    with httpx.Client(
        base_url=attacked.agent.channel.url, verify=attacked.agent.channel.ssl_context
    ) as client:
        reply = client.get("/pleura/v1/sites", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "REJ-SIGNATURE")
