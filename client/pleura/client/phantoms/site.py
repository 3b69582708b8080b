"""Phantom sites: a folder of synthetic DICOM as a PACS would export it, and its labels.

`write_site` is deterministic: the same `PhantomSite` gives the same bytes. It
writes `PA000001/ST000001/SE000001/IM000001` without extension, and the labels
beside the folder, never inside it. Exactly `prevalence` of the studies (rounded)
are positive.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pleura.client.errors import PhantomFolderNotEmpty
from pleura.client.phantoms.identifiers import (
    PlantedPatient,
    PlantedSite,
    PlantedStudy,
    invent_patient,
    invent_site,
    invent_study,
)
from pleura.client.phantoms.looks import CT_LOOKS, RADIOGRAPH_LOOKS, LookName
from pleura.client.phantoms.nodule_ct import PIXEL_MM, NodulePainter, draw_nodule
from pleura.client.phantoms.objects import (
    CtEncoding,
    RadiographEncoding,
    ct_objects,
    radiograph_object,
    write_object,
)
from pleura.client.phantoms.radiograph import RadiographPainter, draw_anatomy

PhantomTask = Literal["cxr_abnormal", "ct_nodule_malignancy"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PhantomSite:
    """What to generate.

    `images_per_patient` is the lowest and highest number, per patient, of images in
    the one study (radiographs) or of nodules, each a study of its own (CT).
    `prevalence` is the share of positive studies. For radiographs only: `size_px`, and
    `conspicuity`, a factor on how much the lesions stand out.
    """

    name: str
    look: LookName
    patients: int
    seed: int
    task: PhantomTask
    images_per_patient: tuple[int, int] = (1, 2)
    prevalence: float = 0.45
    size_px: int = 256
    conspicuity: float = 1.0

    def __post_init__(self) -> None:
        low, high = self.images_per_patient
        if self.patients < 1 or not 1 <= low <= high <= 99 or not 0.0 <= self.prevalence <= 1.0:
            raise ValueError("patients >= 1, 1 <= images low <= high <= 99, prevalence in 0..1")
        if self.size_px < 48 or self.seed < 0 or not 0.0 < self.conspicuity <= 4.0:
            raise ValueError("size_px >= 48, seed >= 0 and 0 < conspicuity <= 4")


@dataclass(frozen=True, slots=True)
class PhantomSummary:
    """What was written.

    `planted` holds every identifying string but the dates of visits, which are in
    `dates`: a date shifted by de-identification may equal another patient's date.
    `device` is the part of `planted` that a profile with Retain Device Identity keeps.
    """

    files: int
    patients: int
    planted: tuple[str, ...]
    labels_csv: Path
    studies: int
    positives: int
    dates: tuple[str, ...]
    device: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Written:
    study: PlantedStudy
    label: int
    files: int
    diameter_mm: float | None


def labels_path(folder: Path) -> Path:
    """Return where the labels of a DICOM folder are written: beside it."""
    return folder.parent / f"{folder.name}-labels.csv"


def write_labels(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Write a labels CSV (UTF-8, LF)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def require_empty(folder: Path) -> None:
    """Make `folder`, which must be absent or empty.

    Raises:
        PhantomFolderNotEmpty: something is already there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise PhantomFolderNotEmpty()


def _generator(site: PhantomSite, *stream: int) -> np.random.Generator:
    name = int.from_bytes(hashlib.sha256(site.name.encode()).digest()[:8], "big")
    return np.random.default_rng([site.seed, name, *stream])


def _plan_labels(site: PhantomSite) -> list[list[bool]]:
    """Return, for each patient, the label of each study; the share of positives is exact."""
    rng = _generator(site, 0)
    low, high = site.images_per_patient
    is_ct = site.task == "ct_nodule_malignancy"
    counts = rng.integers(low, high + 1, site.patients) if is_ct else np.ones(site.patients, int)
    total = int(counts.sum())
    flags = np.arange(total) < round(site.prevalence * total)
    rng.shuffle(flags)
    groups = np.split(flags, np.cumsum(counts)[:-1])
    return [[bool(flag) for flag in group] for group in groups]


