"""Plain-text tables of the studies: aligned columns, and one line a site of a report."""

from __future__ import annotations

from collections.abc import Sequence

from pleura.common.results import MetricValue
from pleura.server.reports.study import SiteResult, StudyResult

REASONS = {
    "one_class": "not estimable (one class)",
    "too_few_patients": "withheld (fewer than 10 patients of a class)",
    "suppressed": "withheld",
}


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns of equal width; an empty row is an empty line."""
    width = max(len(row) for row in rows)
    widths = [max((len(r[i]) for r in rows if i < len(r)), default=0) for i in range(width)]
    return ["  ".join(cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip() for row in rows]


def site_lines(result: StudyResult) -> list[str]:
    """Return one line a site from the signed statements, as the report page shows them."""
    rows = [["site", "role", "rounds", "AUROC [95 %]", "Brier", "patients", "images", "epsilon"]]
    return aligned([*rows, *(_site_line(site) for site in result.sites)])


def _site_line(site: SiteResult) -> list[str]:
    trained = sum(word == "trained" for word in site.rounds)
    return [
        site.site,
        site.role,
        f"{trained}/{len(site.rounds)}" if site.role == "training" else "-",
        _metric(site.metric("auroc")) if site.metrics else site.note,
        _value(site.metric("brier")),
        site.patients,
        site.images,
        "no guarantee" if site.privacy is None else f"{site.privacy.epsilon_run:.3f}",
    ]


def _metric(metric: MetricValue | None) -> str:
    if metric is None:
        return "-"
    if metric.value is None or metric.low is None or metric.high is None:
        return REASONS[metric.reason]
    return f"{metric.value:.3f} [{metric.low:.3f}-{metric.high:.3f}]"


def _value(metric: MetricValue | None) -> str:
    return "-" if metric is None or metric.value is None else f"{metric.value:.3f}"
