"""The study report: one self-contained page, no script, no request to anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from pleura.common.files import write_atomic
from pleura.common.ids import RunId
from pleura.common.results import MetricValue
from pleura.server.reports.load import load_study
from pleura.server.reports.study import StudyResult, privacy_sentences
from pleura.server.reports.svg import forest, round_curve
from pleura.server.settings import ServerSettings

TASK_TITLES: Final = {
    "ct_nodule_malignancy": "malignancy of lung nodules on CT",
    "cxr_abnormal": "abnormal chest radiographs",
}


def render(study: StudyResult) -> str:
    """Return the page of a study."""
    environment = Environment(
        loader=PackageLoader("pleura.server.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    external = {site.site for site in study.sites if site.role == "external"}
    return environment.get_template("study.html").render(
        study=study,
        task_title=TASK_TITLES[study.plan.task.name],
        forest=forest([(site.site, site.metric("auroc")) for site in study.sites]),
        curve=round_curve(study.curve, external),
        privacy=privacy_sentences(study.plan),
        number=_number,
    )


def write_page(study: StudyResult, folder: Path) -> Path:
    """Write `index.html` into `folder` and return its path.

    Raises:
        DiskFull: the volume has no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    write_atomic(page, render(study).encode("utf-8"), mode=0o644)
    return page


def write_report(run_id: RunId, settings: ServerSettings, folder: Path) -> Path:
    """Write the report page of a run into `folder` and return its path.

    Raises:
        RunUnknown: no such run.
        DatabaseDamaged: the statement log does not verify.
        DiskFull: the volume has no room.
    """
    return write_page(load_study(run_id, settings), folder)


def _number(metric: MetricValue | None) -> str:
    return "–" if metric is None or metric.value is None else f"{metric.value:.3f}"
