"""Labels: a CSV of the site becomes keyed rows of the catalog, all of it or nothing.

Columns: `accession` or `sop_uid` (or both, then `sop_uid` wins where filled),
`label` (0 or 1), optional `split` (train, val, test) and `diameter_mm` (allowed,
not kept). Identifiers are pseudonymised here with the key that ingest used, so
the catalog never holds one. Errors name line and column, never a value.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.client.data.splits import TrainingSplit
from pleura.client.errors import LabelsUnreadable
from pleura.client.ingest.catalog import Catalog, LabelRow
from pleura.client.ingest.selection import Mark, task_unit
from pleura.common import events

MAX_BYTES: Final = 256 * 2**20
KEY_COLUMNS: Final = ("sop_uid", "accession")
COLUMNS: Final = frozenset((*KEY_COLUMNS, "label", "split", "diameter_mm"))
_LABELS: Final = {"0": 0, "1": 1}
_SPLITS: Final[dict[str, TrainingSplit]] = {name: name for name in get_args(TrainingSplit)}


@dataclass(frozen=True, slots=True)
class LabelsSummary:
    """How many label rows there are, and how many name an object that is in the store."""

    rows: int
    matched: int
    unmatched: int


def import_labels(csv_path: Path, task: str, catalog: Catalog, key: ProjectKey) -> LabelsSummary:
    """Replace the labels of one task by those of a CSV file, in one transaction.

    Rows that match nothing yet are kept: images may come later.

    Raises:
        LabelsUnreadable: a line is wrong, a key has two labels or a patient two splits.
        TaskUnknown: this version has no such task.
    """
    task_unit(task)
    rows = read_labels(csv_path, key)
    catalog.replace_labels(task, rows)
    matched = catalog.matched_labels(task)
    events.emit("labels.imported", task=task, count=len(rows), accepted=matched)
    return LabelsSummary(rows=len(rows), matched=matched, unmatched=len(rows) - matched)


def read_labels(csv_path: Path, key: ProjectKey) -> tuple[LabelRow, ...]:
    """Return the keyed label rows of a CSV file.

    Raises:
        LabelsUnreadable: names the line and column that must be corrected.
    """
    seen: dict[tuple[str, str], tuple[int, Mark]] = {}
    for line, kind, value, mark in _parsed(_text(csv_path)):
        name = (kind, key.keyed(kind, value))
        first = seen.setdefault(name, (line, mark))
        if first[1] != mark:
            raise LabelsUnreadable(f"line {line}: contradicts line {first[0]}")
    if not seen:
        raise LabelsUnreadable("line 2: no row")
    return tuple(
        LabelRow(kind="sop" if kind == "sop" else "accession", key=keyed, mark=mark)
        for (kind, keyed), (_, mark) in sorted(seen.items(), key=lambda item: item[0])
    )


def _text(csv_path: Path) -> str:
    try:
        if csv_path.stat().st_size > MAX_BYTES:
            raise LabelsUnreadable(f"the file is larger than {MAX_BYTES} bytes")
        return csv_path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise LabelsUnreadable("the file cannot be read") from exc
    except UnicodeDecodeError:
        raise LabelsUnreadable("the file is not UTF-8") from None  # the cause holds the bytes


def _parsed(text: str) -> Iterator[tuple[int, Literal["accession", "sop"], str, Mark]]:
    lines = text.splitlines()
    delimiter = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = _header(next(reader, []))
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            yield _row(reader.line_num, header, cells)
    except csv.Error:
        raise LabelsUnreadable(f"line {reader.line_num}: not CSV") from None


def _header(cells: Sequence[str]) -> tuple[str, ...]:
    header = tuple(cell.strip() for cell in cells)
    keyed = [name for name in KEY_COLUMNS if name in header]
    if not keyed or "label" not in header:
        # without a header this line may hold values, so none of it is repeated
        raise LabelsUnreadable("line 1: needs the columns accession or sop_uid, and label")
    for number, name in enumerate(header, start=1):
        if name not in COLUMNS:
            shown = name if re.fullmatch(r"[A-Za-z][A-Za-z_ ]{0,31}", name) else f"no. {number}"
            raise LabelsUnreadable(f"line 1: column {shown} is not allowed")
    if len(set(header)) != len(header):
        raise LabelsUnreadable("line 1: a column stands twice")
    return header


def _row(
    line: int, header: tuple[str, ...], cells: Sequence[str]
) -> tuple[int, Literal["accession", "sop"], str, Mark]:
    if len(cells) != len(header):
        raise LabelsUnreadable(f"line {line}: {len(cells)} cells for {len(header)} columns")
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    label = _LABELS.get(row["label"])
    if label is None:
        raise LabelsUnreadable(f"line {line}: column label must be 0 or 1")
    split = None
    if row.get("split"):
        split = _SPLITS.get(row["split"])
        if split is None:
            raise LabelsUnreadable(f"line {line}: column split must be train, val or test")
    mark = Mark(label=label, split=split)
    if row.get("sop_uid"):
        return line, "sop", row["sop_uid"], mark
    if row.get("accession"):
        return line, "accession", row["accession"], mark
    raise LabelsUnreadable(f"line {line}: columns sop_uid and accession are empty")
