"""Runs one study over research images as a consortium would: real processes, DICOM to report.

A site is a folder of DICOM with planted identifiers and a labels CSV. It enrols,
takes every object in through de-identification, and answers signed orders; what a
study knows afterwards is what the coordinator's report knows. Only `final_model`
and `site_cohort` reach behind that, for the offline comparison of the test tool.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pleura.client.data.cohort import Cohort, Split
from pleura.client.data.splits import SPLIT_SEED
from pleura.client.demo.federation import EventTail, LocalFederation, SitePlan
from pleura.client.errors import CatalogMissing
from pleura.client.ingest.catalog import Catalog
from pleura.client.ingest.vault import open_pseudonym_key
from pleura.client.settings import load_settings as load_site_settings
from pleura.common.blobs import BlobStore
from pleura.common.ids import parse_run_id
from pleura.common.orders import BlobRef, RunPlan, TaskName
from pleura.server.creating import read_plan
from pleura.server.reports.load import load_study
from pleura.server.reports.study import StudyResult
from pleura.server.settings import load_settings as load_server_settings
from tests.builders.research_images import BridgeSummary

INGEST_LIMIT_S = 3600.0
QUIET_LIMIT_S = 1500.0
LOOK_S = 0.5
ENDS = frozenset({"run.finished", "run.failed", "run.stopped"})


@dataclass(frozen=True, slots=True)
class ResearchSite:
    """One hospital of a study: what was written for it and how its daemon is configured."""

    site_id: str
    dicom: Path
    summary: BridgeSummary
    policy: Mapping[str, object] = field(default_factory=dict)
    accept_unread_text: bool = False

    def plan(self, task: TaskName) -> SitePlan:
        """Return the site's configuration; its steward allows runs without privacy."""
        return SitePlan(
            site_id=self.site_id,
            watch=self.dicom,
            labels=self.summary.labels_csv,
            task=task,
            policy={"min_patients": 20, "epsilon_cap": "8", "allow_non_dp": True, **self.policy},
            ingest={
                "accept_unread_text": self.accept_unread_text,
                "poll_s": 2.0,
                "settle_s": 0.5,
                "reserve_gb": 0.2,
            },
        )


@dataclass(frozen=True, slots=True)
class Consortium:
    """A running federation whose sites have taken in all their images."""

    local: LocalFederation
    sites: tuple[ResearchSite, ...]
    quarantined: Mapping[str, int]

    def run(self, name: str, plan: str, out: Path, *, initial: Path | None = None) -> StudyResult:
        """Run one plan to its end, write its report page to `out`/`name`, return the result.

        Args:
            name: of the run's files.
            plan: text of the plan file.
            out: folder of report pages.
            initial: packed model to start from; random weights of the plan's seed if absent.

        Raises:
            RuntimeError: the run did not finish, or nothing happened for a long time.
        """
        path = self.local.root / f"{name}.toml"
        path.write_text(plan, encoding="utf-8")
        tail = self.local.server_events()
        run_id = self._create(path, initial)
        _follow(self.local, tail, run_id, name)
        page = self.local.write_report(run_id, out / name)
        say(f"{name}: report page {page}")
        return load_study(parse_run_id(run_id), load_server_settings(self.local.server_config))

    def read_plan(self, text: str) -> RunPlan:
        """Return a plan as the coordinator completes it, without creating a run."""
        path = self.local.root / "unused.toml"
        path.write_text(text, encoding="utf-8")
        settings = load_server_settings(self.local.server_config)
        return read_plan(path, settings, datetime.now(UTC))

    def _create(self, plan: Path, initial: Path | None) -> str:
        if initial is None:
            return self.local.create_run(plan)
        words = ("runs", "create", "--plan", str(plan), "--initial-model", str(initial))
        return self.local.server(*words).strip()

    def model_file(self, ref: BlobRef) -> Path:
        """Return where the coordinator keeps a model."""
        settings = load_server_settings(self.local.server_config)
        return BlobStore(settings.blobs_dir).path(ref.blob_sha256)

    def cohort(self, site_id: str, task: TaskName, split: Split) -> Cohort:
        """Return a split as the site's own trainer would select it from its store."""
        settings = load_site_settings(self.local.site_config(site_id))
        with Catalog(settings.catalog_file, read_only=True) as catalog:
            return catalog.cohort(task, split, seed=SPLIT_SEED, store=settings.store_dir)

    def sources(self, site: ResearchSite) -> dict[str, Path]:
        """Return the research file behind each study pseudonym of a site."""
        settings = load_site_settings(self.local.site_config(site.site_id))
        key = open_pseudonym_key(settings.pseudonym_key_file)
        return {key.uid(study.study_uid): study.source for study in site.summary.studies}


