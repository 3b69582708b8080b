"""The SuperLink process: how it is started, and how a Flower run is submitted to it.

The SuperLink listens on loopback only; its control and runtime interfaces answer
anyone who reaches them. Calls go through the documented commands `flower-superlink`
and `flwr run`; telemetry, update check and dependency installation are off, and
Flower's home is inside the state folder, so nothing is read from or sent elsewhere. Its own
state is in memory: a Flower run does not survive its SuperLink in any case, ours
goes on in a new one, sites register again, and a round costs half the CPU.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from pleura.common.bundle import BUNDLE_FILE, BUNDLE_PYPROJECT
from pleura.common.files import ensure_private_folder, write_atomic
from pleura.common.ids import RunId
from pleura.common.supervision import child_commands
from pleura.server.errors import FlowerCallFailed
from pleura.server.settings import CONFIG_ENV, ServerSettings

CONNECTION: Final = "pleura"
HOST: Final = "127.0.0.1"
EXECUTOR: Final = b"flower-superexec"
TASK_POLL_S: Final = "0.2"  # each poll costs the SuperLink 6 ms of CPU


def command(name: str) -> str:
    """Return the path of a command installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


def superlink_argv(settings: ServerSettings) -> list[str]:
    """Return the command line of the SuperLink."""
    return [
        command("flower-superlink"),
        "--insecure",  # loopback; TLS ends at the gateway
        "--host",
        HOST,
        "--port",
        str(settings.superlink_port),
        "--isolation",
        "subprocess",
        "--disable-runtime-dependency-installation",
    ]


def flower_environment(settings: ServerSettings, config: Path) -> dict[str, str]:
    """Return the variables that SuperLink, ServerApp and `flwr` need besides PATH."""
    here = str(Path(sys.executable).parent)
    return {
        "PATH": os.pathsep.join([here, os.environ.get("PATH", os.defpath)]),
        "FLWR_HOME": str(settings.flower_home_dir.resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": TASK_POLL_S,
        CONFIG_ENV: str(config.resolve()),
    }


def is_listening(settings: ServerSettings) -> bool:
    """Say whether something answers on the SuperLink's port now."""
    try:
        socket.create_connection((HOST, settings.superlink_port), timeout=0.2).close()
    except OSError:
        return False
    return True


def has_executor(pid: int) -> bool:
    """Say whether the SuperLink `pid` has its SuperExec, without which it starts nothing."""
    return any(EXECUTOR in command for command in child_commands(pid))


def prepare(settings: ServerSettings) -> None:
    """Write Flower's connection settings and the bundle's source into the state folder."""
    ensure_private_folder(settings.flower_home_dir)
    ensure_private_folder(settings.flower_app_dir)
    connection = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "{HOST}:{settings.superlink_port}"\ninsecure = true\n'
    )
    write_atomic(settings.flower_home_dir / "config.toml", connection.encode())
    write_atomic(settings.flower_app_dir / BUNDLE_FILE, BUNDLE_PYPROJECT.encode())


def submit_argv(settings: ServerSettings, run_id: RunId) -> list[str]:
    """Return the command line that submits a Flower run for a run of ours."""
    return [
        command("flwr"),
        "run",
        str(settings.flower_app_dir.resolve()),
        CONNECTION,
        "--run-config",
        f'pleura-run="{run_id}"',
        "--format",
        "json",
    ]


def start_submission(
    settings: ServerSettings, config: Path, run_id: RunId
) -> subprocess.Popen[bytes]:
    """Start `flwr run` for a run without waiting for it; read it with `submitted_run`."""
    return subprocess.Popen(
        submit_argv(settings, run_id),
        env={**os.environ, **flower_environment(settings, config)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def submitted_run(status: int, output: bytes) -> int:
    """Return the Flower run id that an ended `flwr run --format json` reports.

    Raises:
        FlowerCallFailed: the command failed or its output is not the known shape.
    """
    try:
        report = json.loads(output)
        if status == 0 and report["success"]:
            return int(report["run-id"])
    except (ValueError, KeyError, TypeError) as exc:
        raise FlowerCallFailed("flwr run: unreadable answer") from exc
    raise FlowerCallFailed(f"flwr run ended with {status}")


def submit_run(settings: ServerSettings, config: Path, run_id: RunId, timeout_s: float = 60) -> int:
    """Submit a Flower run for a run of ours and return Flower's id of it.

    Raises:
        FlowerCallFailed: the SuperLink refused or missed the call.
    """
    process = start_submission(settings, config, run_id)
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as exc:
        process.kill()
        process.communicate()
        raise FlowerCallFailed("flwr run: no answer") from exc
    return submitted_run(process.returncode, output)