class _RadiographWriter:
    def __init__(self, site: PhantomSite, planted: PlantedSite) -> None:
        self._site, self._planted = site, planted
        self._look = RADIOGRAPH_LOOKS[site.look]
        self._painter = RadiographPainter(self._look, site.size_px, _generator(site, 1))

    def write(
        self, folder: Path, patient: PlantedPatient, flags: list[bool], rng: np.random.Generator
    ) -> Iterator[_Written]:
        low, high = self._site.images_per_patient
        look = self._look
        for index, is_abnormal in enumerate(flags):
            study = invent_study(rng, self._planted)
            anatomy = draw_anatomy(rng, is_abnormal=is_abnormal, conspicuity=self._site.conspicuity)
            images = int(rng.integers(low, high + 1))
            for number in range(1, images + 1):
                is_ap = bool(rng.random() < look.ap_share)
                pixels = self._painter.paint(anatomy, rng, is_ap=is_ap)
                if look.photometric == "MONOCHROME1":
                    pixels = np.uint16((1 << look.bits_stored) - 1) - pixels
                encoding = RadiographEncoding(
                    manufacturer=look.manufacturer,
                    model=look.model,
                    modality=look.modality,
                    photometric=look.photometric,
                    bits_stored=look.bits_stored,
                    pixel_mm=look.field_mm / self._site.size_px,
                    view="AP" if is_ap else "PA",
                )
                ds = radiograph_object(pixels, encoding, self._planted, patient, study, number)
                place = folder / f"ST{index + 1:06d}" / "SE000001" / f"IM{number:06d}"
                write_object(place, ds)
            yield _Written(study, int(is_abnormal), images, None)


class _NoduleWriter:
    def __init__(self, site: PhantomSite, planted: PlantedSite) -> None:
        self._planted = planted
        self._look = CT_LOOKS[site.look]
        self._painter = NodulePainter(self._look, _generator(site, 1))

    def write(
        self, folder: Path, patient: PlantedPatient, flags: list[bool], rng: np.random.Generator
    ) -> Iterator[_Written]:
        look = self._look
        for index, is_malignant in enumerate(flags):
            study = invent_study(rng, self._planted)
            nodule = draw_nodule(rng, is_malignant=is_malignant)
            origin = rng.uniform((-130.0, -90.0, -250.0), (110.0, 60.0, -20.0)).round(1)
            encoding = CtEncoding(
                manufacturer=look.manufacturer,
                model=look.model,
                kernel=look.kernel,
                kvp=look.kvp,
                pixel_mm=PIXEL_MM,
                slice_thickness_mm=look.slice_thickness_mm,
                is_signed=look.is_signed,
                origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
            )
            volume = self._painter.paint(nodule, rng)
            series = folder / f"ST{index + 1:06d}" / "SE000001"
            slices = ct_objects(volume, encoding, self._planted, patient, study)
            for number, ds in enumerate(slices, start=1):
                write_object(series / f"IM{number:06d}", ds)
            # readers measure with a caliper: about 5 % off
            measured = nodule.diameter_mm * float(rng.normal(1.0, 0.05))
            yield _Written(study, int(is_malignant), len(volume), round(measured, 1))


def write_site(
    folder: Path, site: PhantomSite, on_progress: Progress | None = None
) -> PhantomSummary:
    """Write the DICOM of one phantom site into `folder` and its labels beside it.

    Args:
        folder: absent or empty; the labels go to `labels_path(folder)`.
        on_progress: called with (patients done, patients in all) after each patient.

    Raises:
        PhantomFolderNotEmpty: `folder` already holds something.
        OSError: the disk is full or not writable.
    """
    require_empty(folder)
    is_ct = site.task == "ct_nodule_malignancy"
    planted = invent_site(_generator(site, 2))
    writer = _NoduleWriter(site, planted) if is_ct else _RadiographWriter(site, planted)
    written: list[_Written] = []
    values = dict.fromkeys(planted.values)
    for index, flags in enumerate(_plan_labels(site)):
        rng = _generator(site, 3, index)
        patient = invent_patient(rng)
        values.update(dict.fromkeys(patient.values))
        for done in writer.write(folder / f"PA{index + 1:06d}", patient, flags, rng):
            values.update(dict.fromkeys(done.study.values))
            written.append(done)
        if on_progress is not None:
            on_progress(index + 1, site.patients)
    return _summarise(folder, site, written, tuple(values), planted.device)


def _summarise(
    folder: Path,
    site: PhantomSite,
    written: list[_Written],
    planted: tuple[str, ...],
    device: tuple[str, ...],
) -> PhantomSummary:
    header: tuple[str, ...] = ("accession", "label")
    rows: list[tuple[str, ...]] = [(one.study.accession, str(one.label)) for one in written]
    if site.task == "ct_nodule_malignancy":
        header += ("diameter_mm",)
        rows = [(*row, str(one.diameter_mm)) for row, one in zip(rows, written, strict=True)]
    path = labels_path(folder)
    write_labels(path, header, rows)
    dates = dict.fromkeys(day for one in written for day in one.study.dates)
    return PhantomSummary(
        files=sum(one.files for one in written),
        patients=site.patients,
        planted=planted,
        labels_csv=path,
        studies=len(written),
        positives=sum(one.label for one in written),
        dates=tuple(dates),
        device=device,
    )
