"""Plots of a report as SVG text: the same picture on the page and in the file.

Colours are the Okabe-Ito set, which people with any common colour vision can
tell apart; every line also has its own marker.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl

from pleura.common.results import MetricValue

mpl.use("svg")
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pleura",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
}


def round_curve(curve: Mapping[str, Sequence[tuple[int, float]]], external: set[str]) -> str:
    """Return AUROC over rounds, one line a site; external sites are dashed."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axes = figure.subplots()
        for index, (site, points) in enumerate(sorted(curve.items())):
            rounds, values = zip(*points, strict=True) if points else ((), ())
            axes.plot(
                rounds,
                values,
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                linestyle="--" if site in external else "-",
                markersize=4.5,
                label=f"{site} (external)" if site in external else site,
            )
        axes.axhline(0.5, color="#888888", linewidth=0.8, linestyle=":")
        axes.set(xlabel="round (0 = initial model)", ylabel="AUROC on held-out patients")
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if curve:
            axes.legend(loc="lower right", frameon=False)
        return _svg(figure, "AUROC of the federated model over rounds, by site")


def forest(rows: Sequence[tuple[str, MetricValue | None]]) -> str:
    """Return one line a site: AUROC with its 95 % interval, or why there is none."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 0.9 + 0.42 * max(1, len(rows))), layout="constrained")
        axes = figure.subplots()
        for position, (_, metric) in enumerate(reversed(rows)):
            if metric is None or metric.value is None:
                reason = metric.reason.replace("_", " ") if metric else "no answer"
                axes.text(0.02, position, f"not estimable: {reason}", va="center", color="#555555")
                continue
            low = metric.low if metric.low is not None else metric.value
            high = metric.high if metric.high is not None else metric.value
            axes.plot([low, high], [position, position], color=COLOURS[0], linewidth=2)
            axes.plot([metric.value], [position], marker="s", color=COLOURS[0], markersize=6)
            text = f"{metric.value:.3f} [{low:.3f}, {high:.3f}]"
            axes.text(1.03, position, text, va="center", transform=axes.get_yaxis_transform())
        axes.axvline(0.5, color="#888888", linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(rows)), [label for label, _ in reversed(rows)])
        axes.set(xlim=(0, 1), ylim=(-0.6, max(0, len(rows) - 1) + 0.6))
        axes.set_xlabel("AUROC with 95 % interval, patients resampled")
        return _svg(figure, "AUROC of the final model with 95 % interval, by site")


def _svg(figure: Any, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title, "Creator": None})
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    return body.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
