"""Cohort: the samples one run may use at this site, grouped by patient.

A cohort is made from catalog rows, never from a folder listing, so every file in
it has been de-identified and has a receipt. A sample is one labelled unit of a
task: one radiograph, or one CT stack whose files are in anatomical order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pleura.common.results import patients_bucket

Split = Literal["train", "val", "test", "external"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled unit; `files` are absolute paths with their SHA-256."""

    patient: str
    key: str  # stable pseudonym of the study (CT) or instance (CXR)
    files: tuple[tuple[Path, str], ...]
    label: int


@dataclass(frozen=True, slots=True)
class Cohort:
    """Samples of one split in a fixed order: by patient, then by key."""

    task: str
    split: Split
    samples: tuple[Sample, ...]

    @staticmethod
    def of(task: str, split: Split, samples: Iterable[Sample]) -> Cohort:
        """Return a cohort with its samples in canonical order."""
        return Cohort(task, split, tuple(sorted(samples, key=lambda s: (s.patient, s.key))))

    @property
    def by_patient(self) -> Mapping[str, tuple[Sample, ...]]:
        """Samples of each patient, patients in canonical order."""
        groups: dict[str, list[Sample]] = {}
        for sample in self.samples:
            groups.setdefault(sample.patient, []).append(sample)
        return {patient: tuple(group) for patient, group in groups.items()}

    @property
    def patients(self) -> int:
        return len({sample.patient for sample in self.samples})

    @property
    def bucket(self) -> str:
        """The public bucket of the number of patients; the exact number stays here."""
        return patients_bucket(self.patients)
