"""LIDC as a consortium of four scanner makers: malignancy of lung nodules on CT.

The makers' nodules become DICOM with planted identifiers, go through the whole
product and train one model; pooled training and each maker alone, by the same
code on the same de-identified objects, are what it is judged against. Ratings
are opinions and size explains most of them, so diameter alone is a line too.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pleura.client.data.cohort import Cohort
from pleura.common.files import ensure_private_folder
from pleura.common.orders import RunPlan
from pleura.server.reports.study import StudyResult
from tests.benchmarks.offline import (
    Case,
    figure,
    model_of,
    pooled,
    score_all,
    train_alone,
)
from tests.benchmarks.phantom_start import phantom_model
from tests.benchmarks.study_plans import lidc_plan, lidc_private_plan
from tests.benchmarks.study_runs import Consortium, ResearchSite, consortium, relabel, say
from tests.benchmarks.study_tables import aligned, site_lines
from tests.builders.research_images import write_lidc_site
from tests.builders.shared_data import shared_data

TASK = "ct_nodule_malignancy"
MAKERS = ("ge", "siemens", "philips", "toshiba")
PAIR_MM = 0.5
FEDERATED, POOLED = "federated", "pooled"
POOLED_SAME_WORK = "pooled same-work"  # as many steps as all sites of the federation together
Scored = dict[str, tuple[Case, ...]]
Nodule = tuple[float, str]  # mean diameter in mm, research file


@dataclass(frozen=True, slots=True)
class Options:
    """What a study does beside the run without privacy."""

    seeds: tuple[int, ...]
    is_private: bool
    out: Path
    rounds: int = 40
    limit: int | None = None


def run(root: Path, options: Options, makers: Sequence[str] = MAKERS) -> list[str]:
    """Do the study with its state under `root` and return the lines of its table."""
    sites = write_makers(root / "pacs", makers, options.limit)
    lines: list[str] = []
    with consortium(root / "federation", sites, TASK) as running:
        test = {m: running.cohort(m, TASK, "test") for m in makers}
        train = {m: running.cohort(m, TASK, "train") for m in makers}
        nodules = _nodules(running)
        scratch = ensure_private_folder(root / "offline")
        for seed in options.seeds:
            text = lidc_plan(makers, seed=seed, rounds=options.rounds)
            result = running.run(f"lidc-seed{seed}", text, options.out)
            scored = {FEDERATED: _final(running, result, test, scratch)}
            folder = ensure_private_folder(scratch / f"seed{seed}")
            scored |= _references(result.plan, train, test, folder)
            lines += [f"LIDC, no privacy, seed {seed}", ""]
            lines += [*table(scored, nodules, makers), "", *site_lines(result), ""]
        if options.is_private:
            lines += _private(running, options, test, nodules, ensure_private_folder(root / "dp"))
    return lines


def write_makers(
    folder: Path, makers: Sequence[str], limit: int | None = None, **policy: object
) -> tuple[ResearchSite, ...]:
    """Write each maker as a hospital; validation patients are labelled for training."""
    sites = []
    for maker in makers:
        summary = write_lidc_site(folder / maker, maker, limit=limit)
        relabel(summary.labels_csv, {"val": "train"})
        sites.append(ResearchSite(maker, folder / maker, summary, policy))
        say(f"{maker}: {summary.patients} patients, {summary.files} files written")
    return tuple(sites)


def table(
    scored: Mapping[str, tuple[Case, ...]], nodules: Mapping[str, Nodule], makers: Sequence[str]
) -> list[str]:
    """Return one line a model: all test nodules, each maker's, and what a maker never saw."""
    cases = next(iter(scored.values()))
    by_size = tuple(
        Case(c.site, c.patient, c.key, c.label, nodules[c.key][0] / 100.0) for c in cases
    )
    header = ["model", f"all test (n={len(cases)})", "loss", "matched pairs", *makers]
    rows = [header]
    for name, found in {**scored, "diameter alone": by_size}.items():
        whole = figure(found)
        loss = "-" if found is by_size else f"{whole.loss:.3f}"
        each = [_short(found, (maker,)) for maker in makers]
        rows.append([name, str(whole), loss, _pairs(found, nodules), *each])
    if all(maker in scored for maker in makers):
        rows += [[], ["test of the other makers", "alone", "", "", FEDERATED, POOLED]]
        for maker in makers:
            rest = [m for m in makers if m != maker]
            figures = [figure(scored[n], rest) for n in (maker, FEDERATED, POOLED)]
            label = f"{maker} (n={figures[0].images})"
            rows.append([label, str(figures[0]), "", "", str(figures[1]), str(figures[2])])
    return aligned(rows)