@contextmanager
def consortium(root: Path, sites: Sequence[ResearchSite], task: TaskName) -> Iterator[Consortium]:
    """Start coordinator and sites under `root`, wait until every object is taken in."""
    with LocalFederation(root, federation_id="research") as local:
        local.start_server()
        for site in sites:
            local.enrol(site.plan(task))
            local.start_site(site.site_id)
            say(f"{site.site_id}: enrolled, {site.summary.files} DICOM files to take in")
        yield Consortium(local, tuple(sites), _take_in(local, sites))


def relabel(labels_csv: Path, splits: Mapping[str, str]) -> None:
    """Rename splits in a labels CSV, e.g. to train on `val` too."""
    with labels_csv.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        header, rows = list(reader.fieldnames or ()), list(reader)
    with labels_csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "split": splits.get(row["split"], row["split"])})


def say(text: str) -> None:
    """Tell progress on standard error; standard output is for the table."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _take_in(local: LocalFederation, sites: Sequence[ResearchSite]) -> dict[str, int]:
    """Wait until every object is in a catalog or in quarantine; return the latter's count.

    `object.accepted` comes before the catalog's row, so the catalogs are asked.
    """
    expected = sum(site.summary.files for site in sites)
    started = told = time.monotonic()
    while True:
        local.check_alive()
        counts = {site.site_id: _counts(local, site.site_id) for site in sites}
        done = sum(stored + refused for stored, refused in counts.values())
        now = time.monotonic()
        if done >= expected:
            break
        if now - started > INGEST_LIMIT_S:
            raise RuntimeError(f"de-identification did not finish: {done} of {expected}")
        if now - told > 30:
            told = now
            say(f"de-identified {done} of {expected}")
        time.sleep(LOOK_S)
    quarantined = {site_id: refused for site_id, (_, refused) in counts.items()}
    say(f"de-identified {done} objects in {now - started:.0f} s, quarantined {quarantined}")
    return quarantined


def _counts(local: LocalFederation, site_id: str) -> tuple[int, int]:
    """Return how many objects a site has in its catalog, and in quarantine."""
    settings = load_site_settings(local.site_config(site_id))
    try:
        with Catalog(settings.catalog_file, read_only=True) as catalog:
            counts = catalog.counts()
    except CatalogMissing:
        return 0, 0
    return counts.instances, sum(counts.quarantined.values())


def _follow(local: LocalFederation, tail: EventTail, run_id: str, name: str) -> None:
    started = quiet_since = time.monotonic()
    while True:
        local.check_alive()
        for event in tail.new():
            if event.get("run") != run_id:
                continue
            quiet_since = time.monotonic()
            kind = event["event"]
            if kind in ("round.closed", "round.failed"):
                say(f"{name}: {kind} {event['round']} at {quiet_since - started:.0f} s")
            elif kind in ("update.refused", "site.absent"):
                say(f"{name}: {kind} {event.get('site')} {event.get('code')}")
            elif kind in ENDS:
                if kind != "run.finished":
                    raise RuntimeError(f"{name}: {kind} {event.get('code', '')}")
                return
        if time.monotonic() - quiet_since > QUIET_LIMIT_S:
            raise RuntimeError(f"{name}: the coordinator has been silent")
        time.sleep(LOOK_S)
