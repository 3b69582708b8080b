"""`pleura server`: what an operator types, over a real state folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pleura.common.clock import SystemClock
from pleura.common.exit_codes import ExitCode
from pleura.common.tensors import write_packed
from pleura.server.cli import app
from pleura.server.settings import load_settings
from pleura.server.sites import SiteRegistry
from tests.builders.coordinator import free_port
from tests.builders.federation import SITES, SiteStub, model_tensors
from tests.builders.fleet_site import FleetSite, enrol

PLAN = """
training_sites = ["north", "south", "west"]
seed = 3
[task]
name = "cxr_abnormal"
[model]
arch = "tiny_cnn_gn"
[preproc]
modality = "CXR"
size_px = 64
[train]
lr = "0.1"
local_steps = 2
batch_patients = 4
[privacy]
mode = "{mode}"
[fed]
rounds = 2
"""

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    config = tmp_path / "server.toml"
    config.write_text(
        f'federation_id = "fed-test"\nstate_dir = "state"\nsuperlink_port = {free_port()}\n'
    )
    (tmp_path / "plan.toml").write_text(PLAN.format(mode="none"))
    write_packed(tmp_path / "model.st", model_tensors())

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*words, "--config", str(config)])
        return result.exit_code, result.stdout

    assert run("init")[0] == ExitCode.OK
    return run


@pytest.fixture
def approved(call: Call, tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "server.toml")
    registry = SiteRegistry(settings.sites_db_file, SystemClock())
    for name in SITES:
        stub = SiteStub(name, blobs=None, folder=tmp_path)  # type: ignore[arg-type]
        enrol(registry, FleetSite(stub, "127.0.0.1:1", registry))
    registry.close()


def create(call: Call, tmp_path: Path) -> tuple[int, str]:
    plan, model = str(tmp_path / "plan.toml"), str(tmp_path / "model.st")
    return call("runs", "create", "--plan", plan, "--initial-model", model)


def test_init_makes_private_state_and_repeats_with_the_same_key(call: Call, tmp_path: Path) -> None:
    first, second = call("init"), call("init")
    assert first == second
    state = tmp_path / "state"
    assert (state.stat().st_mode & 0o777, (state / "tls" / "ca.pem").exists()) == (0o700, True)


@pytest.mark.usefixtures("approved")
def test_a_run_is_created_listed_shown_and_stopped(call: Call, tmp_path: Path) -> None:
    status, printed = create(call, tmp_path)
    assert status == ExitCode.OK
    run_id = printed.split()[0]
    rows = json.loads(call("runs", "list", "--json")[1])
    assert [(r["run_id"], r["state"], r["round"]) for r in rows] == [(run_id, "created", 0)]
    shown = json.loads(call("runs", "show", run_id, "--json")[1])
    assert shown["plan"]["federation_id"] == "fed-test"
    assert len(shown["models"]) == 1
    assert call("runs", "stop", run_id)[0] == ExitCode.USAGE
    assert call("runs", "stop", run_id, "--yes")[0] == ExitCode.OK
    assert call("runs", "stop", run_id, "--yes")[0] == ExitCode.INCOMPLETE
    head = json.loads(call("log", "head", "--json")[1])
    assert head["size"] == 2
    entries = [json.loads(line) for line in call("log", "list", "--json")[1].splitlines()]
    assert [e["kind"] for e in entries] == ["plan", "closing"]


@pytest.mark.usefixtures("approved")
def test_a_private_plan_without_sigma_gets_the_least_noise(call: Call, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.format(mode="dp"))
    run_id = create(call, tmp_path)[1].split()[0]
    shown = json.loads(call("runs", "show", run_id, "--json")[1])
    assert 0.1 < float(shown["plan"]["privacy"]["sigma"]) < 1


def test_a_plan_with_an_unknown_site_is_refused(call: Call, tmp_path: Path) -> None:
    assert create(call, tmp_path)[0] == ExitCode.INCOMPLETE
    assert json.loads(call("runs", "list", "--json")[1]) == []


@pytest.mark.usefixtures("approved")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rounds = 2", "rounds = 0"),
        ("rounds = 2", "rounds = 2\ncheat = 1"),
        ("seed = 3", 'seed = 3\nfederation_id = "fed-else"'),
        ("seed = 3", "seed = "),
    ],
)
def test_a_wrong_plan_is_refused_as_configuration(
    call: Call, tmp_path: Path, old: str, new: str
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.format(mode="none").replace(old, new))
    assert create(call, tmp_path)[0] == ExitCode.CONFIG


@pytest.mark.usefixtures("approved")
def test_a_file_that_is_no_model_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "model.st").write_bytes(b"not a model at all")
    assert create(call, tmp_path)[0] == ExitCode.REFUSED


def test_an_unknown_run_is_named(call: Call) -> None:
    assert call("runs", "show", "run-none")[0] == ExitCode.INCOMPLETE
