"""The Flower bundle: names only, the same bytes each time, and the hash sites insist on."""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from pleura.common.bundle import BUNDLE_FILE, BUNDLE_PYPROJECT, FAB_SHA256
from pleura.common.ids import RunId
from pleura.server.errors import FlowerCallFailed
from pleura.server.settings import CONFIG_ENV, ServerSettings
from pleura.server.superlink import (
    flower_environment,
    prepare,
    submit_argv,
    submitted_run,
    superlink_argv,
)

# Flower 1.42 still asks pathspec for the old name of this pattern
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")

DEPLOYED = Path(__file__).parents[3] / "deploy" / "flower_app" / BUNDLE_FILE


def settings_of(folder: Path) -> ServerSettings:
    return ServerSettings(federation_id="fed-test", state_dir=folder / "state", superlink_port=9099)


def test_the_bundle_built_twice_has_the_pinned_hash(tmp_path: Path) -> None:
    hashes = set()
    for name in ("one", "two"):
        settings = settings_of(tmp_path / name)
        prepare(settings)
        fab = build_fab_from_disk(settings.flower_app_dir)
        hashes.add(hashlib.sha256(fab).hexdigest())
    assert hashes == {FAB_SHA256}


def test_the_bundle_holds_its_description_and_nothing_else(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    prepare(settings)
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(settings.flower_app_dir))) as fab:
        assert fab.namelist() == [BUNDLE_FILE, ".info/CONTENT"]


def test_the_deployed_bundle_text_is_the_installed_one() -> None:
    assert DEPLOYED.read_text(encoding="utf-8") == BUNDLE_PYPROJECT


def test_the_bundle_names_only_the_two_installed_apps() -> None:
    parsed = tomllib.loads(BUNDLE_PYPROJECT)
    assert parsed["tool"]["flwr"]["app"]["components"] == {
        "serverapp": "pleura.server.flower_app:app",
        "clientapp": "pleura.client.flower_app:app",
    }


def test_the_superlink_listens_on_loopback_and_installs_nothing(tmp_path: Path) -> None:
    argv = superlink_argv(settings_of(tmp_path))
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    assert argv[argv.index("--port") + 1] == "9099"
    assert "--disable-runtime-dependency-installation" in argv
    assert "--database" not in argv  # its state is disposable and stays in memory


def test_flower_is_told_not_to_phone_home(tmp_path: Path) -> None:
    environment = flower_environment(settings_of(tmp_path), tmp_path / "server.toml")
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_HOME"].startswith(str(tmp_path))
    assert environment[CONFIG_ENV] == str((tmp_path / "server.toml").resolve())


def test_a_submission_names_the_run_and_the_prepared_bundle(tmp_path: Path) -> None:
    argv = submit_argv(settings_of(tmp_path), RunId("run-a"))
    assert argv[2] == str((tmp_path / "state" / "flower_app").resolve())
    assert argv[argv.index("--run-config") + 1] == 'pleura-run="run-a"'


def test_the_flower_run_id_is_read_from_the_answer() -> None:
    assert submitted_run(0, b'{"success": true, "run-id": "516"}') == 516


@pytest.mark.parametrize(
    ("status", "output"),
    [
        (1, b'{"success": true, "run-id": "516"}'),
        (0, b'{"success": false, "run-id": null}'),
        (0, b"Traceback"),
        (0, b"[]"),
        (0, b"{}"),
    ],
)
def test_any_other_answer_of_flwr_run_is_a_named_failure(status: int, output: bytes) -> None:
    with pytest.raises(FlowerCallFailed):
        submitted_run(status, output)
