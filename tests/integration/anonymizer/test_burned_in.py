"""Text burned into real encodings of pixels: found, blacked out, and nothing else touched."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pleura.anonymizer.engine import Deidentified, deidentify_file
from pleura.anonymizer.errors import FaceInField
from tests.builders.deidentified import GDPR, KEY, run
from tests.builders.identified import ct_dataset, write
from tests.builders.pictures import COLUMNS, ROWS, ground, ink, picture

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr_onnxruntime") is None,
    reason="the extra ocr is not installed",
)

US_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.3.1"
NAME = "QUIBBLEWORTH 7733"


def pixels(result: Deidentified) -> np.ndarray:
    return dcmread(result.path).pixel_array


def blackened(before: np.ndarray, after: np.ndarray, black: int = 0) -> np.ndarray:
    """Return where two frames differ; every such pixel is black."""
    differs = before != after
    if differs.ndim == 3:
        differs = differs.any(axis=2)
        assert (after[differs] == black).all()
    else:
        assert (after[differs] == black).all()
    return differs


def test_case_5_text_goes_from_every_frame_of_a_planar_colour_ultrasound(tmp_path: Path) -> None:
    frames = np.stack([np.repeat(ground(i)[..., None], 3, axis=2) for i in range(3)])
    frames = (frames.astype(np.uint8) // 2) + 1  # nothing but redaction is 0
    letters = ink(NAME, 12, 10)
    frames[:, letters] = (255, 230, 40)
    ds = ct_dataset(SOPClassUID=US_MULTIFRAME, Modality="US")
    source = write(tmp_path / "a.dcm", picture(ds, frames, "RGB", planar=1))
    result = run(source, tmp_path / "out")
    written = dcmread(result.path)
    after = written.pixel_array
    assert after.shape == frames.shape
    for old, new in zip(frames, after, strict=True):
        gone = blackened(old, new)
        assert gone[letters].all()
        assert gone.mean() < 0.15
        assert np.array_equal(old[~gone], new[~gone])
    assert (written.PhotometricInterpretation, written.PlanarConfiguration) == ("RGB", 1)
    assert written.BurnedInAnnotation == "NO"
    assert result.receipt.ocr is not None
    assert result.receipt.ocr.frames == 3
    assert result.receipt.ocr.boxes >= 3
    assert "113101" in result.receipt.method_codes


def test_case_6_text_on_frame_3_of_5_goes_and_the_others_stay(tmp_path: Path) -> None:
    frames = np.stack([ground(i) * 10 + 1 for i in range(5)]).astype(np.uint16)
    letters = ink(NAME, 20, 200)
    frames[2][letters] = 4000
    ds = ct_dataset(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.12.1", Modality="XA", BitsStored=16, HighBit=15
    )
    source = write(tmp_path / "a.dcm", picture(ds, frames, "MONOCHROME2"))
    result = run(source, tmp_path / "out")
    after = pixels(result)
    for index in (0, 1, 3, 4):
        assert np.array_equal(after[index], frames[index])
    gone = blackened(frames[2], after[2], int(frames[2].min()))
    assert gone[letters].all()
    assert result.receipt.ocr is not None
    assert result.receipt.ocr.frames == 5


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian,
                                    ExplicitVRBigEndian, RLELossless])  # fmt: skip
def test_redaction_keeps_every_other_pixel_in_any_syntax(tmp_path: Path, syntax: str) -> None:
    frame = (ground() * 10 + 1).astype(np.uint16)
    letters = ink(NAME, 30, 120)
    frame[letters] = 4000
    ds = picture(ct_dataset(Modality="DX"), frame[None], "MONOCHROME2")
    if syntax == RLELossless:
        source = write(tmp_path / "a.dcm", ds)
        compressed = dcmread(source)
        compressed.compress(RLELossless)
        compressed.save_as(source)
    else:
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = frame.astype(">u2").tobytes()
        source = write(tmp_path / "a.dcm", ds, syntax=syntax)
    result = run(source, tmp_path / "out")
    written = dcmread(result.path)
    assert written.file_meta.TransferSyntaxUID == syntax
    after = written.pixel_array
    gone = blackened(frame, after, int(frame.min()))
    assert gone[letters].all()
    assert gone.mean() < 0.15


def test_letters_of_any_size_go(tmp_path: Path) -> None:
    frame = (ground() * 10 + 1).astype(np.uint16)
    letters = ink("ZORBA", 40, 90, size=48)
    frame[letters] = 4000
    ds = picture(ct_dataset(Modality="DX"), frame[None], "MONOCHROME2")
    after = pixels(run(write(tmp_path / "a.dcm", ds), tmp_path / "out"))
    assert blackened(frame, after, int(frame.min()))[letters].all()


@pytest.mark.parametrize("way", ["left", "right", "upside down", "mirrored", "mirrored down"])
def test_turned_and_mirrored_text_goes(tmp_path: Path, way: str) -> None:
    frame = (ground() * 10 + 1).astype(np.uint16)
    letters = ink(NAME, 30, 120)
    frame[letters] = 4000
    sides = max(ROWS, COLUMNS)
    frame, letters = (np.pad(a, ((0, sides - ROWS), (0, 0))) for a in (frame, letters))
    turns = {"left": (1, 1), "right": (3, 1), "upside down": (2, 1), "mirrored": (0, -1)}
    quarters, across = turns.get(way, (2, -1))
    frame, letters = (np.rot90(a, quarters)[:, ::across] for a in (frame, letters))
    ds = picture(ct_dataset(Modality="DX"), frame[None], "MONOCHROME2")
    ds.Rows = ds.Columns = sides
    after = pixels(run(write(tmp_path / "a.dcm", ds), tmp_path / "out"))
    gone = blackened(frame, after, int(frame.min()))
    assert gone[letters].all()
    assert gone.mean() < 0.15


@pytest.mark.parametrize("degrees", [-60, -20, 10, 35])
def test_slanted_text_goes_along_its_slant(tmp_path: Path, degrees: int) -> None:
    flat = np.pad(ink("QUIBBLEWORTH", 70, 105, size=22), ((100, 100), (100, 100)))
    turned = Image.fromarray(flat).convert("L").rotate(degrees, resample=Image.Resampling.BICUBIC)
    cover = np.asarray(turned)[40:-40, 40:-40] / 255
    frame = (700 * (1 - cover) + 4000 * cover).astype(np.uint16)
    frame[0, 0] = 1
    ds = picture(ct_dataset(Modality="DX"), frame[None], "MONOCHROME2")
    ds.Rows, ds.Columns = frame.shape
    after = pixels(run(write(tmp_path / "a.dcm", ds), tmp_path / "out"))
    gone = blackened(frame, after, 1)
    assert gone[cover > 0.3].all()
    assert gone.mean() < 0.15


@pytest.mark.parametrize("text", ["ΠΑΠΑΔΟΠΟΥΛΟΣ Γιώργος", "محمد عبدالله", "אברהם כהן משה"])
def test_scripts_nobody_reads_go_where_they_are_drawn_in_white(tmp_path: Path, text: str) -> None:
    face = pytest.importorskip("matplotlib").get_data_path() + "/fonts/ttf/DejaVuSans.ttf"
    image = Image.new("L", (COLUMNS, ROWS))
    font = ImageFont.truetype(face, 20)
    ImageDraw.Draw(image).text((30, 100), text, fill=255, font=font)
    letters = np.asarray(image) > 100
    frame = (ground() * 10 + 1).astype(np.uint16)
    frame[letters] = 4000
    ds = picture(ct_dataset(Modality="DX"), frame[None], "MONOCHROME2")
    after = pixels(run(write(tmp_path / "a.dcm", ds), tmp_path / "out"))
    gone = blackened(frame, after, int(frame.min()))
    assert gone[letters].mean() > 0.95
    assert gone.mean() < 0.2


def test_black_of_an_inverted_radiograph_is_its_largest_value(tmp_path: Path) -> None:
    frame = (ground() * 10 + 1).astype(np.uint16)
    letters = ink(NAME, 30, 120)
    frame[letters] = 0
    frame[0, 0] = 4095
    ds = picture(ct_dataset(Modality="DX"), frame[None], "MONOCHROME1")
    after = pixels(run(write(tmp_path / "a.dcm", ds), tmp_path / "out"))
    assert (after[letters] == 4095).all()


def test_a_side_marker_stays_and_the_pixels_keep_their_bytes(tmp_path: Path) -> None:
    frame = (ground() * 10 + 1).astype(np.uint16)
    frame[ink("PORTABLE", 30, 40, size=26)] = 4000
    ds = picture(ct_dataset(Modality="DX"), frame[None], "MONOCHROME2")
    result = run(write(tmp_path / "a.dcm", ds), tmp_path / "out")
    assert np.array_equal(pixels(result), frame)
    assert result.receipt.ocr is not None
    assert (result.receipt.ocr.boxes, result.receipt.ocr.markers) == (0, 1)
    assert "113101" in result.receipt.method_codes


def test_a_marker_that_is_the_patients_name_goes(tmp_path: Path) -> None:
    frame = (ground() * 10 + 1).astype(np.uint16)
    letters = ink("SUPINE", 30, 40, size=26)
    frame[letters] = 4000
    ds = picture(ct_dataset(Modality="DX", PatientName="Supine^Ada"), frame[None], "MONOCHROME2")
    after = pixels(run(write(tmp_path / "a.dcm", ds), tmp_path / "out"))
    assert blackened(frame, after, int(frame.min()))[letters].all()


def test_text_of_a_palette_image_is_seen_in_its_colours(tmp_path: Path) -> None:
    """Index 200 is drawn on index 201: neighbours as numbers, white on dark as colours."""
    frame = np.full((ROWS, COLUMNS), 201, np.uint8)
    letters = ink(NAME, 30, 120)
    frame[letters] = 200
    ds = picture(ct_dataset(Modality="US"), frame[None], "PALETTE COLOR")
    table = np.full(256, 40 << 8, np.uint16)
    table[200], table[7] = 0xFFFF, 0
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", table.astype("<u2").tobytes())
    after = pixels(run(write(tmp_path / "a.dcm", ds), tmp_path / "out"))
    assert (after[letters] == 7).all()


def test_a_single_slice_is_not_read_and_nothing_is_claimed(tmp_path: Path) -> None:
    result = run(write(tmp_path / "a.dcm", ct_dataset()), tmp_path / "out")
    assert result.receipt.ocr is None
    assert "113101" not in result.receipt.method_codes
    read = deidentify_file(tmp_path / "a.dcm", tmp_path / "all", profile=GDPR, key=KEY, ocr="all")
    assert read.receipt.ocr is not None
    assert "113101" in read.receipt.method_codes


@pytest.mark.parametrize(
    "changes",
    [
        {"BodyPartExamined": "HEAD"},
        {"BodyPartExamined": "Neck"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    ],
)
def test_a_field_that_may_reach_the_face_is_refused(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset(**changes))
    with pytest.raises(FaceInField):
        run(source, tmp_path / "out")
