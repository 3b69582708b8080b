"""Whole federations for tests: phantom hospitals, small plans, and waits on events.

Built on `LocalFederation`, so every process is a real one. Nothing here sleeps for a
fixed time to let something happen: each wait names the event it waits for, is bounded,
and fails with what the processes said last.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pleura.client.demo.federation import EventTail, LocalFederation, SitePlan, objects_settled
from pleura.client.phantoms.looks import LookName
from pleura.client.phantoms.site import PhantomSite, PhantomSummary, write_site

TASK = "cxr_abnormal"
PATIENTS = 40
PATIENCE_S = 240.0  # two shared cores: a start of all processes takes tens of seconds
LOOK_S = 0.05
ENDS = frozenset({"run.finished", "run.failed", "run.stopped"})
_LOOKS: tuple[LookName, ...] = ("aurora", "borealis", "cirrus")
_PROCESS_MARKS: Mapping[str, str] = {
    "gateway": "pleura.server.gateway",
    "superlink": "flower-superlink",
    "superexec": "flower-superexec",
    "serverapp": "flwr-serverapp",
    "agent": "pleura.client.process\0agent",
    "trainer": "pleura.client.process\0trainer",
    "ingest": "pleura.client.process\0ingest",
}


@dataclass(frozen=True, slots=True)
class Hospital:
    """A phantom site on disk: its DICOM, its labels, and what was planted in them."""

    site_id: str
    dicom: Path
    summary: PhantomSummary

    def plan(self, **policy: object) -> SitePlan:
        """Return how its daemon is configured; without privacy unless `policy` says else."""
        return SitePlan(
            site_id=self.site_id,
            watch=self.dicom,
            labels=self.summary.labels_csv,
            task=TASK,
            policy={"min_patients": 10, "allow_non_dp": True, **policy},
            ingest={
                "accept_unread_text": True,
                "poll_s": 0.3,
                "settle_s": 0.1,
                "reserve_gb": 0.05,
            },
        )


def write_hospitals(
    folder: Path, names: Sequence[str], *, patients: int = PATIENTS
) -> tuple[Hospital, ...]:
    """Write one small phantom radiograph site for each name."""
    hospitals = []
    for index, name in enumerate(names):
        site = PhantomSite(
            name=name,
            look=_LOOKS[index % len(_LOOKS)],
            patients=patients,
            seed=7000 + index,
            task=TASK,
            images_per_patient=(1, 1),
            size_px=64,
            conspicuity=2.0,
        )
        hospitals.append(Hospital(name, folder / name, write_site(folder / name, site)))
    return tuple(hospitals)


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """A small study; `text` is its plan file. Without privacy it is reproducible to the bit."""

    training: Sequence[str]
    external: Sequence[str] = ()
    mode: str = "none"
    rounds: int = 2
    local_steps: int = 6
    min_sites: int = 2
    deadline_s: int = 120
    every_rounds: int = 0
    size_px: int = 24
    run_id: str = ""  # the coordinator chooses one if empty

    @property
    def text(self) -> str:
        lr = "0.05" if self.mode == "none" else "0.2"
        named = f'run_id = "{self.run_id}"\n' if self.run_id else ""
        return f"""{named}training_sites = {json.dumps(list(self.training))}
external_sites = {json.dumps(list(self.external))}
seed = 20260107
[task]
name = "{TASK}"
[model]
arch = "tiny_cnn_gn"
[preproc]
modality = "CXR"
size_px = {self.size_px}
[train]
lr = "{lr}"
local_steps = {self.local_steps}
batch_patients = 8
images_per_patient = 1
[privacy]
mode = "{self.mode}"
n_ref = 28
[fed]
rounds = {self.rounds}
min_sites = {self.min_sites}
deadline_s = {self.deadline_s}
norm_bound = "60"
[evaluation]
every_rounds = {self.every_rounds}
bootstrap = 200"""


class Watch:
    """Remembers every event of one party's processes, in the order it was read."""

    def __init__(self, federation: LocalFederation, tail: EventTail) -> None:
        self._federation, self._tail = federation, tail
        self.seen: list[dict[str, Any]] = []

    def refresh(self) -> list[dict[str, Any]]:
        """Read what is new; return everything seen."""
        self.seen.extend(self._tail.new())
        return self.seen

    def find(self, name: str | frozenset[str], **fields: object) -> list[dict[str, Any]]:
        """Return the events of a name (or of several) whose fields have these values."""
        names = {name} if isinstance(name, str) else name
        return [
            event
            for event in self.refresh()
            if event["event"] in names and all(event.get(k) == v for k, v in fields.items())
        ]

    def until(
        self,
        name: str | frozenset[str],
        *,
        count: int = 1,
        timeout_s: float = PATIENCE_S,
        alive: bool = True,
        **fields: object,
    ) -> dict[str, Any]:
        """Wait for the `count`-th such event and return it."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = self.find(name, **fields)
            return len(found) >= count

        wait_until(
            is_there,
            f"event {name} {fields}",
            timeout_s=timeout_s,
            federation=self._federation if alive else None,
            last_words=lambda: self.seen[-12:],
        )
        return found[count - 1]


def wait_until(
    is_so: Callable[[], bool],
    what: str,
    *,
    timeout_s: float = PATIENCE_S,
    federation: LocalFederation | None = None,
    last_words: Callable[[], object] = lambda: "",
) -> None:
    """Return as soon as `is_so`; fail after `timeout_s`, or when a supervisor has ended."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if federation is not None:
            federation.check_alive()
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:.0f} s; last: {last_words()}")
        time.sleep(LOOK_S)


