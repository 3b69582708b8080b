"""Decoding: every syntax has its own decoder, and a broken stream is an error, not an abort."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000Lossless, RLELossless

from pleura.anonymizer.pixels.decode import DECODERS
from pleura.client.data.pixels import decode
from pleura.client.errors import ImageUnreadable
from tests.builders.dicom_cases import write_sound, write_undecodable

ATTEMPT = """
import sys
from pydicom import dcmread
from pleura.client.data.pixels import decode
from pleura.client.errors import ImageUnreadable
try:
    decode(dcmread(sys.argv[1]))
except ImageUnreadable as error:
    print(error.code)
"""


def test_a_broken_stream_is_a_named_error_and_the_process_lives(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    write_undecodable(path)
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPT, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, ImageUnreadable.code)


@pytest.mark.parametrize("syntax", sorted(DECODERS))
def test_the_named_decoder_is_installed(syntax: str) -> None:
    assert DECODERS[syntax] in get_decoder(syntax).available_plugins  # type: ignore[index]


def test_gdcm_decodes_only_what_nothing_else_does() -> None:
    for syntax, name in DECODERS.items():
        if name == "gdcm":
            assert set(get_decoder(syntax).available_plugins) <= {"gdcm", "pillow"}


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_pixels_equal_their_source(tmp_path: Path, syntax: str) -> None:
    write_sound(tmp_path / "sound")
    plain = dcmread(tmp_path / "sound")
    expected = decode(plain).copy()
    plain.compress(syntax)
    plain.save_as(tmp_path / "compressed")
    assert np.array_equal(decode(dcmread(tmp_path / "compressed")), expected)


def test_an_object_without_pixels_is_a_named_error(tmp_path: Path) -> None:
    write_sound(tmp_path / "sound")
    dataset = dcmread(tmp_path / "sound")
    del dataset.PixelData
    with pytest.raises(ImageUnreadable):
        decode(dataset)
