"""DICOM objects round pixel arrays: CR, DX and CT images with planted identifiers.

Writes the type 1 and 2 attributes of PS3.3 A.2 (CR), A.26 (DX, for presentation)
and A.3 (CT). Pixels are stored exactly as given. MONOCHROME1 is offered for CR
only, because a DX object says the same thing twice (Presentation LUT Shape,
PS3.3 C.8.11.3.1.2) and readers disagree on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from pleura.client.phantoms.identifiers import PlantedPatient, PlantedSite, PlantedStudy, plant

CT_INTERCEPT_HU = -1024


@dataclass(frozen=True, slots=True)
class RadiographEncoding:
    """How a radiograph is stored; `pixel_mm` is the pixel spacing at the detector."""

    manufacturer: str
    model: str
    modality: Literal["CR", "DX"]
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    bits_stored: int
    pixel_mm: float
    view: Literal["PA", "AP", "LL", ""]


@dataclass(frozen=True, slots=True)
class CtEncoding:
    """How a CT series is stored; `origin_mm` is the position of its first pixel."""

    manufacturer: str
    model: str
    kernel: str
    kvp: int
    pixel_mm: float
    slice_thickness_mm: float
    is_signed: bool
    origin_mm: tuple[float, float, float]


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _base(
    sop_class: str,
    site: PlantedSite,
    patient: PlantedPatient,
    study: PlantedStudy,
    number: int,
) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = UID(f"{study.series_uid}.{number}")
    plant(ds, site, patient, study)
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = 1, number, 1
    ds.BodyPartExamined = "CHEST"
    ds.SamplesPerPixel = 1
    ds.BurnedInAnnotation = "NO"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    return ds


def _set_pixels(ds: Dataset, pixels: NDArray[np.integer], bits_stored: int) -> None:
    ds.Rows, ds.Columns = pixels.shape
    allocated = 8 * pixels.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, bits_stored, bits_stored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if allocated == 8 else "OW"


def _set_dx(ds: Dataset, encoding: RadiographEncoding) -> None:
    """Add what the DX modules ask for beyond CR (PS3.3 C.8.11)."""
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.PresentationLUTShape = "IDENTITY"
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    top = 1 << encoding.bits_stored
    ds.WindowCenter, ds.WindowWidth = str(top // 2), str(top)
    ds.LossyImageCompression = "00"
    ds.ImageLaterality = "U"
    ds.DetectorType = "DIRECT"
    ds.PositionerType = None
    ds.AcquisitionContextSequence = Sequence([])
    ds.AnatomicRegionSequence = Sequence([_code("51185008", "SCT", "Chest")])
    view = {"PA": ("272479007", "postero-anterior"), "AP": ("399348003", "antero-posterior")}
    value, meaning = view.get(encoding.view, ("399067008", "lateral"))
    item = _code(value, "SCT", meaning)
    item.ViewModifierCodeSequence = Sequence([])
    ds.ViewCodeSequence = Sequence([item])


def radiograph_object(
    pixels: NDArray[np.unsignedinteger],
    encoding: RadiographEncoding,
    site: PlantedSite,
    patient: PlantedPatient,
    study: PlantedStudy,
    number: int,
) -> Dataset:
    """Return one CR or DX image; `pixels` [rows, columns] are stored as they are.

    Raises:
        ValueError: MONOCHROME1 with DX, or a value that needs more than `bits_stored`.
    """
    if encoding.modality == "DX" and encoding.photometric == "MONOCHROME1":
        raise ValueError("MONOCHROME1 is offered for CR only")
    if int(pixels.max(initial=0)) >> encoding.bits_stored:
        raise ValueError("a pixel value does not fit bits_stored")
    is_dx = encoding.modality == "DX"
    sop_class = ComputedRadiographyImageStorage
    if is_dx:
        sop_class = DigitalXRayImageStorageForPresentation
    ds = _base(sop_class, site, patient, study, number)
    ds.Modality = encoding.modality
    ds.Manufacturer, ds.ManufacturerModelName = encoding.manufacturer, encoding.model
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SeriesDescription = f"Chest {encoding.view}".strip()
    ds.ViewPosition = encoding.view
    ds.PatientOrientation = ["L", "F"] if encoding.view != "LL" else ["P", "F"]
    ds.Laterality = None
    ds.KVP = "120"
    spacing = f"{encoding.pixel_mm:.4f}"
    ds.ImagerPixelSpacing = [spacing, spacing]
    ds.PhotometricInterpretation = encoding.photometric
    if is_dx:
        _set_dx(ds, encoding)
    _set_pixels(ds, pixels, encoding.bits_stored)
    return ds


def ct_objects(
    volume_hu: NDArray[np.int16],
    encoding: CtEncoding,
    site: PlantedSite,
    patient: PlantedPatient,
    study: PlantedStudy,
) -> Iterator[Dataset]:
    """Yield one CT series, a slice at a time, feet to head.

    The same dataset is yielded with the next slice in it: write it before asking
    for another.

    Args:
        volume_hu: [slices, rows, columns], -1024 to 3071.

    Raises:
        ValueError: a value is outside that range.
    """
    if volume_hu.size and (volume_hu.min() < CT_INTERCEPT_HU or volume_hu.max() > 3071):
        raise ValueError("HU values must lie between -1024 and 3071")
    ds = _base(CTImageStorage, site, patient, study, 1)
    ds.Modality = "CT"
    ds.Manufacturer, ds.ManufacturerModelName = encoding.manufacturer, encoding.model
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesDescription = "Lung nodule, thin slices"
    ds.KVP, ds.ConvolutionKernel = str(encoding.kvp), encoding.kernel
    ds.FrameOfReferenceUID = study.frame_uid
    ds.PositionReferenceIndicator = ""
    ds.PatientPosition = "HFS"
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.PixelSpacing = [f"{encoding.pixel_mm:.4f}"] * 2
    ds.SliceThickness = f"{encoding.slice_thickness_mm:.4f}"
    ds.PhotometricInterpretation = "MONOCHROME2"
    intercept = 0 if encoding.is_signed else CT_INTERCEPT_HU
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", str(intercept), "HU"
    ds.WindowCenter, ds.WindowWidth = "-500", "1500"
    x, y, z = encoding.origin_mm
    for index, plane in enumerate(volume_hu):
        ds.InstanceNumber = index + 1
        ds.SOPInstanceUID = UID(f"{study.series_uid}.{index + 1}")
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        at = z + index * encoding.slice_thickness_mm
        ds.ImagePositionPatient = [f"{x:.4f}", f"{y:.4f}", f"{at:.4f}"]
        ds.SliceLocation = f"{at:.4f}"
        stored = plane if encoding.is_signed else (plane - CT_INTERCEPT_HU).astype(np.uint16)
        _set_pixels(ds, stored, 16 if encoding.is_signed else 12)
        yield ds


def write_object(path: Path, ds: Dataset) -> None:
    """Write one object as a DICOM file (Explicit VR little endian), making its folder.

    Raises:
        FileExistsError: the file exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, ds, enforce_file_format=True, overwrite=False)
