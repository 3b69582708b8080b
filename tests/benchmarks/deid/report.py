"""The table of the bench: one row a tool, on screen, as JSON and as markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from rich.table import Table

from pleura.anonymizer.scoring import NAMES
from tests.benchmarks.deid.conformance import NewErrors
from tests.benchmarks.deid.consistency import Consistency
from tests.benchmarks.deid.scorer import KINDS, Score

_HEADS: Final = {
    "raw": "raw leaked", "same_top": "same top", "same_nested": "same nested", "wrong": "wrong",
    "private": "private", "names": "free text", "words_lost": "words lost",
    "times_kept": "times kept",
}  # fmt: skip
LEAKS: Final = ("raw", "same_top", "same_nested", "wrong", "private", "names")


@dataclass(frozen=True, slots=True)
class Row:
    """One tool. `note` is what it said of itself, `new_errors` what dciodvfy says of it."""

    tool: str
    score: Score
    note: str = ""
    new_errors: NewErrors | None = None


def table_of(rows: Sequence[Row]) -> Table:
    """Return leaks and losses, the ten categories below each other for every tool."""
    table = Table(title="De-identification of planted files")
    table.add_column("")
    for row in rows:
        table.add_column(row.tool, justify="right")
    for line in _lines(rows):
        table.add_row(*line)
    return table


def markdown_of(rows: Sequence[Row]) -> str:
    """Return the same table as markdown."""
    head = ["", *(row.tool for row in rows)]
    lines = [head, ["---", *["---:"] * len(rows)], *_lines(rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _lines(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["files written", *(f"{row.score.written} / {row.score.files}" for row in rows)]]
    for kind in KINDS:
        cells = [
            f"{row.score.found.get(kind, 0):,} / {row.score.planted.get(kind, 0):,}"
            if row.score.written
            else "no output"
            for row in rows
        ]
        lines.append([_HEADS[kind], *cells])
    for name in NAMES:
        ratios = [row.score.categories[name] for row in rows]
        lines.append([name, *(f"{100 * r.share:.2f} % of {r.required:,}" for r in ratios)])
    lines.append(["all ten", *(f"{100 * row.score.total.share:.3f} %" for row in rows)])
    lines.append(["mean of the ten", *(f"{100 * row.score.mean:.3f} %" for row in rows)])
    errors = [row.new_errors for row in rows]
    lines.append(
        ["new dciodvfy errors", *("not run" if e is None else f"{e.own:,}" for e in errors)]
    )
    lines.append(
        ["as the table orders", *("not run" if e is None else f"{e.ordered:,}" for e in errors)]
    )
    lines.append(["note", *(row.note for row in rows)])
    return lines


def json_of(rows: Sequence[Row], consistency: Mapping[str, Consistency]) -> str:
    """Return every figure, and each finding and loss with its attribute."""
    tools = {
        row.tool: {
            "files": row.score.files,
            "written": row.score.written,
            "found": dict(row.score.found),
            "planted": dict(row.score.planted),
            "categories": {
                name: [ratio.correct, ratio.required]
                for name, ratio in row.score.categories.items()
            },
            "findings": [
                [finding.kind, f"{finding.tag:08X}", finding.place, count]
                for finding, count in sorted(
                    row.score.findings.items(), key=lambda item: (item[0].kind, item[0].tag)
                )
            ],
            "lost": [
                [name, f"{tag:08X}", count] for (name, tag), count in sorted(row.score.lost.items())
            ],
            "new_dciodvfy_errors": None if row.new_errors is None else asdict(row.new_errors),
            "note": row.note,
        }
        for row in rows
    }
    agreement = {
        name: {
            "same_key": [found.same.correct, found.same.required],
            "other_key_shared": found.shared,
            "names": found.names,
        }
        for name, found in consistency.items()
    }
    return json.dumps({"tools": tools, "consistency": agreement}, indent=1)


def missed(row: Row) -> list[str]:
    """Return what a tool leaks or breaks, a line each; losing files counts as breaking."""
    lines = [
        f"{row.tool}: {row.score.found[kind]:,} {_HEADS[kind]}"
        for kind in LEAKS
        if row.score.found[kind]
    ]
    if row.score.written < row.score.files:
        lines.append(f"{row.tool}: {row.score.files - row.score.written} files not written")
    return lines
