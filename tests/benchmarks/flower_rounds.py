"""Rounds of plain Flower 1.42 on this machine: real SuperLink, real SuperNodes, TLS.

Nothing is tuned and nothing is taken away: FedAvg and its loop as shipped, a state
file as a coordinator would have, the same TLS certificate as Pleura's gateway.
SuperNode authentication is off, which spares Flower one signature a request.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.process_memory import PeakMemory
from tests.builders.coordinator import free_port

SITES = 3
LIMIT_S = 1800.0
PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "plain-rounds"
version = "1.0.0"
description = "Rounds of plain Flower."
license = "Apache-2.0"
dependencies = ["flwr>=1.42,<1.43"]

[tool.flwr.app]
publisher = "bench"

[tool.flwr.app.components]
serverapp = "plain_flower_app:server"
clientapp = "plain_flower_app:client"

[tool.flwr.app.config]
order = ""
"""


@dataclass(frozen=True)
class Tls:
    """Certificate files of the SuperLink."""

    ca: Path
    cert: Path
    key: Path


class FlowerBench:
    """A SuperLink and three SuperNodes that stay up for several runs."""

    def __init__(self, root: Path, tls: Tls) -> None:
        self.root, self.tls = root / "flower", tls
        self.root.mkdir(mode=0o700)
        self.port = free_port()
        self.memory = PeakMemory()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(self.root / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "OMP_NUM_THREADS": "1",
        }

    def start(self) -> None:
        """Start all processes and write the app and the connection settings."""
        app, home = self.root / "app", self.root / "home"
        app.mkdir()
        home.mkdir(mode=0o700)
        (app / "pyproject.toml").write_text(PYPROJECT)
        shutil.copy(Path(__file__).with_name("plain_flower_app.py"), app)
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "bench"\n\n[superlink.bench]\n'
            f'address = "127.0.0.1:{self.port}"\nroot-certificates = "{self.tls.ca.resolve()}"\n'
        )
        self._start(
            "superlink", "flower-superlink", "--host", "127.0.0.1", "--port", str(self.port),
            "--ssl-ca-certfile", str(self.tls.ca), "--ssl-certfile", str(self.tls.cert),
            "--ssl-keyfile", str(self.tls.key), "--database", str(self.root / "flower.db"),
            "--disable-runtime-dependency-installation",
        )  # fmt: skip
        self._await_port()
        for number in range(SITES):
            self._start(
                f"node-{number}", "flower-supernode", "--superlink", f"127.0.0.1:{self.port}",
                "--root-certificates", str(self.tls.ca), "--port", str(free_port()),
            )  # fmt: skip

    def run(
        self, name: str, shapes: Sequence[Sequence[int]], rounds: int, *, warm_up: int = 1
    ) -> tuple[list[float], dict[str, int]]:
        """Run `warm_up` and `rounds` more rounds; return their seconds and the peak memory.

        The arrays of `shapes` travel as one array each.
        """
        out, order = self.root / f"{name}.seconds", self.root / f"{name}.json"
        order.write_text(
            json.dumps(
                {
                    "shapes": [list(shape) for shape in shapes],
                    "sites": SITES,
                    "rounds": rounds + warm_up,
                    "out": str(out.resolve()),
                }
            )
        )
        self._submit(order)
        deadline = time.monotonic() + LIMIT_S
        while not out.exists():
            if any(process.poll() is not None for process in self._processes):
                raise RuntimeError("a Flower process ended")
            if time.monotonic() > deadline:
                raise TimeoutError("the Flower run did not end")
            time.sleep(0.5)
            self.memory.look(self._processes[0].pid)
        return json.loads(out.read_text())[warm_up:], self.memory.taken()

    def _await_port(self) -> None:
        deadline = time.monotonic() + 120.0
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def _submit(self, order: Path) -> None:
        words = [
            _command("flwr"), "run", str((self.root / "app").resolve()), "bench",
            "--run-config", f'order="{order.resolve()}"', "--format", "json",
        ]  # fmt: skip
        done = subprocess.run(
            words, env=self._env, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != 0 or not json.loads(done.stdout)["success"]:
            raise RuntimeError(f"flwr run failed: {done.stdout} {done.stderr}")

    def stop(self) -> None:
        """Stop every process and its children."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _start(self, name: str, *words: str) -> None:
        with (self.root / f"{name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [_command(words[0]), *words[1:]],
                    env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )
            )  # fmt: skip


def _command(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
