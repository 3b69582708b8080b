"""Bridge: public research PNG and JPEG sets as DICOM with planted identifiers.

Grey values survive exactly. A radiograph is stored as its 8-bit value, or as the
value times 16 in 12 bits (`RADIOGRAPH_BITS`). A nodule slice is stored in HU as
`hu = value * 5 - 1000`, so that the window `WINDOW_LOW_HU` .. `WINDOW_HIGH_HU`
(-1000 .. 275) gives value / 255 exactly, in float32 and float64: the source
crops' own window is not documented, so these HU are a carrier, not a measure.
People, hospitals and numbers are invented; research ids are not in the objects.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pleura.client.phantoms.identifiers import (
    PlantedPatient,
    PlantedSite,
    PlantedStudy,
    invent_patient,
    invent_site,
    invent_study,
)
from pleura.client.phantoms.objects import (
    CtEncoding,
    RadiographEncoding,
    ct_objects,
    radiograph_object,
    write_object,
)
from pleura.client.phantoms.site import labels_path, require_empty, write_labels
from tests.builders.shared_data import shared_data

HU_PER_GREY = 5
WINDOW_LOW_HU = -1000
WINDOW_HIGH_HU = WINDOW_LOW_HU + 255 * HU_PER_GREY
NODULE_SLICES = 8
NODULE_PX = 48
NODULE_PIXEL_MM = 0.7

RADIOGRAPH_BITS = {"guangzhou": 8, "nih": 12, "hannover": 12, "actualmed": 8}
_LIDC_SCANNERS = {
    "ge": ("GE MEDICAL SYSTEMS", "LightSpeed VCT", "STANDARD"),
    "siemens": ("SIEMENS", "Sensation 16", "B30f"),
    "philips": ("Philips", "Brilliance 40", "D"),
    "toshiba": ("TOSHIBA", "Aquilion", "FC03"),
}

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class BridgedStudy:
    """One research row and the study that was made of it; `label` None = indeterminate."""

    accession: str
    study_uid: str
    source: Path
    research_patient: str
    patient_id: str
    label: int | None
    split: str
    diameter_mm: float | None


@dataclass(frozen=True, slots=True)
class BridgeSummary:
    """What was written; `planted`, `dates` and `device` as in `PhantomSummary`."""

    files: int
    patients: int
    planted: tuple[str, ...]
    dates: tuple[str, ...]
    device: tuple[str, ...]
    labels_csv: Path
    studies: tuple[BridgedStudy, ...]


@dataclass(frozen=True, slots=True)
class _Person:
    patient: PlantedPatient
    folder: Path


def _generator(*words: str) -> np.random.Generator:
    digest = hashlib.sha256("\n".join(words).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _rows(
    metadata: Path, site: str, splits: Collection[str] | None, limit: int | None
) -> list[Row]:
    """Return the rows of a site in an order drawn by hash, so that a limit mixes the classes."""
    with metadata.open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["site"] == site]
    if not rows:
        raise ValueError(f"the set has no site {site!r}")
    kept = [row for row in rows if splits is None or row["split"] in splits]
    kept.sort(key=lambda row: hashlib.sha256(row["file"].encode()).digest())
    return kept if limit is None else kept[:limit]


def _age(row: Row) -> int | None:
    return int(float(row["age"])) if row["age"] else None


class _Bridge:
    """Keeps the people, counts and planted values of one site while rows are written."""

    def __init__(self, folder: Path, site: str) -> None:
        require_empty(folder)
        self._folder, self._site = folder, site
        self.hospital = invent_site(_generator(site, "hospital"))
        self._values = dict.fromkeys(self.hospital.values)
        self._dates: dict[str, None] = {}
        self._people: dict[str, _Person] = {}
        self._studies: list[BridgedStudy] = []
        self._files = 0

    def _person(self, row: Row) -> _Person:
        known = self._people.get(row["patient_id"])
        if known is not None:
            return known
        patient = invent_patient(
            _generator(self._site, "patient", row["patient_id"]),
            sex=row["sex"] or None,
            age_years=_age(row),
        )
        person = _Person(patient, self._folder / f"PA{len(self._people) + 1:06d}")
        self._people[row["patient_id"]] = person
        self._values.update(dict.fromkeys(patient.values))
        return person

    def add(
        self,
        source: Path,
        row: Row,
        label: int | None,
        write: Callable[[Path, PlantedPatient, PlantedStudy], int],
    ) -> None:
        person = self._person(row)
        study = invent_study(_generator(self._site, "study", row["file"]), self.hospital)
        series = person.folder / f"ST{len(self._studies) + 1:06d}" / "SE000001"
        self._files += write(series, person.patient, study)
        self._values.update(dict.fromkeys(study.values))
        self._dates.update(dict.fromkeys(study.dates))
        diameter = row.get("diameter_mm")
        self._studies.append(
            BridgedStudy(
                accession=study.accession,
                study_uid=str(study.study_uid),
                source=source,
                research_patient=row["patient_id"],
                patient_id=person.patient.patient_id,
                label=label,
                split=row["split"],
                diameter_mm=float(diameter) if diameter else None,
            )
        )

    def finish(self, *, with_diameter: bool, external_split: str) -> BridgeSummary:
        header: tuple[str, ...] = ("accession", "label", "split")
        rows: list[tuple[str, ...]] = []
        for study in self._studies:
            if study.label is None:
                continue
            split = external_split if study.split == "external" else study.split
            row: tuple[str, ...] = (study.accession, str(study.label), split)
            if with_diameter:
                row += ("" if study.diameter_mm is None else str(study.diameter_mm),)
            rows.append(row)
        path = labels_path(self._folder)
        write_labels(path, (*header, "diameter_mm") if with_diameter else header, rows)
        return BridgeSummary(
            files=self._files,
            patients=len(self._people),
            planted=tuple(self._values),
            dates=tuple(self._dates),
            device=self.hospital.device,
            labels_csv=path,
            studies=tuple(self._studies),
        )


def write_cxr_site(
    folder: Path,
    site: str,
    splits: Collection[str] | None = None,
    limit: int | None = None,
    *,
    label_column: str = "abnormal",
    only_matched: bool = False,
    external_split: str = "external",
) -> BridgeSummary:
    """Write one site of cxr_multisite as CR objects, each image a study of its own.

    Args:
        splits: "train", "val", "test" or "external"; all when absent.
        limit: at most this many images, drawn by hash of the file name.
        only_matched: keep only nih rows whose classes match in file size.
        external_split: how the labels CSV names the split of an external site.

    Raises:
        ValueError: the set has no such site.
        PhantomFolderNotEmpty: `folder` already holds something.
    """
    root = shared_data("cxr_multisite")
    rows = _rows(root / "metadata.csv", site, splits, None if only_matched else limit)
    if only_matched:
        rows = [row for row in rows if row["nih_matched"] == "1"][:limit]
    bits = RADIOGRAPH_BITS[site]
    bridge = _Bridge(folder, site)
    for row in rows:
        source = root / row["file"]
        grey = read_grey(source)
        stored = grey if bits == 8 else grey.astype(np.uint16) << (bits - 8)
        encoding = RadiographEncoding(
            manufacturer=f"Bridge {site}",
            model=f"CR {bits}",
            modality="CR",
            photometric="MONOCHROME2",
            bits_stored=bits,
            pixel_mm=360.0 / max(grey.shape),
            view="PA" if row["view"] == "PA" else "AP",
        )
        writer = _radiograph_writer(stored, encoding, bridge.hospital)
        bridge.add(source, row, int(row[label_column]), writer)
    return bridge.finish(with_diameter=False, external_split=external_split)


def _radiograph_writer(
    stored: NDArray[np.unsignedinteger], encoding: RadiographEncoding, hospital: PlantedSite
) -> Callable[[Path, PlantedPatient, PlantedStudy], int]:
    def write(series: Path, patient: PlantedPatient, study: PlantedStudy) -> int:
        ds = radiograph_object(stored, encoding, hospital, patient, study, 1)
        ds.LossyImageCompression = "01"  # the sources are JPEG
        write_object(series / "IM000001", ds)
        return 1

    return write


def write_lidc_site(
    folder: Path,
    site: str,
    splits: Collection[str] | None = None,
    limit: int | None = None,
    *,
    with_indeterminate: bool = False,
) -> BridgeSummary:
    """Write one scanner maker of lidc_nodules as CT series of eight slices, a nodule a study.

    Slices that the tile leaves black stay black (-1000 HU). Spacing between slices
    is the slice thickness, though the tile may have skipped slices of a large nodule.

    Args:
        splits: "train", "val" or "test"; all when absent.
        limit: at most this many nodules, drawn by hash of the file name.
        with_indeterminate: also write nodules without a class; they get no label row.

    Raises:
        ValueError: the set has no such site.
        PhantomFolderNotEmpty: `folder` already holds something.
    """
    root = shared_data("lidc_nodules")
    rows = _rows(root / "metadata.csv", site, splits, None)
    kept = [row for row in rows if with_indeterminate or row["malignant"]][:limit]
    manufacturer, model, kernel = _LIDC_SCANNERS[site]
    bridge = _Bridge(folder, site)
    for row in kept:
        source = root / row["file"]
        origin = _generator(site, "position", row["file"]).uniform(-150.0, 100.0, 3).round(1)
        encoding = CtEncoding(
            manufacturer=manufacturer,
            model=model,
            kernel=kernel,
            kvp=120,
            pixel_mm=NODULE_PIXEL_MM,
            slice_thickness_mm=float(row["slice_thickness_mm"]),
            is_signed=site == "siemens",
            origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        )
        writer = _nodule_writer(read_nodule(source), encoding, bridge.hospital)
        bridge.add(source, row, int(row["malignant"]) if row["malignant"] else None, writer)
    return bridge.finish(with_diameter=True, external_split="external")


def _nodule_writer(
    grey: NDArray[np.uint8], encoding: CtEncoding, hospital: PlantedSite
) -> Callable[[Path, PlantedPatient, PlantedStudy], int]:
    volume = grey.astype(np.int16) * np.int16(HU_PER_GREY) + np.int16(WINDOW_LOW_HU)

    def write(series: Path, patient: PlantedPatient, study: PlantedStudy) -> int:
        slices = ct_objects(volume, encoding, hospital, patient, study)
        for number, ds in enumerate(slices, start=1):
            write_object(series / f"IM{number:06d}", ds)
        return len(volume)

    return write


def read_grey(source: Path) -> NDArray[np.uint8]:
    """Return the 8-bit grey values of a research image, [rows, columns]."""
    with Image.open(source) as image:
        if image.mode != "L":
            raise ValueError("research images are 8-bit grey")
        return np.asarray(image, dtype=np.uint8)


def read_nodule(source: Path) -> NDArray[np.uint8]:
    """Return the eight slices of a nodule tile, [8, 48, 48]."""
    tile = read_grey(source)
    return np.ascontiguousarray(
        tile.reshape(NODULE_PX, NODULE_SLICES, NODULE_PX).transpose(1, 0, 2)
    )
