"""What hides in pixel data goes, and the image stays as it was to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from pleura.anonymizer.errors import Undecodable
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.uncovering import uncover
from pleura.anonymizer.wire import parse_file
from tests.builders.deidentified import run
from tests.builders.identified import ct_dataset, write


def jpeg(comment: bytes) -> bytes:
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(file, "jpeg")
    stream = file.getvalue()
    return stream[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + stream[2:]


def jpeg_dataset(stream: bytes) -> Dataset:
    ds = ct_dataset(BitsAllocated=8, BitsStored=8, HighBit=7)
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return ds


def test_bits_above_the_image_are_cleared(tmp_path: Path) -> None:
    image = np.arange(64, dtype="<u2")
    ds = ct_dataset()
    ds.PixelData = (image | 0x3000).tobytes()
    result = run(write(tmp_path / "a", ds), tmp_path / "out")
    assert dcmread(result.path).PixelData == image.tobytes()
    assert result.receipt.actions["hidden_bits"] == 1


def test_a_comment_in_a_code_stream_is_stripped(tmp_path: Path) -> None:
    ds = jpeg_dataset(jpeg(b"Quibbleworth, Ludmilla"))
    source = write(tmp_path / "a", ds, syntax=JPEGBaseline8Bit)
    assert b"Quibbleworth, Ludmilla" in source.read_bytes()
    result = run(source, tmp_path / "out")
    after = dcmread(result.path)
    assert b"Ludmilla" not in result.path.read_bytes()
    assert (after.pixel_array == dcmread(source).pixel_array).all()
    assert result.receipt.actions["comments"] == 1
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("has_pixels", [True, False])
def test_where_nothing_hides_nothing_is_written(tmp_path: Path, has_pixels: bool) -> None:
    ds = ct_dataset() if has_pixels else ct_dataset(PixelData=None)
    with FileSource(write(tmp_path / "a", ds)) as source:
        parsed = parse_file(source)
        same, counts = uncover(parsed, tmp_path)
    assert same is parsed
    assert not counts
    clean = jpeg_dataset(jpeg(b""))
    clean.PixelData = encapsulate([jpeg(b"")[:2] + jpeg(b"")[6:]])
    clean["PixelData"].VR = "OB"
    path = write(tmp_path / "b", clean, syntax=JPEGBaseline8Bit)
    with FileSource(path) as source:
        once, _ = uncover(parse_file(source), tmp_path)
        again, counts = uncover(once, tmp_path)
    assert again is once
    assert not counts


def test_a_broken_code_stream_is_refused(tmp_path: Path) -> None:
    ds = jpeg_dataset(b"\xff\x4f\xff\x51\x00")
    with FileSource(write(tmp_path / "a", ds, syntax=JPEG2000Lossless)) as source:
        parsed = parse_file(source)
        with pytest.raises(Undecodable):
            uncover(parsed, tmp_path)
