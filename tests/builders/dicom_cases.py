"""Odd DICOM files, one small builder each, for the paths that must refuse them.

Every builder writes one file and returns the planted values in it, none of which
may appear in a message, a log line or an output.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, MediaStorageDirectoryStorage

from pleura.client.phantoms.identifiers import invent_patient, invent_site, invent_study
from pleura.client.phantoms.objects import RadiographEncoding, radiograph_object

Planted = tuple[str, ...]
_SIDE = 32


def _image(seed: int) -> tuple[Dataset, Planted]:
    """Return a sound radiograph of a patient of its own, and what is planted in it."""
    rng = np.random.default_rng(seed)
    site, patient = invent_site(rng), invent_patient(rng)
    study = invent_study(rng, site)
    pixels = rng.integers(0, 4096, (_SIDE, _SIDE), dtype=np.uint16)
    encoding = RadiographEncoding("Odd", "Case", "CR", "MONOCHROME2", 12, 1.0, "PA")
    ds = radiograph_object(pixels, encoding, site, patient, study, 1)
    return ds, (*site.values, *patient.values, *study.values)


def _encoded(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def write_sound(path: Path) -> Planted:
    """Write a sound radiograph, the positive twin of the others."""
    ds, planted = _image(90)
    path.write_bytes(_encoded(ds))
    return planted


def write_truncated(path: Path) -> Planted:
    """Write a file that ends in the middle of its pixel data."""
    ds, planted = _image(91)
    path.write_bytes(_encoded(ds)[: -_SIDE * _SIDE])
    return planted


def write_empty_sop_uid(path: Path) -> Planted:
    """Write an object whose SOP Instance UID has no value."""
    ds, planted = _image(92)
    data = _encoded(ds)
    uid = str(ds.SOPInstanceUID).encode()
    uid += b"\0" * (len(uid) % 2)
    element = b"\x08\x00\x18\x00UI" + len(uid).to_bytes(2, "little") + uid
    if data.count(element) != 1:
        raise AssertionError("the element must occur once")
    path.write_bytes(data.replace(element, b"\x08\x00\x18\x00UI\x00\x00"))
    return planted


def write_media_directory(path: Path) -> Planted:
    """Write a DICOMDIR with a patient's name in a record."""
    rng = np.random.default_rng(98)
    patient = invent_patient(rng)
    record = Dataset()
    record.OffsetOfTheNextDirectoryRecord, record.OffsetOfReferencedLowerLevelDirectoryEntity = 0, 0
    record.RecordInUseFlag, record.DirectoryRecordType = 0xFFFF, "PATIENT"
    record.SpecificCharacterSet = "ISO_IR 192"
    record.PatientName, record.PatientID = patient.name, patient.patient_id
    ds = Dataset()
    ds.FileSetID = "ODD"
    ds.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    ds.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    ds.FileSetConsistencyFlag = 0
    ds.DirectoryRecordSequence = Sequence([record])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.10.98"
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    ds.file_meta = meta
    path.write_bytes(_encoded(ds))
    return (*patient.name.split("=")[0].split("^"), patient.patient_id)


def write_not_dicom(path: Path) -> Planted:
    """Write a text report that a PACS export put among the images."""
    patient = invent_patient(np.random.default_rng(97))
    path.write_text(f"Report for {patient.given} {patient.family}\n" * 40, encoding="utf-8")
    return (patient.given, patient.family)


def write_undecodable(path: Path) -> Planted:
    """Write an object that claims JPEG 2000 and holds no such stream.

    The GDCM decoder ends the whole process on it, so decode it in a child only.
    """
    ds, planted = _image(93)
    ds.PixelData = encapsulate([b"\xff\x4f\xff\x51" + b"junk" * 64])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    path.write_bytes(_encoded(ds))
    return planted


ODD_CASES: dict[str, Callable[[Path], Planted]] = {
    "truncated": write_truncated,
    "empty_sop_uid": write_empty_sop_uid,
    "media_directory": write_media_directory,
    "not_dicom": write_not_dicom,
    "undecodable": write_undecodable,
}
