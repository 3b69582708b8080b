"""`pleura server sites`: data on standard output, nothing destructive without --yes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pleura.client.enrol import check_code_against_ca
from pleura.client.settings import CoordinatorSection, SiteSettings
from pleura.common.clock import SystemClock
from pleura.common.enrolment import parse_invite_code
from pleura.common.exit_codes import ExitCode
from pleura.common.ids import FederationId, SiteId
from pleura.server.cli_sites import app
from pleura.server.settings import load_settings
from pleura.server.sites import SiteRegistry, SiteState
from pleura.server.tls import ensure_tls
from tests.unit.server.test_sites import request

run = CliRunner()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "server.toml"
    file.write_text('federation_id = "fed"\nstate_dir = "state"\n')
    (tmp_path / "state").mkdir(mode=0o700)
    ensure_tls(load_settings(file), SystemClock().now())
    return file


def enrolled(config: Path) -> str:
    reply = run.invoke(app, ["invite", "site-a", "--config", str(config)])
    registry = SiteRegistry(load_settings(config).sites_db_file, SystemClock())
    registry.enrol(request(SiteId("site-a"), parse_invite_code(reply.stdout).secret))
    registry.close()
    return reply.stdout


def state(config: Path) -> SiteState | None:
    registry = SiteRegistry(load_settings(config).sites_db_file, SystemClock())
    site = registry.get(SiteId("site-a"))
    registry.close()
    return None if site is None else site.state


def test_invite_prints_the_code_alone_and_it_fits_the_ca(config: Path, tmp_path: Path) -> None:
    reply = run.invoke(app, ["invite", "site-a", "--config", str(config)])
    assert reply.exit_code == 0
    assert reply.stdout.count("\n") == 1
    settings = SiteSettings(
        site_id=SiteId("site-a"),
        state_dir=tmp_path,
        coordinator=CoordinatorSection(
            url="https://127.0.0.1",
            federation_id=FederationId("fed"),
            ca_file=load_settings(config).ca_file,
        ),
    )
    check_code_against_ca(settings, reply.stdout)


def test_list_as_json_is_data(config: Path) -> None:
    assert json.loads(run.invoke(app, ["list", "--json", "--config", str(config)]).stdout) == []
    enrolled(config)
    [row] = json.loads(run.invoke(app, ["list", "--json", "--config", str(config)]).stdout)
    assert (row["site_id"], row["state"], row["node_id"]) == ("site-a", "pending", None)
    table = run.invoke(app, ["list", "--config", str(config)])
    assert table.exit_code == 0 and "site-a" in table.stdout


def test_approve_lets_the_site_in(config: Path) -> None:
    enrolled(config)
    assert run.invoke(app, ["approve", "site-a", "--config", str(config)]).exit_code == 0
    assert state(config) is SiteState.APPROVED


def test_revoke_needs_yes(config: Path) -> None:
    enrolled(config)
    refused = run.invoke(app, ["revoke", "site-a", "--config", str(config)])
    assert refused.exit_code == ExitCode.USAGE
    assert state(config) is SiteState.PENDING
    assert run.invoke(app, ["revoke", "site-a", "--yes", "--config", str(config)]).exit_code == 0
    assert state(config) is SiteState.REVOKED


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (["approve", "nobody"], "SITE-UNKNOWN", ExitCode.INCOMPLETE),
        (["revoke", "nobody", "--yes"], "SITE-UNKNOWN", ExitCode.INCOMPLETE),
        (["invite", "Not A Site"], "CFG-ID", ExitCode.CONFIG),
    ],
)
def test_errors_are_named_with_their_own_exit_status(
    config: Path, arguments: list[str], code: str, status: ExitCode
) -> None:
    reply = run.invoke(app, [*arguments, "--config", str(config)])
    assert reply.exit_code == status
    assert code in reply.stderr


def test_missing_configuration_is_named(tmp_path: Path) -> None:
    reply = run.invoke(app, ["list", "--config", str(tmp_path / "absent.toml")])
    assert reply.exit_code == ExitCode.CONFIG
    assert "CFG-READ" in reply.stderr
