"""Builder of DICOM files with planted identifiers, for de-identification tests."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from pleura.anonymizer.pseudonyms import ProjectKey

CT = "1.2.840.10008.5.1.4.1.1.2"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
SOP = "1.2.826.0.1.3680043.8.498.1"
STUDY = "1.2.826.0.1.3680043.8.498.2"
SERIES = "1.2.826.0.1.3680043.8.498.3"

PLANTED = {
    "PatientName": "Quibbleworth^Ludmilla",
    "PatientID": "MRN-7733",
    "AccessionNumber": "ACC-99107",
    "StudyID": "ST-4711",
    "InstitutionName": "Saint Wendelin Hospital",
    "InstitutionAddress": "Elm Road 12",
    "ReferringPhysicianName": "Zweistein^Albrecht",
    "PatientAddress": "Birkenallee 7",
    "PatientTelephoneNumbers": "+49 30 1234567",
    "StationName": "WENDCT01",
    "DeviceSerialNumber": "SN-55667788",
    "StudyDescription": "CT of Quibbleworth",
    "PatientComments": "daughter of Ludmilla",
}


def project_key(seed: int = 0) -> ProjectKey:
    """Return the key of the design's test vectors (seed 0) or another one."""
    return ProjectKey.from_bytes(bytes((i + seed) % 256 for i in range(32)))


def ct_dataset(**changes: object) -> Dataset:
    """Return a small CT image of a planted patient; `changes` override attributes."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CT, SOP
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, SERIES
    ds.FrameOfReferenceUID = STUDY + ".9"
    ds.StudyDate, ds.SeriesDate, ds.PatientBirthDate = "20200131", "20200201", "19501211"
    ds.StudyTime, ds.SeriesTime = "101500", "235959"
    for keyword, value in PLANTED.items():
        setattr(ds, keyword, value)
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "CT", "ACME Imaging", "Ray 64"
    ds.ConvolutionKernel, ds.BodyPartExamined, ds.ViewPosition = "B30f", "CHEST", "AP"
    ds.PatientSex, ds.PatientAge, ds.PatientSize = "F", "092Y", "1.71"
    ds.SliceThickness, ds.InstanceNumber = "1.25", "3"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [1, 2, 3.5], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.RescaleSlope, ds.RescaleIntercept = [0.7, 0.7], "1", "-1024"
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = np.arange(64, dtype="<u2").tobytes()
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        for keyword, value in changes.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)
    return ds


def item(**values: object) -> Dataset:
    """Return a sequence item."""
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def nested(keyword: str, *items: Dataset) -> dict[str, Sequence]:
    """Return one sequence as a keyword argument."""
    return {keyword: Sequence(items)}


def write(
    path: Path, ds: Dataset, *, syntax: str = ExplicitVRLittleEndian, preamble: bytes = bytes(128)
) -> Path:
    """Write a PS3.10 file, invalid values included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = UID(syntax)
    file = FileDataset(
        str(path),
        ds,
        preamble=preamble,
        is_implicit_VR=encoding.is_implicit_VR,
        is_little_endian=encoding.is_little_endian,
    )
    meta = file.file_meta = FileMetaDataset()
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        meta.TransferSyntaxUID = syntax
        meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", "")
        meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "")
        meta.SourceApplicationEntityTitle = "WENDELAE"
        file.save_as(path, enforce_file_format=False)
    return path
