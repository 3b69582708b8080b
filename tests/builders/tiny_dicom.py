"""Builder of minimal, valid CT and CR files with known identifiers planted in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True)
class TinyDicom:
    """What one file says; every text here is an identifier that must not survive."""

    patient_id: str = "MRN-4711-0815"
    patient_name: str = "Wolkenstein^Ottilie"
    accession: str = "ACC-990017"
    institution: str = "Klinikum Silberbach"
    study_uid: str = "1.2.826.0.1.3680043.8.498.100.1"
    series_uid: str = "1.2.826.0.1.3680043.8.498.100.1.1"
    sop_uid: str = "1.2.826.0.1.3680043.8.498.100.1.1.1"
    study_date: str = "20240131"
    instance_number: int = 1
    position_mm: tuple[float, float, float] | None = (0.0, 0.0, 0.0)
    orientation: tuple[float, ...] = AXIAL
    size_px: int = 8
    fill: int = 100

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Every string that must appear nowhere after ingest."""
        family, _, given = self.patient_name.partition("^")
        return (
            self.patient_id,
            family,
            given,
            self.accession,
            self.institution,
            self.study_uid,
            self.series_uid,
            self.sop_uid,
            "19610417",
            "Ufergasse",
        )


def write_ct(path: Path, tiny: TinyDicom) -> Path:
    """Write one ORIGINAL PRIMARY AXIAL CT slice in Hounsfield units."""
    ds = _dataset(tiny, CT_IMAGE, "CT")
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.KVP = "120"
    ds.AcquisitionNumber = "1"
    ds.PixelSpacing = ["0.7", "0.7"]
    ds.SliceThickness = "1.25"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.FrameOfReferenceUID = tiny.study_uid + ".9"
    ds.PositionReferenceIndicator = ""
    if tiny.position_mm is not None:
        ds.ImagePositionPatient = [f"{value:g}" for value in tiny.position_mm]
        ds.ImageOrientationPatient = [f"{value:g}" for value in tiny.orientation]
    return _save(ds, path)


def write_cr(path: Path, tiny: TinyDicom) -> Path:
    """Write one frontal computed radiograph."""
    ds = _dataset(tiny, CR_IMAGE, "CR")
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "PA"
    return _save(ds, path)


def _dataset(tiny: TinyDicom, sop_class: str, modality: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = tiny.sop_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, tiny.sop_uid
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID = tiny.patient_name, tiny.patient_id
    ds.PatientBirthDate, ds.PatientSex = "19610417", "F"
    ds.PatientAddress = "Ufergasse 77, Silberbach"
    block = ds.private_block(0x0029, "ACME PRIVATE", create=True)
    block.add_new(0x10, "LO", f"{tiny.patient_id} Ufergasse")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = tiny.study_uid, tiny.series_uid
    ds.StudyID, ds.AccessionNumber = "", tiny.accession
    ds.ReferringPhysicianName = ""
    ds.StudyDate, ds.StudyTime = tiny.study_date, "101500"
    ds.InstitutionName, ds.Manufacturer = tiny.institution, "Acme Imaging"
    ds.Modality, ds.SeriesNumber = modality, "1"
    ds.InstanceNumber = str(tiny.instance_number)
    ds.PatientOrientation = ""
    ds.Laterality = ""
    _set_pixels(ds, tiny)
    return ds


def _set_pixels(ds: Dataset, tiny: TinyDicom) -> None:
    pixels = np.full((tiny.size_px, tiny.size_px), tiny.fill, dtype="<u2")
    pixels[0, 0] = tiny.instance_number % 4096
    ds.Rows = ds.Columns = tiny.size_px
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelRepresentation = 0
    ds.PixelData = pixels.tobytes()


def _save(ds: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path