def matched_pairs(cases: Sequence[Case], nodules: Mapping[str, Nodule]) -> list[tuple[Case, Case]]:
    """Return (malignant, benign) of one maker and two patients, at most 0.5 mm apart."""
    pairs = []
    for site in sorted({case.site for case in cases}):
        here = sorted((c for c in cases if c.site == site), key=lambda c: nodules[c.key])
        free = [case for case in here if not case.label]
        for case in here:
            size = nodules[case.key][0]
            near = [b for b in free if b.patient != case.patient]
            ranked = ((abs(nodules[b.key][0] - size), nodules[b.key][1], b) for b in near)
            gap, _, best = min(ranked, key=lambda row: row[:2], default=(PAIR_MM * 2, "", case))
            if case.label and gap <= PAIR_MM:
                free.remove(best)
                pairs.append((case, best))
    return pairs


def _private(
    running: Consortium,
    options: Options,
    test: Mapping[str, Cohort],
    nodules: Mapping[str, Nodule],
    folder: Path,
) -> list[str]:
    """Run once at epsilon 8 from a phantom-trained model: a site's whole budget."""
    makers, seed = tuple(test), options.seeds[0]
    plain = running.read_plan(lidc_plan(makers, seed=seed, rounds=options.rounds))
    initial = phantom_model(plain, folder)
    text = lidc_private_plan(makers, seed=seed)
    result = running.run(f"lidc-epsilon8-seed{seed}", text, options.out, initial=initial)
    weights = {
        "federated, epsilon 8": result.final_model,
        "initial: phantoms only": result.initial_model,
    }
    scored = {
        name: score_all(result.plan, model_of(running.model_file(ref), ref), test, folder)
        for name, ref in weights.items()
    }
    lines = [f"LIDC, epsilon 8 a patient, started from phantoms, seed {seed}", ""]
    return [*lines, *table(scored, nodules, makers), "", *site_lines(result), ""]


def _references(
    plan: RunPlan, train: Mapping[str, Cohort], test: Mapping[str, Cohort], folder: Path
) -> Scored:
    found: Scored = {}
    everyone = pooled(train)
    for name, cohort in {POOLED: everyone, POOLED_SAME_WORK: everyone, **train}.items():
        times = len(train) if name == POOLED_SAME_WORK else 1
        say(f"training {name}: {cohort.patients} patients")
        word = name.replace(" ", "-")
        weights = train_alone(plan, cohort, word, folder, times=times)
        found[name] = score_all(plan, weights, test, folder)
    return found


def _final(
    running: Consortium, result: StudyResult, test: Mapping[str, Cohort], folder: Path
) -> tuple[Case, ...]:
    ref = result.final_model
    return score_all(result.plan, model_of(running.model_file(ref), ref), test, folder)


def _nodules(running: Consortium) -> dict[str, Nodule]:
    """Return diameter and file of each nodule by its pseudonym."""
    root = shared_data("lidc_nodules")
    with (root / "metadata.csv").open(newline="", encoding="utf-8") as file:
        known = {row["file"]: float(row["diameter_mm"]) for row in csv.DictReader(file)}
    return {
        key: (known[name], name)
        for site in running.sites
        for key, source in running.sources(site).items()
        for name in [str(source.relative_to(root))]
    }


def _pairs(cases: Sequence[Case], nodules: Mapping[str, Nodule]) -> str:
    pairs = matched_pairs(cases, nodules)
    if not pairs:
        return "none"
    wins = sum(
        (m.probability > b.probability) + (m.probability == b.probability) / 2 for m, b in pairs
    )
    return f"{wins / len(pairs):.3f} of {len(pairs)}"


def _short(cases: Sequence[Case], sites: Sequence[str]) -> str:
    found = figure(cases, sites)
    value = "-" if found.auroc is None else f"{found.auroc:.3f}"
    return f"{value} (n={found.images})"
