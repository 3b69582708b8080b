"""Selection: from catalog rows and labels to the samples of one split. Pure.

A sample is the labelled unit of the task: one radiograph, or one CT study. A
label of the object itself is preferred to one of its accession. All samples of
a patient are in one split, whether the split was imported or drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pleura.client.data.cohort import Cohort, Sample, Split
from pleura.client.data.splits import TrainingSplit, split_of
from pleura.client.errors import LabelsUnreadable, TaskUnknown
from pleura.client.ingest.geometry import Geometry, pick_stack


@dataclass(frozen=True, slots=True)
class Mark:
    """One label, and the split the site chose for it, if any."""

    label: int
    split: TrainingSplit | None = None


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One stored instance with the labels that name it or its accession."""

    sop_uid: str
    study_uid: str
    series_uid: str
    patient: str
    path: str
    sha256: str
    geometry: Geometry
    sop_mark: Mark | None = None
    accession_mark: Mark | None = None

    @property
    def mark(self) -> Mark | None:
        return self.sop_mark or self.accession_mark


@dataclass(frozen=True, slots=True)
class TaskUnit:
    """What one sample of a task is, and of which modalities."""

    unit: Literal["instance", "study"]
    modalities: tuple[str, ...]


TASK_UNITS: Final[Mapping[str, TaskUnit]] = {
    "cxr_abnormal": TaskUnit("instance", ("CR", "DX")),
    "ct_nodule_malignancy": TaskUnit("study", ("CT",)),
}


@dataclass(frozen=True, slots=True)
class _Unit:
    key: str
    patient: str
    rows: tuple[LabelledRow, ...]
    mark: Mark


def task_unit(task: str) -> TaskUnit:
    """Return the unit of a built-in task.

    Raises:
        TaskUnknown: this version has no such task.
    """
    try:
        return TASK_UNITS[task]
    except KeyError as exc:
        raise TaskUnknown("no built-in task of that name") from exc


def select_cohort(
    task: str, split: Split, rows: Sequence[LabelledRow], *, seed: int, store: Path
) -> Cohort:
    """Return the samples of one split; the same rows and seed give the same cohort.

    `external` is every labelled sample of the site, whatever its split.

    Raises:
        TaskUnknown: this version has no such task.
        LabelsUnreadable: one sample has two labels, or one patient two imported splits.
    """
    labelled = [row for row in rows if row.mark is not None]
    units = (
        _instance_units(labelled)
        if task_unit(task).unit == "instance"
        else _study_units(labelled, rows)
    )
    imported = imported_splits(labelled)
    samples = (
        Sample(
            patient=unit.patient,
            key=unit.key,
            files=tuple((store / row.path, row.sha256) for row in unit.rows),
            label=unit.mark.label,
        )
        for unit in units
        if split == "external"
        or split == (imported.get(unit.patient) or split_of(unit.patient, seed))
    )
    return Cohort.of(task, split, samples)


def imported_splits(rows: Iterable[LabelledRow]) -> dict[str, TrainingSplit]:
    """Return the split the site imported for each patient that has one.

    Raises:
        LabelsUnreadable: one patient was given two splits, so training would leak into testing.
    """
    splits: dict[str, TrainingSplit] = {}
    for row in rows:
        for mark in (row.sop_mark, row.accession_mark):
            if mark is None or mark.split is None:
                continue
            if splits.setdefault(row.patient, mark.split) != mark.split:
                raise LabelsUnreadable("column split: one patient is in two splits")
    return splits


def _instance_units(rows: Sequence[LabelledRow]) -> list[_Unit]:
    return [
        _Unit(row.sop_uid, row.patient, (row,), row.mark) for row in rows if row.mark is not None
    ]


def _study_units(labelled: Sequence[LabelledRow], rows: Sequence[LabelledRow]) -> list[_Unit]:
    wanted = {row.study_uid for row in labelled}
    studies: dict[str, list[LabelledRow]] = defaultdict(list)
    for row in rows:
        if row.study_uid in wanted:
            studies[row.study_uid].append(row)
    units = []
    for study_uid, members in studies.items():
        stack = pick_stack(members)
        if stack:
            units.append(_Unit(study_uid, stack[0].patient, stack, _study_mark(members)))
    return units


def _study_mark(members: Sequence[LabelledRow]) -> Mark:
    marks = [row.sop_mark for row in members if row.sop_mark is not None]
    marks = marks or [row.accession_mark for row in members if row.accession_mark is not None]
    if len({mark.label for mark in marks}) != 1:
        raise LabelsUnreadable("column label: one study has two labels")
    return marks[0]
