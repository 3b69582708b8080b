"""Chest radiographs: three training hospitals of different kinds, a fourth that only validates.

guangzhou are children, nih are adults whose classes came from two batches, hannover
has one class, actualmed is external. A pooled figure would only tell that the
hospitals can be told apart, so there is none: each hospital is judged by itself,
nih also on its rows of equal file size (`nih_matched`).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import dcmread

from pleura.client.data.cohort import Cohort
from pleura.common.files import ensure_private_folder
from pleura.server.reports.study import StudyResult
from tests.benchmarks.offline import Case, Figure, figure, model_of, pooled, score_all, train_alone
from tests.benchmarks.study_plans import cxr_plan
from tests.benchmarks.study_runs import Consortium, ResearchSite, consortium, relabel, say
from tests.benchmarks.study_tables import aligned, site_lines
from tests.builders.research_images import write_cxr_site
from tests.builders.shared_data import shared_data

TASK = "cxr_abnormal"
TRAINING = ("guangzhou", "nih", "hannover")
EXTERNAL = "actualmed"
TWO_CLASSES = ("guangzhou", "nih")
MATCHED = "nih_matched"


def run(root: Path, seeds: Sequence[int], out: Path, rounds: int = 20) -> list[str]:
    """Do the study with its state under `root` and return the lines of its table."""
    sites = write_hospitals(root / "pacs")
    lines: list[str] = []
    with consortium(root / "federation", sites, TASK) as running:
        test = {s: running.cohort(s, TASK, "test") for s in TRAINING}
        test[EXTERNAL] = running.cohort(EXTERNAL, TASK, "external")
        train = {s: running.cohort(s, TASK, "train") for s in TRAINING}
        matched = _matched(running, test["nih"])
        for seed in seeds:
            text = cxr_plan(TRAINING, (EXTERNAL,), seed=seed, rounds=rounds)
            result = running.run(f"cxr-seed{seed}", text, out)
            folder = ensure_private_folder(root / f"offline-seed{seed}")
            scored = _scored(running, result, train, test, folder)
            lines += [f"CXR abnormal against normal, no privacy, seed {seed}", ""]
            lines += [*table(scored, matched), "", *site_lines(result), ""]
    return lines


def write_hospitals(folder: Path, limit: int | None = None) -> tuple[ResearchSite, ...]:
    """Write every hospital; validation patients are labelled for training.

    The labels of the external site name the split `test`: an external site evaluates
    everything that is labelled, whatever its split.
    """
    sites = []
    for name in (*TRAINING, EXTERNAL):
        summary = write_cxr_site(folder / name, name, limit=limit, external_split="test")
        relabel(summary.labels_csv, {"val": "train"})
        site = ResearchSite(name, folder / name, summary, accept_unread_text=True)
        sites.append(site)
        say(f"{name}: {summary.patients} patients, {summary.files} files written")
    return tuple(sites)


def table(scored: Mapping[str, Sequence[Case]], matched: frozenset[str]) -> list[str]:
    """Return one line a model with its AUROC at every hospital."""
    rows = [["model", "guangzhou", "nih", MATCHED, "hannover", f"{EXTERNAL} (external)"]]
    for name, cases in scored.items():
        equal = [case for case in cases if case.site == "nih" and case.key in matched]
        rows.append(
            [
                name,
                _cell(figure(cases, ("guangzhou",))),
                _cell(figure(cases, ("nih",))),
                _cell(figure(equal)),
                _cell(figure(cases, ("hannover",))),
                _cell(figure(cases, (EXTERNAL,))),
            ]
        )
    return aligned(rows)


def _scored(
    running: Consortium,
    result: StudyResult,
    train: Mapping[str, Cohort],
    test: Mapping[str, Cohort],
    folder: Path,
) -> dict[str, tuple[Case, ...]]:
    plan, ref = result.plan, result.final_model
    weights = model_of(running.model_file(ref), ref)
    found = {"federated": score_all(plan, weights, test, folder)}
    for name, cohort in {
        "pooled": pooled(train),
        **{f"{s} alone": train[s] for s in TWO_CLASSES},
    }.items():
        say(f"training {name}: {cohort.patients} patients, {plan.total_steps} steps")
        alone = train_alone(plan, cohort, name.replace(" ", "-"), folder)
        found[name] = score_all(plan, alone, test, folder)
    return found


def _matched(running: Consortium, cohort: Cohort) -> frozenset[str]:
    """Return the pseudonyms of nih test images whose classes agree in file size."""
    root = shared_data("cxr_multisite")
    with (root / "metadata.csv").open(newline="", encoding="utf-8") as file:
        equal = {row["file"] for row in csv.DictReader(file) if row["nih_matched"] == "1"}
    site = next(site for site in running.sites if site.site_id == "nih")
    sources = running.sources(site)
    studies = {
        sample.key: str(dcmread(sample.files[0][0], stop_before_pixels=True).StudyInstanceUID)
        for sample in cohort.samples
    }
    return frozenset(
        key for key, study in studies.items() if str(sources[study].relative_to(root)) in equal
    )


def _cell(found: Figure) -> str:
    return f"{found} (n={found.images})"
