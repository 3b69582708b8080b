"""What a running federation refuses: strangers, foreign code, bad codes, wrong clocks.

One coordinator and one hospital, all real processes; every refusal has its name, its
hint and its exit status, and after each the federation goes on.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

from pleura.client.demo.federation import PLEURA
from pleura.common.bundle import BUNDLE_PYPROJECT, FAB_SHA256
from pleura.common.exit_codes import ExitCode
from pleura.server.settings import load_settings
from pleura.server.superlink import CONNECTION, command, flower_environment
from tests.builders.federations import Federation, StudyPlan, federation, write_hospitals
from tests.builders.recording_proxy import recording_proxy, with_date

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SITE = "north"
PROTOBUF = {"Content-Type": "application/protobuf"}
OPEN_PAGES = ("/", "/docs", "/redoc", "/openapi.json", "/health", "/v1/fleet/", "/pleura/v1/")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("refusals")
    with federation(folder, write_hospitals(folder / "pacs", (SITE,))) as found:
        yield found


def finish_a_study(running: Federation) -> None:
    run_id = running.begin(StudyPlan((SITE,), rounds=1, min_sites=1, local_steps=2))
    assert running.await_end(run_id)["event"] == "run.finished"


# --- strangers at the public port -------------------------------------------------------


def probe(base: str, verify: object) -> dict[str, int]:
    """Call every interface of the SuperLink without key or token; return each status."""
    paths = [*PROTOBUF_REQUEST_TYPES, *(("GET", page) for page in OPEN_PAGES)]
    with httpx.Client(base_url=base, verify=verify, timeout=20) as client:  # type: ignore[arg-type]
        return {
            f"{method} {path}": client.request(method, path, headers=PROTOBUF).status_code
            for method, path in paths
            if "stream" not in path and "pull-" not in path
        }


def test_stranger_reaches_nothing_on_the_public_port(running: Federation) -> None:
    ca = str(running.local.server_state / "tls" / "ca.pem")
    context = ssl.create_default_context(cafile=ca)
    answered = probe(f"https://127.0.0.1:{running.local.port}", context)
    assert len([path for path in answered if "/v1/control/" in path]) >= 15
    assert len([path for path in answered if "/v1/runtime/" in path]) >= 5
    for path, status in answered.items():
        fleet = path.startswith("POST /v1/fleet/") and path != "POST /v1/fleet/"
        assert status in ((401, 404) if fleet else (404,)), path
    running.local.check_alive()


def test_same_probe_on_loopback_is_answered_so_the_gateway_is_needed(running: Federation) -> None:
    answered = probe(f"http://127.0.0.1:{running.local.superlink_port}", False)
    assert answered["GET /openapi.json"] == 200
    assert answered["POST /v1/control/list-runs"] == 200


# --- foreign code -------------------------------------------------------------------------

INTRUDER_SERVER = """
import time
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    nodes = []
    while not nodes:
        nodes = list(grid.get_node_ids())
        time.sleep(0.2)
    orders = [Message(RecordDict(), dst_node_id=n, message_type="train", ttl=300) for n in nodes]
    list(grid.send_and_receive(orders, timeout=120))
"""
INTRUDER_CLIENT = """
import pathlib
from flwr.clientapp import ClientApp

