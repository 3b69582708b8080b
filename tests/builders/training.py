"""Builders for training tests: small DICOM cohorts, plans and orders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from pleura.client.data.cohort import Cohort, Sample, Split
from pleura.common.orders import BlobRef, EvaluateOrder, RunPlan, TrainOrder

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
HU_LOW, HU_HIGH = -1000, 275


def image_dataset(pixels: NDArray[Any], *, bits: int = 12, modality: str = "CR") -> FileDataset:
    """Return a minimal grey image object that holds `pixels`."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CT_IMAGE if modality == "CT" else CR_IMAGE
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    ds.Modality = modality
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    allocated = 8 if bits <= 8 else 16
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, bits, bits - 1
    is_signed = np.issubdtype(pixels.dtype, np.signedinteger)
    ds.PixelRepresentation = int(is_signed)
    stored = pixels.astype(f"<{'i' if is_signed else 'u'}{allocated // 8}")
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return ds


def ct_slice(
    hounsfield: NDArray[np.int16],
    depth_mm: float,
    *,
    in_plane_mm: tuple[float, float] = (0.0, 0.0),
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
) -> FileDataset:
    """Return one CT slice whose values are HU + 1024."""
    ds = image_dataset((hounsfield + 1024).astype(np.uint16), modality="CT")
    ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"
    ds.ImageOrientationPatient = [str(value) for value in orientation]
    ds.ImagePositionPatient = [str(in_plane_mm[0]), str(in_plane_mm[1]), str(depth_mm)]
    ds.PixelSpacing = ["0.7", "0.7"]
    return ds


def dicom_bytes(ds: FileDataset) -> bytes:
    """Return the object as the bytes of a file."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def store(path: Path, ds: FileDataset) -> tuple[Path, str]:
    """Write the object and return path and SHA-256."""
    data = dicom_bytes(ds)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


def nodule_cohort(
    folder: Path, *, patients: int = 6, split: Split = "train", side: int = 16, seed: int = 0
) -> Cohort:
    """Return a cohort of two-slice stacks: positives hold a bright disc, negatives none.

    Patient k has 1 + k % 3 stacks; odd patients are positive.
    """
    rng = np.random.default_rng(seed)
    samples = []
    axis = np.arange(side) - side / 2
    disc = (axis[:, None] ** 2 + axis[None, :] ** 2) < (side / 4) ** 2
    for number in range(patients):
        for index in range(1 + number % 3):
            planes = rng.normal(-800, 40, size=(2, side, side))
            if number % 2:
                planes[:, disc] += 700
            files = tuple(
                store(
                    folder / split / f"{number}-{index}-{z}.dcm",
                    ct_slice(plane.clip(-1024, 3000).astype(np.int16), 2.0 * z),
                )
                for z, plane in enumerate(planes)
            )
            samples.append(
                Sample(f"patient{number:04d}", f"study{number}-{index}", files, number % 2)
            )
    return Cohort.of("ct_nodule_malignancy", split, samples)


def run_plan(**changes: Any) -> RunPlan:
    """Return a small plan without privacy for `nodule_cohort`; sections may be changed."""
    sections: dict[str, Any] = {
        "federation_id": "lungs",
        "run_id": "run-1",
        "task": {"name": "ct_nodule_malignancy"},
        "model": {"arch": "tiny_cnn_gn", "in_channels": 2, "spatial_dims": 2},
        "preproc": {
            "modality": "CT",
            "size_px": 16,
            "slices": 2,
            "hu_low": HU_LOW,
            "hu_high": HU_HIGH,
        },
        "train": {
            "optimizer": "adamw",
            "lr": Decimal("0.003"),
            "local_steps": 4,
            "batch_patients": 4,
            "schedule": "cosine",
        },
        "privacy": {"mode": "none"},
        "fed": {"rounds": 5, "min_sites": 1},
        "evaluation": {"bootstrap": 200},
        "training_sites": ("north",),
        "seed": 7,
    }
    for name, change in changes.items():
        if isinstance(change, dict) and isinstance(sections.get(name), dict):
            sections[name] = {**sections[name], **change}
        else:
            sections[name] = change
    return RunPlan.model_validate(sections)


def train_order(plan: RunPlan, base: BlobRef, *, number: int = 1) -> TrainOrder:
    """Return an order to train one round of `plan` from `base`."""
    return TrainOrder(
        federation_id=plan.federation_id,
        run_id=plan.run_id,
        round=number,
        plan=plan,
        plan_hash=plan.digest,
        base=base,
        nonce="0" * 32,
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )


def evaluate_order(
    plan: RunPlan, base: BlobRef, *, split: Literal["test", "external"] = "test"
) -> EvaluateOrder:
    """Return an order to evaluate `base` on a split."""
    return EvaluateOrder(
        federation_id=plan.federation_id,
        run_id=plan.run_id,
        round=plan.fed.rounds,
        plan=plan,
        plan_hash=plan.digest,
        base=base,
        split=split,
        nonce="0" * 32,
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )


def silent(_done: int, _total: int) -> None:
    """Report no progress."""