@dataclass
class Federation:
    """A running federation with its hospitals and a watch on every party."""

    local: LocalFederation
    hospitals: Mapping[str, Hospital]
    server: Watch
    sites: dict[str, Watch] = field(default_factory=dict)
    plans: int = 0
    _states: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.local.root

    def join(self, site_id: str, *, start: bool = True, **policy: object) -> None:
        """Enrol a hospital, start it unless told not to, and watch it."""
        self.local.enrol(self.hospitals[site_id].plan(**policy))
        self.sites[site_id] = Watch(self.local, self.local.site_events(site_id))
        if start:
            self.local.start_site(site_id)

    def await_ingest(self, *site_ids: str) -> None:
        """Wait until every object of these sites is stored or quarantined."""
        for site_id in site_ids or tuple(self.sites):
            watch, files = self.sites[site_id], self.hospitals[site_id].summary.files

            def is_all_settled(watch: Watch = watch, files: int = files) -> bool:
                return sum(map(objects_settled, watch.refresh())) >= files

            wait_until(is_all_settled, f"{files} objects of {site_id}", federation=self.local)

    def begin(self, plan: StudyPlan) -> str:
        """Create a run and return its id."""
        self.plans += 1
        path = self.root / f"plan-{self.plans}.toml"
        path.write_text(plan.text, encoding="utf-8")
        first = self.root / "plan-1.safetensors"
        if not first.exists():
            return self.local.create_run(path)
        # all plans share seed and network, hence their first weights
        return self.local.server(
            "runs", "create", "--plan", str(path), "--initial-model", str(first)
        ).strip()

    def await_end(self, run_id: str, *, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait for the end of a run and return the event that says it."""
        return self.server.until(ENDS, run=run_id, timeout_s=timeout_s)

    def state(self, run_id: str) -> dict[str, Any]:
        """Return what `runs show --json` says of a run that has ended; asked once."""
        if run_id not in self._states:
            self._states[run_id] = self.local.run_state(run_id)
        return self._states[run_id]

    def final_digest(self, run_id: str) -> str:
        """Return the tensor digest of an ended run's last model."""
        return str(self.state(run_id)["models"][-1]["tensor_digest"])

    def decisions(self, run_id: str, round_: int, kind: str = "train") -> dict[str, str]:
        """Return what was decided on each site's answer in the last attempt of a round."""
        rounds = self.state(run_id)["rounds"]
        record = [r for r in rounds if r["round"] == round_ and r["kind"] == kind][-1]
        return {a["site_id"]: a["decision"] for a in record["answers"]}


@contextmanager
def federation(
    root: Path, hospitals: Sequence[Hospital], *, join: bool = True, **policy: object
) -> Iterator[Federation]:
    """Start a coordinator and all hospitals, with their objects taken in."""
    with LocalFederation(root / "federation", federation_id="test") as local:
        local.start_server()
        found = Federation(
            local, {h.site_id: h for h in hospitals}, Watch(local, local.server_events())
        )
        if join:
            for hospital in hospitals:
                found.join(hospital.site_id, **policy)
            found.await_ingest()
        yield found


# --- processes ---------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """Return the ids of every living process below `pid`, children first."""
    below: list[int] = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        try:
            children = [int(n) for n in (task / "children").read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in children:
            below += [child, *descendants(child)]
    return below


def process_named(federation: LocalFederation, owner: str, name: str) -> int:
    """Return the id of one process below a supervisor (`server` or a site id)."""
    found: list[int] = []

    def is_there() -> bool:
        mark = _PROCESS_MARKS[name]
        found[:] = [p for p in descendants(federation.pid(owner)) if mark in command_line(p)]
        return bool(found)

    wait_until(is_there, f"process {name} of {owner}")
    return found[0]


def command_line(pid: int) -> str:
    """Return a process's arguments, separated by zero bytes; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def is_living(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] not in "ZX"


def kill(pid: int) -> None:
    """Kill -9 a process and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_living(pid), f"process {pid} dies", timeout_s=10)


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Keep a process from running while the block runs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if is_living(pid):
            os.kill(pid, signal.SIGCONT)


def processes_of(root: Path) -> list[int]:
    """Return every living process whose command line or environment names `root`."""
    needle = os.fsencode(str(root))
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            said = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
        except OSError:
            continue
        if needle in said and is_living(int(entry.name)):
            found.append(int(entry.name))
    return found