pathlib.Path(MARK).write_text("it ran")
app = ClientApp()
"""


def submit_intruder(running: Federation, mark: Path) -> int:
    """Submit another Flower app on loopback, as someone on the coordinator's host could."""
    app = running.root / "intruder"
    package = app / "intruder"
    package.mkdir(parents=True)
    text = BUNDLE_PYPROJECT.replace("pleura-app", "intruder").replace('pleura-run = ""', "")
    for side in ("server", "client"):
        text = text.replace(f"pleura.{side}.flower_app:app", f"intruder.{side}_app:app")
    (app / "pyproject.toml").write_text(text, encoding="utf-8")
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "server_app.py").write_text(INTRUDER_SERVER, encoding="utf-8")
    client = INTRUDER_CLIENT.replace("MARK", repr(str(mark)))
    (package / "client_app.py").write_text(client, encoding="utf-8")
    config = running.local.server_config
    environment = {**os.environ, **flower_environment(load_settings(config), config)}
    done = subprocess.run(
        [command("flwr"), "run", str(app), CONNECTION, "--format", "json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return int(json.loads(done.stdout)["run-id"])


def test_run_with_another_code_bundle_is_refused_and_the_site_goes_on(
    running: Federation, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    submit_intruder(running, mark)
    refused = running.sites[SITE].until("bundle.refused")
    assert refused["code"] == "REJ-BUNDLE"
    assert refused["digest"] != FAB_SHA256[:12]
    assert not mark.exists()
    finish_a_study(running)
    assert len(running.sites[SITE].find("bundle.refused")) == 1
    assert not mark.exists()


# --- enrolment and configuration ------------------------------------------------------------


def newcomer(running: Federation, name: str, **changes: str) -> Path:
    """Write the configuration of a site that has not joined; return its path."""
    values = {
        "url": f"https://127.0.0.1:{running.local.port}",
        "ca_file": str(running.local.server_state / "tls" / "ca.pem"),
        "federation_id": "test",
        "extra": "",
    } | changes
    path = running.root / f"{name}.toml"
    path.write_text(
        f'site_id = "{name}"\nstate_dir = "{name}"\n{values["extra"]}\n[coordinator]\n'
        f'url = "{values["url"]}"\nfederation_id = "{values["federation_id"]}"\n'
        f'ca_file = "{values["ca_file"]}"\n',
        encoding="utf-8",
    )
    return path


def pleura(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PLEURA, *words], capture_output=True, text=True, timeout=120, check=False
    )


def expect_refusal(
    done: subprocess.CompletedProcess[str], status: ExitCode, code: str, *texts: str
) -> None:
    """Expect a named error with a hint on standard error, and nothing else."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert f"error {code}" in done.stderr
    assert "what to do: " in done.stderr
    assert "Traceback" not in done.stderr
    for text in texts:
        assert text in done.stderr


def invitation(running: Federation, name: str) -> str:
    return running.local.server("sites", "invite", name).strip()


def test_code_for_another_site_is_refused(running: Federation) -> None:
    invitation(running, "lakeside")
    config = newcomer(running, "lakeside")
    wrong = invitation(running, "hilltop")
    done = pleura("client", "join", wrong, "--config", str(config))
    expect_refusal(done, ExitCode.REFUSED, "REJ-ENROL", "REJ-CODE")
    assert wrong not in done.stderr


def test_code_used_twice_is_refused(running: Federation) -> None:
    config, code = newcomer(running, "twice"), invitation(running, "twice")
    assert pleura("client", "join", code, "--config", str(config)).returncode == 0
    other = newcomer(running, "thief")
    text = other.read_text(encoding="utf-8").replace('site_id = "thief"', 'site_id = "twice"')
    other.write_text(text, encoding="utf-8")
    done = pleura("client", "join", code, "--config", str(other))
    expect_refusal(done, ExitCode.REFUSED, "REJ-ENROL", "REJ-CODE")


def test_miscopied_code_is_refused_before_anything_is_sent(running: Federation) -> None:
    code = invitation(running, "typo")
    config = newcomer(running, "typo", url="https://127.0.0.1:1")  # nobody is there
    done = pleura("client", "join", code[:-1], "--config", str(config))
    expect_refusal(done, ExitCode.REFUSED, "REJ-CODE-FORM")


def test_pending_site_does_not_take_part(running: Federation) -> None:
    config, code = newcomer(running, "pending"), invitation(running, "pending")
    assert pleura("client", "join", code, "--config", str(config)).returncode == 0
    plan = running.root / "plan-pending.toml"
    plan.write_text(StudyPlan(("pending",), min_sites=1).text, encoding="utf-8")
    model = running.root / "pending.safetensors"
    pleura("client", "init-model", "--plan", str(plan), "--out", str(model))
    done = pleura(
        *("server", "runs", "create", "--plan", str(plan), "--initial-model", str(model)),
        *("--config", str(running.local.server_config)),
    )
    expect_refusal(done, ExitCode.INCOMPLETE, "SITE-PENDING", "pending")


def test_another_ca_file_is_refused_before_anything_is_sent(
    running: Federation, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger.toml"
    stranger.write_text(
        'federation_id = "stranger"\nstate_dir = "stranger"\nport = 65001\n'
        'public_url = "https://127.0.0.1:65001"\nsuperlink_port = 65002\n',
        encoding="utf-8",
    )
    assert pleura("server", "init", "--config", str(stranger)).returncode == 0
    ca = str(tmp_path / "stranger" / "tls" / "ca.pem")
    config = newcomer(running, "cautious", ca_file=ca, url="https://127.0.0.1:1")
    code = invitation(running, "cautious")
    done = pleura("client", "join", code, "--config", str(config))
    expect_refusal(done, ExitCode.REFUSED, "REJ-CA")


def test_impostor_with_another_certificate_is_refused(running: Federation, tmp_path: Path) -> None:
    impostor = tmp_path / "impostor.toml"
    impostor.write_text(
        'federation_id = "test"\nstate_dir = "impostor"\nport = 65001\n'
        'public_url = "https://127.0.0.1:65001"\nsuperlink_port = 65002\n',
        encoding="utf-8",
    )
    assert pleura("server", "init", "--config", str(impostor)).returncode == 0
    tls = running.root / "impostor-tls"
    tls.mkdir()
    for name in ("server.pem", "server.key"):
        (tls / name).write_bytes((tmp_path / "impostor" / "tls" / name).read_bytes())
    (tls / "ca.pem").write_bytes((running.local.server_state / "tls" / "ca.pem").read_bytes())
    code = invitation(running, "wary")
    with recording_proxy(tls, running.local.port) as proxy:
        config = newcomer(running, "wary", url=f"https://127.0.0.1:{proxy.port}")
        done = pleura("client", "join", code, "--config", str(config))
        assert b"".join(proxy.sent()) == b""
    expect_refusal(done, ExitCode.REFUSED, "REJ-CA")


@pytest.mark.parametrize("minutes", [-10, 10])
def test_clock_far_from_the_coordinators_is_refused(running: Federation, minutes: int) -> None:
    name = f"clock{abs(minutes)}{'early' if minutes < 0 else 'late'}"
    shown = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    code = invitation(running, name)
    tls = running.local.server_state / "tls"
    with recording_proxy(tls, running.local.port, with_date(shown)) as proxy:
        config = newcomer(running, name, url=f"https://127.0.0.1:{proxy.port}")
        done = pleura("client", "join", code, "--config", str(config))
    expect_refusal(done, ExitCode.ENVIRONMENT, "HOST-CLOCK", "NTP")


def test_clock_within_bounds_is_accepted_through_the_same_proxy(running: Federation) -> None:
    shown = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    code = invitation(running, "nearly")
    tls = running.local.server_state / "tls"
    with recording_proxy(tls, running.local.port, with_date(shown)) as proxy:
        config = newcomer(running, "nearly", url=f"https://127.0.0.1:{proxy.port}")
        done = pleura("client", "join", code, "--config", str(config))
    assert done.returncode == 0, done.stderr


def test_unknown_key_of_a_site_is_refused_by_name(running: Federation) -> None:
    config = newcomer(running, "typed", extra="min_patientz = 3")
    for words in (("run",), ("join", "PL1-X"), ("status",)):
        done = pleura("client", *words, "--config", str(config))
        expect_refusal(done, ExitCode.CONFIG, "CFG-KEY", "min_patientz")


def test_unknown_key_of_the_coordinator_is_refused_by_name(
    running: Federation, tmp_path: Path
) -> None:
    config = tmp_path / "server.toml"
    text = running.local.server_config.read_text(encoding="utf-8")
    config.write_text(text + "prot = 1\n", encoding="utf-8")
    done = pleura("server", "run", "--config", str(config))
    expect_refusal(done, ExitCode.CONFIG, "CFG-KEY", "prot")


def test_second_coordinator_on_the_same_state_is_refused(running: Federation) -> None:
    done = pleura("server", "run", "--config", str(running.local.server_config))
    assert done.returncode == ExitCode.ENVIRONMENT
    assert "error HOST-LOCK" in done.stderr


def test_second_daemon_on_the_same_state_is_refused(running: Federation) -> None:
    done = pleura("client", "run", "--config", str(running.local.site_config(SITE)))
    assert done.returncode == ExitCode.ENVIRONMENT
    assert "error HOST-LOCK" in done.stderr
    finish_a_study(running)
