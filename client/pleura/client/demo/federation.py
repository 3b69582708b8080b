"""A whole federation on one machine: the real commands, as real processes, with real TLS.

`LocalFederation` does what the lead and the hospitals' IT would do by hand, by
running `pleura` itself, so the demo, the studies and the end-to-end tests take
the same path as a user. Nothing here reaches into another process.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pleura.client.errors import DemoStepFailed
from pleura.common.files import ensure_private_folder, write_atomic
from pleura.common.supervision import die_with_parent

PLEURA: Final = (sys.executable, "-m", "pleura.common.cli")
STOP_GRACE_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class SitePlan:
    """One hospital of a local federation; `policy` and `ingest` are its TOML sections."""

    site_id: str
    watch: Path
    labels: Path
    task: str
    policy: Mapping[str, object] = field(default_factory=dict)
    ingest: Mapping[str, object] = field(default_factory=dict)


class LocalFederation:
    """Coordinator and sites under one folder; a context manager that always stops them."""

    def __init__(self, root: Path, *, federation_id: str = "local") -> None:
        self.root = root
        self.sites: list[SitePlan] = []
        self.federation_id = federation_id
        self.port, self.superlink_port = _free_port(), _free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        ensure_private_folder(root)

    def __enter__(self) -> LocalFederation:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- where things are -------------------------------------------------------

    @property
    def server_config(self) -> Path:
        return self.root / "server.toml"

    @property
    def server_state(self) -> Path:
        return self.root / "server"

    def site_config(self, site_id: str) -> Path:
        return self.root / f"{site_id}.toml"

    def site_state(self, site_id: str) -> Path:
        return self.root / site_id

    # --- what a person would do -------------------------------------------------

    def start_server(self) -> None:
        """Write `server.toml`, make the coordinator's keys and start it."""
        lines = [
            f'federation_id = "{self.federation_id}"',
            'state_dir = "server"',
            f"port = {self.port}",
            f'public_url = "https://127.0.0.1:{self.port}"',
            f"superlink_port = {self.superlink_port}",
        ]
        write_atomic(self.server_config, ("\n".join(lines) + "\n").encode())
        if not self.server_state.exists():
            self.server("init")
        self.run_server()

    def run_server(self) -> None:
        """Start `pleura server run` and wait until its port answers."""
        self._start("server", "server", "run", "--config", str(self.server_config))
        self._wait("coordinator", lambda: _answers(self.port))

    def enrol(self, site: SitePlan) -> None:
        """Invite, join and approve one site, then import its labels."""
        self.sites.append(site)
        self._write_site_config(site)
        code = self.server("sites", "invite", site.site_id).strip()
        self.client(site.site_id, "join", code)
        self.server("sites", "approve", site.site_id)
        self.client(site.site_id, "labels", "import", str(site.labels), "--task", site.task)

    def start_site(self, site_id: str) -> None:
        """Start `pleura client run` of one site."""
        self._start(site_id, "client", "run", "--config", str(self.site_config(site_id)))

    def create_run(self, plan: Path) -> str:
        """Make the initial model at a site that has torch, create the run, return its id."""
        model = plan.with_suffix(".safetensors")
        self._command("client", "init-model", "--plan", str(plan), "--out", str(model))
        return self.server(
            "runs", "create", "--plan", str(plan), "--initial-model", str(model)
        ).strip()

    def write_report(self, run_id: str, out: Path) -> Path:
        """Write the report page of a run and return its path."""
        self.server("runs", "report", run_id, "--out", str(out))
        return out / "index.html"

    def run_state(self, run_id: str) -> dict[str, Any]:
        """Return what `runs show --json` says."""
        shown: dict[str, Any] = json.loads(self.server("runs", "show", run_id, "--json"))
        return shown

    def server(self, *words: str) -> str:
        """Run `pleura server ...` and return its standard output."""
        return self._command("server", *words, "--config", str(self.server_config))

    def client(self, site_id: str, *words: str) -> str:
        """Run `pleura client ...` for a site and return its standard output."""
        return self._command("client", *words, "--config", str(self.site_config(site_id)))

    # --- watching ----------------------------------------------------------------

    def server_events(self) -> EventTail:
        """Return a tail of everything the coordinator's processes say."""
        return EventTail(self.server_state / "log")

    def site_events(self, site_id: str) -> EventTail:
        """Return a tail of everything one site's processes say."""
        return EventTail(self.site_state(site_id) / "log")

    def check_alive(self) -> None:
        """Raise if a supervisor has ended.

        Raises:
            DemoStepFailed: names the process; its last words were on standard error.
        """
        for name, process in self._processes.items():
            if (status := process.poll()) is not None:
                raise DemoStepFailed(f"{name} ended with status {status}: {self._last_words(name)}")

    def pid(self, name: str) -> int:
        """Return the process id of a supervisor (`server` or a site id)."""
        return self._processes[name].pid

    # --- stopping ----------------------------------------------------------------

    def stop(self) -> None:
        """Stop every supervisor, and with it its children."""
        running = [p for p in self._processes.values() if p.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE_S
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def stop_one(self, name: str) -> None:
        """Stop one supervisor cleanly."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_GRACE_S)

    # --- inside --------------------------------------------------------------------

    def _write_site_config(self, site: SitePlan) -> None:
        policy = {"tasks": [site.task], **site.policy}
        ingest = {"watch": [str(site.watch.resolve())], **site.ingest}
        text = (
            f'site_id = "{site.site_id}"\nstate_dir = "{site.site_id}"\n'
            f'[coordinator]\nurl = "https://127.0.0.1:{self.port}"\n'
            f'federation_id = "{self.federation_id}"\nca_file = "server/tls/ca.pem"\n'
            f"[policy]\n{_toml(policy)}[ingest]\n{_toml(ingest)}"
        )
        write_atomic(self.site_config(site.site_id), text.encode())

    def _command(self, *words: str) -> str:
        done = subprocess.run(
            [*PLEURA, *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            raise DemoStepFailed(
                f"pleura {' '.join(words[:3])} ended with {done.returncode}: {done.stderr.strip()}"
            )
        return done.stdout

    def _start(self, name: str, *words: str) -> None:
        output = (self.root / f"{name}.out").open("ab")
        try:
            self._processes[name] = subprocess.Popen(
                [*PLEURA, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        finally:
            output.close()

    def _wait(self, what: str, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            self.check_alive()
            if time.monotonic() > deadline:
                raise DemoStepFailed(f"{what} did not become ready in {seconds:.0f} s")
            time.sleep(0.1)

    def _last_words(self, name: str) -> str:
        text = (self.root / f"{name}.out").read_text(encoding="utf-8", errors="replace")
        return text.strip()[-600:]


class EventTail:
    """Reads the JSON lines that were added to a log folder since the last look."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield events not seen yet, file by file."""
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            for line in whole.splitlines():
                yield json.loads(line)


def objects_settled(event: Mapping[str, Any]) -> int:
    """Return how many objects an event puts into catalog or quarantine for good.

    `object.accepted` does not count: it comes before the catalog has the row.
    """
    if event["event"] == "study.ingested":
        return int(event["count"])
    return 1 if event["event"] == "object.quarantined" else 0


def _toml(table: Mapping[str, object]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
