"""Real images through the whole product: two scanner makers, DICOM to a report, in a minute.

The figures of such a tiny run mean nothing and are not looked at; the studies that
mean something are `python -m tests.benchmarks.studies`.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pleura.client.data.preprocess import prepare
from pleura.client.tasks.registry import task_of
from pleura.server.reports.study import StudyResult
from tests.benchmarks.lidc_study import TASK, matched_pairs, write_makers
from tests.benchmarks.offline import Case
from tests.benchmarks.study_plans import lidc_plan
from tests.benchmarks.study_runs import Consortium, consortium
from tests.benchmarks.study_tables import site_lines
from tests.builders.research_images import read_nodule
from tests.builders.shared_data import shared_data

pytestmark = [pytest.mark.e2e, pytest.mark.shared_data, pytest.mark.timeout(420)]
MAKERS = ("philips", "toshiba")
ROUNDS, NODULES = 2, 14


@dataclass(frozen=True)
class Finished:
    running: Consortium
    result: StudyResult
    out: Path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    shared_data("lidc_nodules")
    folder = tmp_path_factory.mktemp("research")
    sites = write_makers(folder / "pacs", MAKERS, NODULES, min_patients=2)
    with consortium(folder / "federation", sites, TASK) as running:
        out = folder / "reports"
        result = running.run("tiny", lidc_plan(MAKERS, seed=1, rounds=ROUNDS), out)
        yield Finished(running, result, out)


def test_real_images_go_from_dicom_to_one_line_a_site(study: Finished) -> None:
    assert study.result.state == "finished"
    assert study.running.quarantined == dict.fromkeys(MAKERS, 0)
    assert {site.site: site.rounds for site in study.result.sites} == dict.fromkeys(
        MAKERS, ("trained",) * ROUNDS
    )
    lines = site_lines(study.result)[1:]
    assert [line.split()[0] for line in lines] == list(MAKERS)
    page = (study.out / "tiny" / "index.html").read_text(encoding="utf-8")
    assert all(maker in page for maker in MAKERS)


def test_site_trains_on_the_grey_values_of_the_research_files(study: Finished) -> None:
    site = study.running.sites[0]
    sources = study.running.sources(site)
    cohort = study.running.cohort(site.site_id, TASK, "train")
    assert len(cohort.samples) > 0
    assert task_of(study.result.plan).input_shape == (8, 48, 48)
    for sample in cohort.samples[:3]:
        files = [path.read_bytes() for path, _ in sample.files]
        picture = prepare(files, study.result.plan.preproc)
        source = read_nodule(sources[sample.key]).astype(np.float32) / np.float32(255)
        assert np.array_equal(picture, source)


def test_few_patients_are_withheld_by_the_site_and_not_by_the_reader(study: Finished) -> None:
    for site in study.result.sites:
        metric = site.metric("auroc")
        assert metric is not None
        assert (metric.value, metric.reason) == (None, "too_few_patients")


def test_no_planted_identifier_reaches_coordinator_or_report(study: Finished) -> None:
    local = study.running.local
    shown = json.dumps(local.run_state(study.result.plan.run_id))
    page = (study.out / "tiny" / "index.html").read_text(encoding="utf-8")
    for site in study.running.sites:
        long_values = [value for value in site.summary.planted if len(value) > 7]
        assert long_values
        for value in long_values:
            assert value not in shown
            assert value not in page


def test_size_matched_pairs_are_those_of_the_published_protocol() -> None:
    with (shared_data("lidc_nodules") / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["malignant"]]
    cases = [Case(r["site"], r["patient_id"], r["file"], r["malignant"] == "1", 0.5) for r in rows]
    pairs = matched_pairs(cases, {r["file"]: (float(r["diameter_mm"]), r["file"]) for r in rows})
    assert Counter(malignant.site for malignant, _ in pairs) == {
        "ge": 77,
        "siemens": 30,
        "philips": 12,
        "toshiba": 8,
    }
    assert all(m.patient != b.patient and m.label and not b.label for m, b in pairs)
    assert len({b.key for _, b in pairs}) == len(pairs)
