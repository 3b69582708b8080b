"""What libraries say quotes values; none of it reaches a log."""

from __future__ import annotations

import logging
import struct
import subprocess
import sys

import pytest

from pleura.anonymizer.errors import Undecodable
from pleura.anonymizer.pixels.decode import JPEG_LS, decode_stream
from tests.builders.pixel_streams import facts_of

NAMES = [
    "pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.encoders.base",
    "pydicom.pixels.utils", "pydicom.some.module.to.come", "pylibjpeg.utils", "openjpeg.utils",
    "jpeg_ls",
]  # fmt: skip

SPEAK = """
import logging, sys
from pleura.anonymizer.pixels import decode
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
for name in sys.argv[1:]:
    logging.getLogger(name).critical("Quibbleworth, Ludmilla")
    try:
        raise ValueError("MRN-7733")
    except ValueError as error:
        logging.getLogger(name).exception(error)
logging.getLogger("another").critical("heard")
"""


def test_no_logger_of_a_dicom_library_reaches_a_handler() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPEAK, *NAMES], capture_output=True, text=True, check=True
    )
    assert "heard" in done.stderr
    assert "Quibbleworth" not in done.stderr + done.stdout
    assert "MRN-7733" not in done.stderr + done.stdout


def test_a_codec_that_fails_says_nothing_and_names_no_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    facts = facts_of(JPEG_LS, 8, photometric="QUIBBLEWORTH")
    header = b"\xff\xf7" + struct.pack(">HBHHB", 11, 8, 4, 6, 1) + b"\1\x11\0"
    with caplog.at_level(logging.DEBUG), pytest.raises(Undecodable) as caught:
        decode_stream(facts, b"\xff\xd8" + header + b"no image")
    assert not caplog.records
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "QUIBBLEWORTH" not in str(caught.value)
