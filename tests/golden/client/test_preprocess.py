"""Preprocessing contract: the same picture gives the same array however it is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from pleura.client.data.preprocess import prepare, square_picture
from pleura.client.errors import ImageUnreadable, ImageUnsupported, StackRefused
from pleura.common.orders import PreprocSpec
from tests.builders.training import ct_slice, dicom_bytes, image_dataset

CXR = PreprocSpec(modality="CXR", size_px=32)
CT = PreprocSpec(modality="CT", size_px=16, slices=4, hu_low=-1000, hu_high=275)


def ramp(rows: int = 60, columns: int = 44, top: int = 4095) -> NDArray[np.uint16]:
    """Return a textured picture that uses all values from 0 to `top`."""
    y, x = np.mgrid[0:rows, 0:columns]
    wave = np.sin(y / 5.0) * np.cos(x / 7.0) + y / rows
    scaled = (wave - wave.min()) / (wave.max() - wave.min()) * top
    return np.rint(scaled).astype(np.uint16)


def digest(picture: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.rint(picture * 4095).astype("<u2").tobytes()).hexdigest()[:16]


def radiograph(ds: FileDataset) -> NDArray[np.float32]:
    return prepare([dicom_bytes(ds)], CXR)


def windowed(ds: FileDataset, center: float, width: float) -> FileDataset:
    ds.WindowCenter, ds.WindowWidth = str(center), str(width)
    return ds


def lookup(values: NDArray[np.uint16], sequence: str) -> Callable[[FileDataset], FileDataset]:
    def add(ds: FileDataset) -> FileDataset:
        item = Dataset()
        item.LUTDescriptor = [len(values), 0, 16]
        item.LUTData = values.astype("<u2").tobytes()
        if sequence == "ModalityLUTSequence":
            item.ModalityLUTType = "US"
        setattr(ds, sequence, Sequence([item]))
        return ds

    return add


def compressed(syntax: str) -> FileDataset:
    ds = image_dataset(ramp())
    if syntax == JPEG2000Lossless:
        codestream = bytes(encode_array(ramp(), bits_stored=12))
        ds.PixelData = encapsulate([codestream])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    else:
        plugin = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls"}
        ds.compress(syntax, encoding_plugin=plugin[syntax])
    return ds


def monochrome1(pixels: NDArray[np.uint16], top: int) -> FileDataset:
    ds = image_dataset((top - pixels).astype(np.uint16))
    ds.PhotometricInterpretation = "MONOCHROME1"
    return ds


CURVE = np.rint(4095 * (np.arange(4096) / 4095.0) ** 2).astype(np.uint16)
GOLDEN: list[tuple[str, Callable[[], FileDataset], str]] = [
    ("12 bit", lambda: image_dataset(ramp()), "BASE"),
    ("16 bit", lambda: image_dataset(ramp() * 16, bits=16), "BASE"),
    ("10 bit", lambda: image_dataset(ramp(top=1023), bits=10), "TEN"),
    ("8 bit", lambda: image_dataset(ramp(top=255).astype(np.uint8), bits=8), "EIGHT"),
    ("signed", lambda: image_dataset(ramp().astype(np.int16) - 2048), "BASE"),
    ("MONOCHROME1", lambda: monochrome1(ramp(), 4095), "BASE"),
    ("RLE", lambda: compressed(RLELossless), "BASE"),
    ("JPEG-LS", lambda: compressed(JPEGLSLossless), "BASE"),
    ("JPEG 2000", lambda: compressed(JPEG2000Lossless), "BASE"),
    ("wide window", lambda: windowed(image_dataset(ramp()), 2048, 4096), "BASE"),
    ("narrow window", lambda: windowed(image_dataset(ramp()), 2000, 1000), "NARROW"),
    ("VOI LUT", lambda: lookup(CURVE, "VOILUTSequence")(image_dataset(ramp())), "CURVE"),
    ("modality LUT", lambda: lookup(CURVE, "ModalityLUTSequence")(image_dataset(ramp())), "CURVE"),
]
PINNED = {
    "BASE": "86ffbade1978b93a",
    "TEN": "ebd03453c284db7d",
    "EIGHT": "e63d079273311863",
    "NARROW": "877f1448e75614ce",
    "CURVE": "243fd9ed8f4acfec",
}


@pytest.mark.parametrize(("build", "expected"), [g[1:] for g in GOLDEN], ids=[g[0] for g in GOLDEN])
def test_array_of_each_encoding_is_pinned(build: Callable[[], FileDataset], expected: str) -> None:
    picture = radiograph(build())
    assert picture.shape == (1, 32, 32)
    assert picture.dtype == np.float32
    assert digest(picture) == PINNED[expected]


def test_monochrome1_and_2_give_equal_arrays() -> None:
    assert np.array_equal(radiograph(monochrome1(ramp(), 4095)), radiograph(image_dataset(ramp())))


def test_inverse_presentation_shape_is_inverted_once() -> None:
    plain = radiograph(image_dataset(ramp()))
    inverse = monochrome1(ramp(), 4095)
    inverse.PresentationLUTShape = "INVERSE"
    assert np.array_equal(radiograph(inverse), plain)
    shape_only = image_dataset(4095 - ramp())
    shape_only.PresentationLUTShape = "INVERSE"
    assert np.array_equal(radiograph(shape_only), plain)


def test_aspect_is_kept_by_black_borders() -> None:
    picture = square_picture(np.ones((40, 20), dtype=np.float32), 40)
    assert picture[:, :10].max() == 0 and picture[:, 30:].max() == 0
    assert picture[:, 10:30].min() == 1
    small = square_picture(np.ones((400, 200), dtype=np.float32), 40)
    assert small[:, 11:29].min() == pytest.approx(1)
    assert small[:, :9].max() == 0


def test_resize_averages_instead_of_picking() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2
    assert square_picture(board.astype(np.float32), 16) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("kind", ["garbage", "truncated", "no pixels"])
def test_undecodable_file_is_a_named_error_without_values(kind: str) -> None:
    ds = image_dataset(ramp())
    data = {"garbage": b"not an image at all", "truncated": dicom_bytes(ds)[:-500]}
    if kind == "no pixels":
        del ds.PixelData
    with pytest.raises(ImageUnreadable) as caught:
        prepare([data.get(kind) or dicom_bytes(ds)], CXR)
    assert str(caught.value) in {"DATA-IMAGE: header", "DATA-IMAGE: pixels"}


def test_colour_frames_and_blank_images_are_refused() -> None:
    colour, frames = image_dataset(ramp()), image_dataset(ramp())
    colour.PhotometricInterpretation = "RGB"
    frames.NumberOfFrames = "2"
    blank = image_dataset(np.full((8, 8), 7, dtype=np.uint16))
    for ds in (colour, frames, blank):
        with pytest.raises(ImageUnsupported):
            radiograph(ds)


def test_radiograph_of_two_files_is_refused() -> None:
    data = dicom_bytes(image_dataset(ramp()))
    with pytest.raises(ImageUnsupported):
        prepare([data, data], CXR)


def planes(count: int = 4, side: int = 16) -> NDArray[np.int16]:
    """Return planes in HU whose first pixel tells the plane and the second the clip range."""
    volume = np.full((count, side, side), -300, dtype=np.int16)
    volume[:, 0, 0] = 100 * np.arange(count)
    volume[:, 0, 1], volume[:, 0, 2] = -1024, 3000
    return volume


def stack(volume: NDArray[np.int16], depths: list[float], **changes: object) -> list[bytes]:
    return [
        dicom_bytes(ct_slice(plane, depth, **changes))  # type: ignore[arg-type]
        for plane, depth in zip(volume, depths, strict=True)
    ]


def test_stack_is_ordered_by_position_and_windowed_to_unit() -> None:
    files = stack(planes(), [0.0, 1.25, 2.5, 3.75])
    expected = (planes().astype(np.float32) + 1000) / np.float32(1275)
    expected = np.clip(expected, 0, 1)
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        picture = prepare([files[index] for index in order], CT)
        assert np.array_equal(picture, expected)


def test_deep_stack_is_picked_evenly_and_thin_one_centred() -> None:
    picked = prepare(stack(planes(10), [float(z) for z in range(10)]), CT)
    assert (picked[:, 0, 0] * 1275 - 1000).round().tolist() == [0, 275, 275, 275]
    thin = prepare(stack(planes(2), [0.0, 1.0]), CT)
    assert thin[0].max() == 0 and thin[3].max() == 0
    assert thin[1].max() == 1 and thin[2].max() == 1


def test_plane_of_another_size_is_resampled() -> None:
    picture = prepare(stack(planes(4, side=32), [0.0, 1.0, 2.0, 3.0]), CT)
    assert picture.shape == (4, 16, 16)
    assert picture[:, 8, 8] == pytest.approx(700 / 1275, abs=1e-6)


@pytest.mark.parametrize(
    ("depths", "reason"),
    [([0.0, 1.0, 2.0, 4.0], "gap"), ([0.0, 1.0, 1.0, 2.0], "doubled")],
)
def test_gap_and_double_are_refused(depths: list[float], reason: str) -> None:
    with pytest.raises(StackRefused, match=reason):
        prepare(stack(planes(), depths), CT)


def test_tilt_mixed_planes_and_missing_geometry_are_refused() -> None:
    tilted = [
        dicom_bytes(ct_slice(plane, float(z), in_plane_mm=(0.0, round(0.3 * z, 3))))
        for z, plane in enumerate(planes())
    ]
    with pytest.raises(StackRefused, match="tilted"):
        prepare(tilted, CT)
    files = stack(planes(), [0.0, 1.0, 2.0, 3.0])
    files[1] = dicom_bytes(ct_slice(planes()[0], 1.0, orientation=(0, 1, 0, 1, 0, 0)))
    with pytest.raises(StackRefused, match="parallel"):
        prepare(files, CT)
    files[1] = dicom_bytes(ct_slice(planes(1, side=8)[0], 1.0))
    with pytest.raises(StackRefused, match="unequal"):
        prepare(files, CT)
    bare = ct_slice(planes()[0], 0.0)
    del bare.ImagePositionPatient
    with pytest.raises(ImageUnreadable, match="geometry"):
        prepare([dicom_bytes(bare)], CT)
    unscaled = ct_slice(planes()[0], 0.0)
    del unscaled.RescaleSlope
    with pytest.raises(ImageUnreadable, match="pixels"):
        prepare([dicom_bytes(unscaled)], CT)
    with pytest.raises(StackRefused):
        prepare([], CT)


def test_sagittal_stack_is_ordered_along_its_own_normal() -> None:
    volume = planes()
    files = []
    for index, plane in enumerate(volume):
        ds = ct_slice(plane, 0.0, orientation=(0, 1, 0, 0, 0, -1))
        ds.ImagePositionPatient = [str(-2.0 * index), "5", "7"]
        files.append(dicom_bytes(ds))
    picture = prepare(list(reversed(files)), CT)
    assert (picture[:, 0, 0] * 1275 - 1000).round().tolist() == [0, 100, 200, 275]
