"""Rounds of a real Pleura federation on this machine, timed from its own events.

Three sites with a few invented patients, every process, key, signature and byte as
in production. A round lasts from the close of the round before it to its own close,
so nothing between two rounds is left out.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pleura.client.demo.federation import EventTail, LocalFederation, SitePlan, objects_settled
from pleura.client.phantoms.site import PhantomSite, write_site
from pleura.common.files import write_atomic
from tests.benchmarks.process_memory import PeakMemory

SITES = ("alpha", "beta", "gamma")
TASK = "cxr_abnormal"
PATIENTS = 10
LIMIT_S = 900.0
ENDS = frozenset({"run.finished", "run.failed", "run.stopped"})


@dataclass(frozen=True)
class PleuraCase:
    """One kind of round: which network moves, at which picture size."""

    arch: str
    size_px: int


@dataclass
class RoundTimes:
    """Seconds of one round; `job` and `steps` are those of the slowest site.

    `job` is the whole work in the trainer: catalogue, base model read and verified,
    training, update written, signed and made durable. `steps` are the gradient steps alone.
    """

    whole: float
    job: float
    steps: float
    marks: dict[str, float] = field(default_factory=dict)

    @property
    def overhead(self) -> float:
        """The round without the slowest site's job."""
        return self.whole - self.job

    @property
    def overhead_strict(self) -> float:
        """The round without the slowest site's gradient steps; the rest of its job counts."""
        return self.whole - self.steps


class PleuraBench:
    """A coordinator and three sites that stay up for several runs."""

    def __init__(self, root: Path) -> None:
        self.federation = LocalFederation(root / "pleura", federation_id="bench")
        self.memory = PeakMemory()

    def start(self) -> None:
        """Invent patients, start everything and wait until all images are in the stores."""
        self.federation.start_server()
        tails = {}
        for number, name in enumerate(SITES):
            dicom = self.federation.root / "pacs" / name
            site = PhantomSite(
                name=name, look="aurora", patients=PATIENTS, seed=number, task=TASK,
                images_per_patient=(1, 1), size_px=64,
            )  # fmt: skip
            written = write_site(dicom, site)
            self.federation.enrol(
                SitePlan(
                    name, dicom, written.labels_csv, TASK,
                    policy={"min_patients": 1, "allow_non_dp": True},
                    ingest={
                        "accept_unread_text": True, "poll_s": 0.5, "settle_s": 0.1,
                        "reserve_gb": 0.1,
                    },
                )
            )  # fmt: skip
            self.federation.start_site(name)
            tails[name] = (self.federation.site_events(name), written.files)
        for name, (tail, files) in tails.items():
            self._await_objects(name, tail, files)

    def _await_objects(self, name: str, tail: EventTail, files: int) -> None:
        seen, deadline = 0, time.monotonic() + LIMIT_S
        while seen < files:
            self.federation.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} took in {seen} of {files} images")
            for event in tail.new():
                seen += objects_settled(event)
            time.sleep(0.2)

    def run(self, case: PleuraCase, rounds: int) -> tuple[list[RoundTimes], dict[str, int]]:
        """Run one warm-up round and `rounds` more; return their times and the peak memory."""
        server = self.federation.server_events()
        sites = {name: self.federation.site_events(name) for name in SITES}
        for tail in (server, *sites.values()):
            list(tail.new())
        plan = self.federation.root / f"{case.arch}.toml"
        write_atomic(plan, plan_text(case, rounds + 1).encode())
        run_id = self.federation.create_run(plan)
        log: list[dict[str, Any]] = []
        deadline, is_over = time.monotonic() + LIMIT_S, False
        while not is_over:
            self.federation.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError("the run did not end")
            time.sleep(0.5)
            self.memory.look(self.federation.pid("server"))
            for event in server.new():
                log.append(event)
                is_over = is_over or event["event"] in ENDS
        for tail in sites.values():
            log += tail.new()
        if not any(event["event"] == "run.finished" for event in log):
            raise RuntimeError(f"the run ended badly: {log[-1]}")
        return times_of(log, run_id, rounds), self.memory.taken()

    def stop(self) -> None:
        """Stop every process."""
        self.federation.stop()


def plan_text(case: PleuraCase, rounds: int) -> str:
    """Return a plan with as little training as a round can have: one step, one patient."""
    return f"""training_sites = {list(SITES)!r}
seed = 1
[task]
name = "{TASK}"
[model]
arch = "{case.arch}"
[preproc]
modality = "CXR"
size_px = {case.size_px}
[train]
lr = "0.001"
local_steps = 1
batch_patients = 1
images_per_patient = 1
augment = false
[privacy]
mode = "none"
[fed]
rounds = {rounds}
min_sites = {len(SITES)}
deadline_s = 300
[evaluation]
bootstrap = 200
"""


def times_of(log: list[dict[str, Any]], run_id: str, rounds: int) -> list[RoundTimes]:
    """Return the times of rounds 2.. of a run from the events of all processes."""
    by_round: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in sorted((e for e in log if "ts" in e), key=lambda event: str(event["ts"])):
        if event.get("run") == run_id and "round" in event and event.get("kind") != "evaluate":
            by_round[event["round"]].append(event)
    result, before = [], _closed(by_round[1])
    for number in range(2, rounds + 2):
        closed = _closed(by_round[number])
        slowest = max(
            (e for e in by_round[number] if e["event"] == "job.finished"),
            key=lambda event: float(event["seconds"]),
        )
        steps = max(float(e["seconds"]) for e in by_round[number] if e["event"] == "model.trained")
        marks = {}
        for name in MARKS:
            moments = [_moment(e) for e in by_round[number] if e["event"] == name]
            inside = [m for m in moments if m <= closed]
            if inside:
                marks[name] = max(inside) - before
        result.append(RoundTimes(closed - before, float(slowest["seconds"]), steps, marks))
        before = closed
    return result


# in the order in which they happen; of several sites the last one counts
MARKS = (
    "round.opened", "order.sent", "order.received", "job.started",
    "model.trained", "job.finished", "update.received", "update.admitted", "round.closed",
)  # fmt: skip


def _closed(events: list[dict[str, Any]]) -> float:
    return next(_moment(e) for e in events if e["event"] == "round.closed")


def _moment(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(str(event["ts"])).timestamp()
