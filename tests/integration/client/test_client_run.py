"""`pleura client run` and its sister commands, as an operator starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pleura.client.agent.trainer_link import TrainerLink
from pleura.client.cli import app
from pleura.client.enrol import join
from pleura.client.errors import NotEnrolled, TrainerUnreachable
from pleura.client.process import run_process
from pleura.client.supervisor import children, require_enrolled, single_instance
from pleura.common.clock import SystemClock
from pleura.common.errors import AlreadyRunning
from pleura.common.exit_codes import ExitCode
from pleura.common.ids import SiteId
from pleura.common.keys import load_key
from pleura.common.tensors import PackedReader
from tests.builders.coordinator import FEDERATION, RunningGateway, running_gateway
from tests.builders.trainer_server import answered, short_folder
from tests.builders.trainer_site import TrainerSite, trainer_site

PLEURA = Path(sys.executable).with_name("pleura")


@dataclass(frozen=True)
class Scene:
    site: TrainerSite
    gateway: RunningGateway
    folder: Path

    @property
    def config(self) -> str:
        return str(self.site.config)

    def events(self, process: str) -> list[dict[str, object]]:
        path = self.site.settings.log_dir / f"{process}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def scene() -> Iterator[Scene]:
    with short_folder() as folder, running_gateway(folder / "c") as gateway:
        section = {
            "url": gateway.url,
            "federation_id": FEDERATION,
            "ca_file": gateway.settings.ca_file,
        }
        site = trainer_site(
            folder,
            coordinator=load_key(gateway.settings.signing_key_file),
            coordinator_section=section,
            federation_id=FEDERATION,
        )
        yield Scene(site, gateway, folder)


def enrolled(scene: Scene) -> None:
    join(scene.site.settings, scene.gateway.invite("north"), SystemClock())
    scene.gateway.registry.approve(SiteId("north"))


def start(scene: Scene) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(PLEURA), "client", "run", "--config", scene.config],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def await_trainer(scene: Scene, process: subprocess.Popen[str]) -> TrainerLink:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        if scene.site.settings.trainer_socket.exists():
            link = TrainerLink(scene.site.settings.trainer_socket)
            try:
                link.status(timeout_s=2)
            except TrainerUnreachable:
                link.close()
            else:
                return link
        time.sleep(0.1)
    raise AssertionError("the trainer did not start")


def test_a_site_runs_works_survives_a_killed_trainer_and_stops_cleanly(scene: Scene) -> None:
    enrolled(scene)
    process = start(scene)
    try:
        with await_trainer(scene, process) as link:
            envelope = scene.site.signed(scene.site.train_order())
            answer = answered(link, envelope, scene.site.base_file)
            assert answer.blob_size > 0
        started = [e for e in scene.events("supervisor") if e["event"] == "process.started"]
        pids = {str(e["process"]): int(str(e["pid"])) for e in started}
        assert set(pids) == {"trainer", "ingest", "agent"}

        second = subprocess.run(
            [str(PLEURA), "client", "run", "--config", scene.config],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert second.returncode == ExitCode.ENVIRONMENT
        assert "HOST-LOCK" in second.stderr

        os.kill(pids["trainer"], signal.SIGKILL)
        time.sleep(0.5)
        with await_trainer(scene, process) as link:
            assert link.submit(envelope) == answer
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "sandboxed" in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())


def test_a_site_that_has_not_joined_does_not_start(scene: Scene) -> None:
    ended = subprocess.run(
        [str(PLEURA), "client", "run", "--config", scene.config],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == ExitCode.CONFIG
    assert "CFG-ENROL" in ended.stderr
    assert not scene.site.settings.log_dir.exists()
    with pytest.raises(NotEnrolled):
        require_enrolled(scene.site.settings)


def test_an_open_state_folder_is_refused(scene: Scene) -> None:
    enrolled(scene)
    scene.site.settings.state_dir.chmod(0o750)
    ended = subprocess.run(
        [str(PLEURA), "client", "run", "--config", scene.config],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == ExitCode.ENVIRONMENT
    assert "HOST-MODE" in ended.stderr


def test_the_lock_admits_one_at_a_time(tmp_path: Path) -> None:
    with (
        single_instance(tmp_path / "lock"),
        pytest.raises(AlreadyRunning),
        single_instance(tmp_path / "lock"),
    ):
        pass
    with single_instance(tmp_path / "lock"):
        pass


def test_every_child_is_kept_from_calling_home(tmp_path: Path) -> None:
    for child in children(tmp_path / "site.toml", tmp_path):
        assert child.env["FLWR_TELEMETRY_ENABLED"] == "0"
        assert child.env["FLWR_DISABLE_UPDATE_CHECK"] == "1"


def test_a_process_that_cannot_read_its_settings_ends_with_its_code(tmp_path: Path) -> None:
    assert run_process("agent", tmp_path / "absent.toml") is ExitCode.CONFIG


# --- the other commands --------------------------------------------------------------


def test_join_prints_the_key_id_and_pins_the_coordinator(scene: Scene) -> None:
    done = CliRunner().invoke(
        app, ["join", scene.gateway.invite("north"), "--config", scene.config]
    )
    assert done.exit_code == 0
    assert done.stdout.strip() == scene.site.site_key.public.key_id
    pinned = scene.site.settings.coordinator_key_file.read_text()
    assert pinned.strip() == scene.site.coordinator.public.to_b64()


def test_join_with_a_wrong_code_says_what_to_do(scene: Scene) -> None:
    done = CliRunner().invoke(app, ["join", "PL1-NO", "--config", scene.config])
    assert done.exit_code != 0
    assert "what to do" in done.stderr


def test_retired_keys_are_set_aside_only_with_yes(scene: Scene) -> None:
    kept = scene.site.settings.site_key_file
    before = load_key(kept).public
    asked = CliRunner().invoke(app, ["retire-keys", "--config", scene.config])
    assert asked.exit_code == ExitCode.USAGE
    assert load_key(kept).public == before
    done = CliRunner().invoke(app, ["retire-keys", "--config", scene.config, "--yes"])
    assert done.exit_code == ExitCode.OK
    assert not kept.exists()
    assert load_key(kept.with_name("site.key.retired0")).public == before


def test_status_is_data_on_standard_output(scene: Scene) -> None:
    done = CliRunner().invoke(app, ["status", "--json", "--config", scene.config])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["site"], found["trainer"], found["patients"]) == ("north", "stopped", 12)
    assert CliRunner().invoke(app, ["status", "--config", scene.config]).exit_code == 0


def test_doctor_passes_for_an_approved_site_and_names_what_is_missing_before(
    scene: Scene,
) -> None:
    before = CliRunner().invoke(app, ["doctor", "--json", "--config", scene.config])
    assert before.exit_code == ExitCode.INCOMPLETE
    failed = {row["check"]: row for row in json.loads(before.stdout) if not row["passed"]}
    assert set(failed) == {"key files", "coordinator answers and approves"}
    assert all(row["fix"] for row in failed.values())
    enrolled(scene)
    after = CliRunner().invoke(app, ["doctor", "--json", "--config", scene.config])
    rows = json.loads(after.stdout)
    assert [row for row in rows if not row["passed"]] == []
    assert after.exit_code == 0


def test_doctor_that_cannot_read_the_settings_exits_with_4(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", "--config", str(tmp_path / "absent.toml")])
    assert done.exit_code == ExitCode.ENVIRONMENT


def test_the_config_may_come_from_the_environment(scene: Scene) -> None:
    done = CliRunner().invoke(app, ["status", "--json"], env={"PLEURA_SITE_CONFIG": scene.config})
    assert done.exit_code == 0


def test_init_model_writes_the_same_bytes_for_the_same_plan(scene: Scene, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN, encoding="utf-8")
    refs = []
    for name in ("one.bin", "two.bin"):
        done = CliRunner().invoke(
            app, ["init-model", "--plan", str(plan), "--out", str(tmp_path / name)]
        )
        assert done.exit_code == 0, done.stderr
        refs.append(json.loads(done.stdout))
    assert refs[0] == refs[1]
    found = PackedReader(tmp_path / "one.bin").verify()
    assert found.model_dump(mode="json") == refs[0]


def test_labels_are_imported_or_refused_by_line(scene: Scene, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("accession,label\nA1,1\nA2,0\n", encoding="utf-8")
    bad.write_text("accession,label\nA1,7\n", encoding="utf-8")
    arguments = ["--task", "ct_nodule_malignancy", "--config", scene.config]
    done = CliRunner().invoke(app, ["labels", "import", str(good), *arguments])
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "rows 2, matched 0, unmatched 2\n"
    refused = CliRunner().invoke(app, ["labels", "import", str(bad), *arguments])
    assert refused.exit_code == ExitCode.INCOMPLETE
    assert "DATA-CSV" in refused.stderr


def test_ingest_of_an_empty_watch_list_takes_nothing_in(scene: Scene) -> None:
    done = CliRunner().invoke(app, ["ingest", "--json", "--config", scene.config])
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["found"], told["left_out"]) == (0, 0)


PLAN = """
federation_id = "lungs"
run_id = "run-1"
training_sites = ["north"]
seed = 7
[task]
name = "ct_nodule_malignancy"
[model]
arch = "tiny_cnn_gn"
in_channels = 2
[preproc]
modality = "CT"
size_px = 16
slices = 2
[train]
lr = "0.01"
local_steps = 2
batch_patients = 4
[privacy]
mode = "none"
[fed]
rounds = 1
min_sites = 1
"""
