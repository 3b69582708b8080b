"""Pixels of an output and its source: equal, equal but for black, or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from pleura.anonymizer import matching
from pleura.anonymizer.burnedin.boxes import Box
from pleura.anonymizer.burnedin.clean import Reading
from pleura.anonymizer.burnedin.redact import redacted
from pleura.anonymizer.matching import Match, match_pixels
from pleura.anonymizer.pixels.decode import FrameReader
from pleura.anonymizer.source import FileSource
from tests.builders.identified import ct_dataset, write

SIDE = 16
VALUES = (np.arange(SIDE * SIDE, dtype="<u2") * 3 + 5).reshape(SIDE, SIDE)


def grey(pixels: np.ndarray = VALUES, **changes: object) -> Dataset:
    frames = pixels.size // (SIDE * SIDE)
    many = {"NumberOfFrames": frames} if frames > 1 else {}
    return ct_dataset(Rows=SIDE, Columns=SIDE, PixelData=pixels.tobytes(), **many, **changes)


def colour(pixels: np.ndarray, photometric: str = "RGB") -> Dataset:
    return ct_dataset(
        Rows=SIDE, Columns=SIDE, SamplesPerPixel=3, PhotometricInterpretation=photometric,
        PlanarConfiguration=0, BitsAllocated=8, BitsStored=8, HighBit=7,
        PixelData=pixels.astype(np.uint8).tobytes(),
    )  # fmt: skip


def matched(folder: Path, before: Dataset, after: Dataset, syntax: str | None = None) -> Match:
    """Write a pair, the source in `syntax`, and compare it."""
    source_path = write(folder / "before.dcm", before, syntax=syntax or ExplicitVRLittleEndian)
    with (
        FileSource(source_path) as source,
        FileSource(write(folder / "after.dcm", after)) as output,
    ):
        return match_pixels(source, output)


def changed(pixels: np.ndarray, where: tuple[slice, ...], fill: object) -> np.ndarray:
    copy = pixels.copy()
    copy[where] = fill
    return copy


BOX = (slice(2, 5), slice(3, 9))


def test_equal_bytes_are_equal_pixels_and_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> FrameReader:
        raise AssertionError("decoded")

    monkeypatch.setattr(matching, "open_frames", refuse)
    assert matched(tmp_path, grey(), grey()) == Match("same", SIDE * SIDE)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_pixels_are_compared_however_they_are_encoded(tmp_path: Path, syntax: str) -> None:
    swapped = VALUES.astype(">u2") if syntax == ExplicitVRBigEndian else VALUES
    assert matched(tmp_path, grey(swapped), grey(), syntax) == Match("same", SIDE * SIDE)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_a_recompressed_picture_is_the_same(tmp_path: Path, syntax: str) -> None:
    plain = write(tmp_path / "plain.dcm", grey())
    ds = dcmread(plain)
    ds.compress(syntax, generate_instance_uid=False)
    ds.save_as(tmp_path / "packed.dcm")
    with FileSource(plain) as source, FileSource(tmp_path / "packed.dcm") as output:
        assert match_pixels(source, output).outcome == "same"


def test_what_the_redaction_blacks_out_is_counted_and_nothing_else_differs(tmp_path: Path) -> None:
    frames = np.stack([VALUES, VALUES + 100, VALUES[::-1]])

    class Frames:
        count = 3

        def frame(self, index: int) -> np.ndarray:
            return frames[index]

    reading = Reading(3, 2, 0, True, {1: (Box(3, 2, 9, 5),), 2: (Box(0, 0, 4, 2),)})
    done = np.stack(list(redacted(Frames(), "MONOCHROME2", reading)))
    found = matched(tmp_path, grey(frames), grey(done))
    assert found == Match("blacked out", 3 * SIDE * SIDE, 18 + 8)


@pytest.mark.parametrize("fill", [0, 4, 6, 4095])
def test_a_changed_pixel_that_is_not_the_darkest_is_no_match(tmp_path: Path, fill: int) -> None:
    assert matched(tmp_path, grey(), grey(changed(VALUES, BOX, fill))).outcome == "changed"
    black = grey(changed(VALUES, BOX, VALUES.min()))
    assert matched(tmp_path, grey(), black) == Match("blacked out", SIDE * SIDE, 18)


def test_one_bit_of_one_frame_is_found(tmp_path: Path) -> None:
    frames = np.stack([VALUES] * 4)
    other = changed(frames, (slice(3, 4), slice(7, 8), slice(7, 8)), VALUES[7, 7] ^ 1)
    assert matched(tmp_path, grey(frames), grey(other)).outcome == "changed"


def test_black_of_an_inverted_picture_is_its_largest_value(tmp_path: Path) -> None:
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    for fill, outcome in ((VALUES.max(), "blacked out"), (VALUES.min(), "changed")):
        after = grey(changed(VALUES, BOX, fill), **inverted)
        assert matched(tmp_path, grey(**inverted), after).outcome == outcome


@pytest.mark.parametrize(
    ("photometric", "black"), [("RGB", (0, 0, 0)), ("YBR_FULL", (0, 128, 128))]
)
def test_black_of_colour_is_black_in_every_sample(
    tmp_path: Path, photometric: str, black: tuple[int, ...]
) -> None:
    pixels = np.stack([VALUES % 200 + 9] * 3, axis=2)
    done = colour(changed(pixels, BOX, black), photometric)
    assert matched(tmp_path, colour(pixels, photometric), done).outcome == "blacked out"
    red = colour(changed(pixels, BOX, (90, *black[1:])), photometric)
    assert matched(tmp_path, colour(pixels, photometric), red).outcome == "changed"


def palette(pixels: np.ndarray, colours: bytes = bytes(range(255, -1, -1))) -> Dataset:
    ds = ct_dataset(
        Rows=SIDE, Columns=SIDE, PhotometricInterpretation="PALETTE COLOR", BitsAllocated=8,
        BitsStored=8, HighBit=7, PixelData=pixels.astype(np.uint8).tobytes(),
    )  # fmt: skip
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(ds, f"{name}PaletteColorLookupTableData", colours)
    return ds


def test_black_of_a_palette_is_its_darkest_index_and_the_palette_has_to_stay(
    tmp_path: Path,
) -> None:
    pixels = VALUES % 200
    done = palette(changed(pixels, BOX, 255))
    assert matched(tmp_path, palette(pixels), done).outcome == "blacked out"
    assert matched(tmp_path, palette(pixels), palette(changed(pixels, BOX, 0))).outcome == "changed"
    other = bytes(range(256))
    assert matched(tmp_path, palette(pixels), palette(pixels, other)).outcome == "changed"


def test_unused_bits_that_were_cleared_are_no_change(tmp_path: Path) -> None:
    dirty = VALUES | 0xA000
    assert matched(tmp_path, grey(dirty), grey()).outcome == "same"


def test_text_alone_on_black_may_go_as_a_whole_and_a_picture_may_not(tmp_path: Path) -> None:
    text = changed(np.zeros_like(VALUES), BOX, 800)
    nothing = grey(np.zeros_like(VALUES))
    assert matched(tmp_path, grey(text), nothing).outcome == "blacked out"
    picture = VALUES - VALUES.min()
    assert matched(tmp_path, grey(picture), nothing).outcome == "changed"


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.__delitem__("PixelData"),
        lambda ds: ds.update({"Rows": 8, "Columns": 32}),
        lambda ds: ds.update({"PhotometricInterpretation": "MONOCHROME1"}),
        lambda ds: ds.update({"PixelRepresentation": 1}),
        lambda ds: ds.update({"NumberOfFrames": "2", "Rows": 8}),
    ],
    ids=["gone", "shape", "inverted", "signed", "frames"],
)
def test_a_picture_that_is_seen_otherwise_is_no_match(
    tmp_path: Path, change: Callable[[Dataset], object]
) -> None:
    after = grey()
    change(after)
    assert matched(tmp_path, grey(), after).outcome == "changed"
    assert matched(tmp_path, after, grey()).outcome == "changed"


def test_two_files_without_pixels_have_nothing_to_compare(tmp_path: Path) -> None:
    bare = ct_dataset(PixelData=None)
    assert matched(tmp_path, bare, bare).outcome == "none"


def test_not_a_number_is_equal_to_itself(tmp_path: Path) -> None:
    values = np.full((SIDE, SIDE), np.nan, "<f4")
    values[0, :2] = 1, 2

    def floats(pixels: np.ndarray) -> Dataset:
        ds = ct_dataset(
            Rows=SIDE, Columns=SIDE, BitsAllocated=32, BitsStored=None, HighBit=None, PixelData=None
        )
        ds.FloatPixelData = pixels.tobytes()
        return ds

    first = (slice(0, 1), slice(0, 1))
    gone, other = changed(values, first, np.nan), changed(values, first, 3)
    assert matched(tmp_path, floats(values), floats(gone)) == Match("blacked out", SIDE * SIDE, 1)
    assert matched(tmp_path, floats(values), floats(other)).outcome == "changed"


def test_what_cannot_be_decoded_is_told_and_not_passed(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.dcm", grey())
    ds = dcmread(plain)
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    ds.PixelData = ds.PixelData[:24] + bytes(len(ds.PixelData) - 32) + ds.PixelData[-8:]
    ds.save_as(tmp_path / "broken.dcm")
    (tmp_path / "none.dcm").write_bytes(b"no DICOM")
    for name in ("broken.dcm", "none.dcm"):
        with FileSource(plain) as source, FileSource(tmp_path / name) as output:
            assert match_pixels(source, output) == Match("undecodable"), name
            assert match_pixels(output, source) == Match("undecodable"), name


def test_broken_streams_that_are_the_same_bytes_are_the_same(tmp_path: Path) -> None:
    ds = dcmread(write(tmp_path / "plain.dcm", grey()))
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.PixelData = ds.PixelData[:-40] + bytes(32) + ds.PixelData[-8:]
    ds.save_as(tmp_path / "broken.dcm")
    with FileSource(tmp_path / "broken.dcm") as source:
        assert match_pixels(source, source).outcome == "same"


def test_one_frame_of_each_file_is_asked_for_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    frame = FrameReader.frame

    def noted(self: FrameReader, index: int) -> np.ndarray:
        asked.append(index)
        return frame(self, index)

    monkeypatch.setattr(FrameReader, "frame", noted)
    frames = np.stack([VALUES] * 3)
    done = changed(frames, (slice(1, 2), *BOX), VALUES.min())
    assert matched(tmp_path, grey(frames), grey(done)).outcome == "blacked out"
    assert sorted(asked) == sorted([0, 0, *[i for i in range(3) for _ in range(2)]])
