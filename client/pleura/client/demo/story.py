"""The demo, step by step, with its progress on the terminal.

Every step is one a person would take; the terminal shows what happens while it
happens, read from the event logs of the processes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pleura.client.demo.federation import EventTail, LocalFederation, objects_settled
from pleura.client.demo.plan import DemoSite, plan_toml, site_plan
from pleura.client.errors import DemoStepFailed
from pleura.client.phantoms.site import PhantomSite, write_site
from pleura.common.files import write_atomic
from pleura.common.orders import TaskName

INGEST_LIMIT_S = 3600.0
QUIET_LIMIT_S = 900.0
ENDS = {"run.finished", "run.failed", "run.stopped"}


class Story:
    """Tells and does one demo study."""

    def __init__(self, console: Console, federation: LocalFederation, task: TaskName) -> None:
        self._console, self._federation, self._task = console, federation, task

    def tell(self, sites: tuple[DemoSite, ...], *, rounds: int, out: Path) -> Path:
        """Run the whole study and return the path of its report page.

        Raises:
            DemoStepFailed: a step failed; it is named.
        """
        patients = self._invent(sites)
        self._step("coordinator", "starting with its own CA, TLS and signing key")
        self._federation.start_server()
        self._enrol(sites)
        self._ingest(sites)
        plan = self._federation.root / "plan.toml"
        text = plan_toml(self._task, sites, rounds=rounds, n_ref=patients)
        write_atomic(plan, text.encode())
        events = self._federation.server_events()
        run_id = self._federation.create_run(plan)
        self._step("study", f"run {run_id}: patient-level differential privacy, epsilon 8")
        self._follow(events, rounds)
        self._step("report", "drawing the page from signed statements")
        return self._federation.write_report(run_id, out)

    def _invent(self, sites: tuple[DemoSite, ...]) -> int:
        phantoms = [(s.dicom, s.phantom) for s in sites if s.phantom is not None]
        if not phantoms:
            return 100
        files = 0
        with self._bar("inventing patients", len(phantoms)) as advance, _pool() as pool:
            for count in pool.map(_write, phantoms):
                files += count
                advance()
        self._step("patients", f"{files} DICOM files with planted names, ids, dates and addresses")
        return phantoms[0][1].patients * 7 // 10  # the training share, a public number here

    def _enrol(self, sites: tuple[DemoSite, ...]) -> None:
        with self._bar("enrolling hospitals", len(sites)) as advance:
            for site in sites:
                self._federation.enrol(site_plan(site, self._task))
                self._federation.start_site(site.site_id)
                advance()
        self._step("hospitals", ", ".join(s.site_id for s in sites) + " joined with one-time codes")

    def _ingest(self, sites: tuple[DemoSite, ...]) -> None:
        expected = {s.site_id: sum(1 for p in s.dicom.rglob("*") if p.is_file()) for s in sites}
        tails = {s.site_id: self._federation.site_events(s.site_id) for s in sites}
        done = dict.fromkeys(expected, 0)
        quarantined = 0
        deadline = time.monotonic() + INGEST_LIMIT_S
        with self._bar("de-identifying", sum(expected.values())) as advance:
            while any(done[name] < expected[name] for name in expected):
                self._federation.check_alive()
                if time.monotonic() > deadline:
                    raise DemoStepFailed("de-identification did not finish")
                for name, tail in tails.items():
                    for event in tail.new():
                        done[name] += (settled := objects_settled(event))
                        quarantined += event["event"] == "object.quarantined"
                        advance(settled)
                time.sleep(0.2)
        total = sum(done.values())
        self._step(
            "de-identified", f"{total - quarantined} objects stored, {quarantined} quarantined"
        )

    def _follow(self, events: EventTail, rounds: int) -> None:
        quiet_since = time.monotonic()
        with self._bar("training rounds", rounds) as advance:
            while True:
                self._federation.check_alive()
                for event in events.new():
                    quiet_since = time.monotonic()
                    if event["event"] == "round.closed":
                        advance()
                    self._narrate(event)
                    if event["event"] in ENDS:
                        if event["event"] != "run.finished":
                            raise DemoStepFailed(f"the run ended: {event.get('code', 'stopped')}")
                        return
                if time.monotonic() - quiet_since > QUIET_LIMIT_S:
                    raise DemoStepFailed("the coordinator has been silent for 15 minutes")
                time.sleep(0.2)

    def _narrate(self, event: dict[str, object]) -> None:
        name, site = event["event"], event.get("site", "")
        if name == "update.admitted":
            self._step(
                f"round {event['round']}", f"{site}: signed update {event['digest']} admitted"
            )
        elif name in ("update.refused", "site.absent"):
            self._step(f"round {event['round']}", f"[red]{site}: {event.get('code', 'absent')}[/]")
        elif name == "evaluation.admitted":
            self._step("validation", f"{site}: metrics with intervals came back, nothing else")

    def _step(self, title: str, text: str) -> None:
        self._console.print(f"[bold green]✓[/] [bold]{title:>14}[/]  {text}", highlight=False)

    @contextmanager
    def _bar(self, title: str, total: int) -> Iterator[_Advance]:
        columns = (
            TextColumn("  [cyan]{task.description:>20}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            yield _Advance(progress, total, title)


class _Advance:
    def __init__(self, progress: Progress, total: int, title: str) -> None:
        self._progress, self._task = progress, progress.add_task(title, total=total)

    def __call__(self, steps: int = 1) -> None:
        self._progress.advance(self._task, steps)


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(max_workers=2)


def _write(job: tuple[Path, PhantomSite]) -> int:
    return write_site(*job).files
