"""The example files of deploy/ are what the programs read, and the units say what we claim."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from pleura.client.settings import load_settings as load_site
from pleura.common.config import read_toml
from pleura.common.orders import RunPlan
from pleura.server.settings import load_settings as load_server

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def unit(name: str) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / name)
    return dict(parser["Service"])


def test_the_example_settings_are_valid_and_strict() -> None:
    site = load_site(DEPLOY / "examples" / "site.toml")
    assert not site.policy.allow_non_dp
    assert not site.policy.allow_unsandboxed_trainer
    assert not site.ingest.accept_unread_text
    assert load_server(DEPLOY / "examples" / "server.toml").port == 443


def test_the_example_plan_is_a_plan() -> None:
    plan = RunPlan.model_validate(
        {**read_toml(DEPLOY / "examples" / "plan.toml"), "federation_id": "x1", "run_id": "r1"}
    )
    assert plan.privacy.mode == "dp"


def test_the_trainer_and_ingest_units_have_no_network() -> None:
    for name in ("pleura-trainer.service", "pleura-ingest.service"):
        assert unit(name)["PrivateNetwork"] == "yes"
        assert unit(name)["IPAddressDeny"] == "any"


def test_the_agent_unit_cannot_read_pixels_vault_or_signing_key() -> None:
    hidden = unit("pleura-agent.service")["InaccessiblePaths"]
    for place in ("store", "vault", "site.key"):
        assert place in hidden


def test_no_unit_runs_as_root_or_restarts_what_a_person_must_mend() -> None:
    for path in (DEPLOY / "systemd").glob("*.service"):
        service = unit(path.name)
        assert service["User"] != "root"
        assert service["RestartPreventExitStatus"] == "2 3 4 5"
        assert service["NoNewPrivileges"] == "yes"


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for path in (DEPLOY / "systemd").glob("pleura-*.service"):
        text = path.read_text()
        start = text.index("ExecStart=") + len("ExecStart=")
        words = text[start : text.index("\n", start)]
        (tmp_path / path.name).write_text(text.replace(words, "/bin/true"))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / path.name)],
            capture_output=True,
            text=True,
            check=False,
        )
        ours = [line for line in done.stderr.splitlines() if path.name in line]
        assert ours == []


def test_containers_drop_rights_and_have_a_read_only_root() -> None:
    compose = (DEPLOY / "compose.yaml").read_text()
    assert compose.count("read_only: true") == compose.count("cap_drop: [ALL]") == 2
    for name in ("server", "client"):
        assert "USER pleura" in (DEPLOY / f"Dockerfile.{name}").read_text()
