"""A whole study with real processes: three training sites, one external, DICOM to report."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.builders.federations import (
    Federation,
    StudyPlan,
    descendants,
    federation,
    is_living,
    process_named,
    processes_of,
    wait_until,
    write_hospitals,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]
TRAINING, EXTERNAL = ("north", "river", "harbour"), "external"
ROUNDS = 2


@dataclass(frozen=True)
class Finished:
    federation: Federation
    run_id: str
    end: dict[str, object]
    page: str


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("study")
    hospitals = write_hospitals(folder / "pacs", (*TRAINING, EXTERNAL), patients=60)
    with federation(folder, hospitals, min_patients=20, allow_non_dp=False) as running:
        plan = StudyPlan(
            TRAINING, (EXTERNAL,), mode="dp", rounds=ROUNDS, min_sites=3, every_rounds=1
        )
        run_id = running.begin(plan)
        end = running.await_end(run_id)
        page = running.local.write_report(run_id, folder / "report").read_text(encoding="utf-8")
        yield Finished(running, run_id, end, page)


def test_study_runs_from_dicom_folders_to_its_last_round(study: Finished) -> None:
    assert study.end["event"] == "run.finished"
    assert study.end["round"] == ROUNDS
    for round_ in range(1, ROUNDS + 1):
        decided = study.federation.decisions(study.run_id, round_)
        assert decided == dict.fromkeys(TRAINING, "admitted")
        external = study.federation.decisions(study.run_id, round_, "external")
        assert external == {EXTERNAL: "admitted"}


def test_external_site_never_trains(study: Finished) -> None:
    kinds = {e["kind"] for e in study.federation.sites[EXTERNAL].find("job.started")}
    assert kinds == {"evaluate"}
    assert study.federation.server.find("update.admitted", site=EXTERNAL) == []


def test_every_object_was_taken_in(study: Finished) -> None:
    for site_id, hospital in study.federation.hospitals.items():
        status = json.loads(study.federation.local.client(site_id, "status", "--json"))
        assert len(study.federation.sites[site_id].find("object.accepted")) == (
            hospital.summary.files
        ), status


def test_report_has_one_line_a_site_and_asks_for_nothing(study: Finished) -> None:
    for site in (*TRAINING, EXTERNAL):
        role = "external" if site == EXTERNAL else "training"
        line = rf"<tr><td>{site}</td><td>{role}</td>"
        assert len(re.findall(line, study.page)) == 1, site
    assert "<script" not in study.page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", study.page)


def test_statement_log_verifies_and_holds_every_statement(study: Finished) -> None:
    local = study.federation.local
    head = json.loads(local.server("log", "head", "--json"))
    rows = [json.loads(line) for line in local.server("log", "list", "--json").splitlines()]
    assert head["size"] == len(rows)
    kinds = [row["kind"] for row in rows]
    assert kinds.count("plan") == 1
    assert kinds.count("update") == ROUNDS * len(TRAINING)
    assert kinds.count("evaluation") == ROUNDS * (len(TRAINING) + 1)
    assert kinds.count("aggregate") == ROUNDS
    assert kinds[-1] == "closing"


def test_runs_and_sites_are_listed_as_json(study: Finished) -> None:
    local = study.federation.local
    runs = json.loads(local.server("runs", "list", "--json"))
    assert [(r["run_id"], r["state"], r["round"]) for r in runs] == [
        (study.run_id, "finished", ROUNDS)
    ]
    shown = local.run_state(study.run_id)
    assert [m["round"] for m in shown["models"]] == list(range(ROUNDS + 1))
    sites = json.loads(local.server("sites", "list", "--json"))
    assert {s["site_id"]: s["state"] for s in sites} == dict.fromkeys(
        (*TRAINING, EXTERNAL), "approved"
    )
    assert all(s["node_id"] and s["last_seen"] for s in sites)


def test_budget_was_spent_at_every_training_site_and_at_no_other(study: Finished) -> None:
    for site in TRAINING:
        assert len(study.federation.sites[site].find("budget.spent")) == ROUNDS
    assert study.federation.sites[EXTERNAL].find("budget.spent") == []


def test_sigterm_ends_a_site_and_all_its_processes(study: Finished) -> None:
    local = study.federation.local
    below = descendants(local.pid(EXTERNAL))
    assert len(below) >= 3
    local.stop_one(EXTERNAL)
    wait_until(lambda: not any(is_living(p) for p in below), "the site's processes end")
    local.check_alive()


def test_ctrl_c_ends_the_coordinator_and_all_its_processes(study: Finished) -> None:
    local = study.federation.local
    process_named(local, "server", "superexec")
    supervisor, below = local.pid("server"), descendants(local.pid("server"))
    os.kill(supervisor, signal.SIGINT)
    wait_until(lambda: not is_living(supervisor), "the coordinator ends", timeout_s=30)
    wait_until(lambda: not any(is_living(p) for p in below), "its processes end", timeout_s=30)
    local.stop()
    wait_until(lambda: processes_of(study.federation.root) == [], "nothing is left", timeout_s=30)
