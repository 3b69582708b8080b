"""Decoding a frame at a time: one named decoder for each transfer syntax (DEID 8).

Left to choose, pydicom tries GDCM first, which aborts the whole process on a broken JPEG 2000
stream instead of raising. GDCM is used only for the syntaxes that nothing else decodes; if a
decoder ends the process all the same, that is one worker of a batch and its file is INTERNAL.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from pleura.anonymizer.encoding import DicomFile
from pleura.anonymizer.errors import Truncated, Undecodable
from pleura.anonymizer.pixels.codestream import announced, strip_jpeg
from pleura.anonymizer.pixels.extended import PRECISION, decode_extended
from pleura.anonymizer.pixels.facts import ImageFacts, pixel_element, span_of
from pleura.anonymizer.pixels.items import Fragment, frame_bytes, group_frames
from pleura.anonymizer.pixels.packed import inflated, unpacked_bits
from pleura.anonymizer.source import Span

DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"
JPEG_EXTENDED: Final = "1.2.840.10008.1.2.4.51"
RLE: Final = "1.2.840.10008.1.2.5"
JPEG_LS: Final = "1.2.840.10008.1.2.4.80"
J2K: Final = "1.2.840.10008.1.2.4.90"
DECODERS: Final = {
    "1.2.840.10008.1.2.4.50": "pillow",
    JPEG_EXTENDED: "gdcm",
    "1.2.840.10008.1.2.4.57": "gdcm",
    "1.2.840.10008.1.2.4.70": "gdcm",
    JPEG_LS: "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    J2K: "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    RLE: "pylibjpeg",
}
Frame = NDArray[Any]
_decoder = lru_cache(maxsize=32)(get_decoder)


class FrameReader:
    """Frames by index; one is in memory at a time."""

    def __init__(self, facts: ImageFacts, span: Span, groups: list[list[Fragment]] | None) -> None:
        """Take the facts as the header has them; `groups` is None for native pixels."""
        self.source_facts, self._span, self._groups = facts, span, groups
        self.count = facts.frames
        self._photometric: str | None = None

    @property
    def facts(self) -> ImageFacts:
        """The facts of the decoded samples: their true colour space, pixel by pixel.

        Raises:
            Undecodable: the first frame does not decode.
        """
        if self._photometric is None:
            self.frame(0)
        return replace(self.source_facts, photometric=self._photometric or "", planar=0)

    def frame(self, index: int) -> Frame:
        """Return one frame, (rows, columns) or (rows, columns, samples), as stored.

        Raises:
            Undecodable: the stream is broken or its syntax has no decoder.
            Truncated: native pixels end early.
        """
        facts = self.source_facts
        if not 0 <= index < self.count:
            raise IndexError(index)
        self._photometric = self._photometric or upsampled(facts.photometric)
        if self._groups is None:
            return _native_frame(facts, self._span, index)
        stream = frame_bytes(self._span, self._groups[index])
        if facts.transfer_syntax == DEFLATED_FRAMES:
            return _shaped(facts, inflated(facts, stream), 0)
        if facts.transfer_syntax == RLE and facts.allocated == 1:
            return _shaped(facts, unpacked_bits(facts, stream), 0)
        decoded, self._photometric = decode_stream(facts, stream)
        return decoded


def open_frames(parsed: DicomFile, facts: ImageFacts) -> FrameReader:
    """Return a reader of the frames of a file.

    Raises:
        Undecodable: no decoder for the syntax, or broken fragments.
        Truncated: native pixels end early.
    """
    element = pixel_element(parsed)
    if element is None:
        raise Undecodable("no pixels")
    span = span_of(element)
    if not element.is_encapsulated:
        if facts.transfer_syntax in DECODERS or facts.transfer_syntax == DEFLATED_FRAMES:
            raise Undecodable("pixels without fragments")
        if span.size * 8 < facts.frame_bits * facts.frames:
            raise Truncated()
        return FrameReader(facts, span, None)
    if facts.transfer_syntax not in DECODERS and facts.transfer_syntax != DEFLATED_FRAMES:
        raise Undecodable("transfer syntax without decoder")
    return FrameReader(facts, span, group_frames(parsed, facts, span))


def decode_stream(facts: ImageFacts, stream: bytes) -> tuple[Frame, str]:
    """Return the frame of one compressed bit stream and its true photometric interpretation.

    Raises:
        Undecodable: the stream is broken or does not have the header's shape.
    """
    if DECODERS[facts.transfer_syntax] == "gdcm":
        stream = strip_jpeg(stream)  # GDCM may abort the process where markers are broken
    is_narrow = False  # whether signs have to be extended to bits the stream does not have
    if facts.transfer_syntax != RLE:
        precision, *shape = announced(stream)
        is_narrow = precision == facts.stored == facts.high_bit + 1
        if shape != [facts.rows, facts.columns, facts.samples] or precision > facts.allocated:
            raise Undecodable("code stream header")
        if facts.transfer_syntax == JPEG_EXTENDED and precision == PRECISION:
            with _unheard():
                return decode_extended(facts, stream), facts.photometric
    options: dict[str, Any] = {
        "rows": facts.rows,
        "columns": facts.columns,
        "number_of_frames": 1,
        "samples_per_pixel": facts.samples,
        "bits_allocated": facts.allocated,
        "bits_stored": facts.stored,
        "pixel_representation": int(facts.is_signed),
        "photometric_interpretation": facts.photometric,
        "planar_configuration": facts.planar,
        "pixel_keyword": "PixelData",
        "correct_unused_bits": is_narrow,
    }
    try:
        with warnings.catch_warnings(action="ignore"), _unheard():  # they quote the header
            array, meta = _decoder(UID(facts.transfer_syntax)).as_array(
                encapsulate([stream], has_bot=False),
                index=0,
                raw=True,
                decoding_plugin=DECODERS[facts.transfer_syntax],
                **options,
            )
    except Exception:  # noqa: BLE001  a codec may raise anything; its words quote the header
        raise Undecodable("pixel stream") from None
    except BaseException as exc:
        if type(exc).__module__ != "pyo3_runtime":
            raise
        raise Undecodable("pixel stream") from None  # a panic in Rust is no Exception
    if array.shape != facts.shape:
        raise Undecodable("decoded shape")
    return array, upsampled(str(meta["photometric_interpretation"]))


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep from the terminal what codecs write to the descriptor of standard error themselves.

    Whatever fails is told as a code; and what is no failure too, for GDCM tries 12-bit JPEG with
    its 8-bit library first.
    """
    with Path(os.devnull).open("wb") as nothing:
        saved = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def upsampled(photometric: str) -> str:
    """Return the colour space samples have once every pixel has its own."""
    names = {"YBR_FULL_422": "YBR_FULL", "YBR_RCT": "RGB", "YBR_ICT": "RGB"}
    return names.get(photometric, photometric)


def _native_frame(facts: ImageFacts, span: Span, index: int) -> Frame:
    bits = facts.frame_bits
    first, skip = divmod(bits * index, 8)  # 1-bit frames follow each other without a gap
    count = (skip + bits + 7) // 8
    if facts.is_swapped:
        odd = first % 2  # bytes were swapped as words (PS3.5 8.2)
        words = span.read(first - odd, (odd + count + 1) // 2 * 2)
        swapped = np.frombuffer(words, ">u2", len(words) // 2).astype("<u2").tobytes()
        return _shaped(facts, swapped[odd:], skip)
    return _shaped(facts, span.read(first, count), skip)


def _shaped(facts: ImageFacts, data: bytes, skip: int) -> Frame:
    bits = facts.frame_bits
    if len(data) * 8 < skip + bits:
        raise Truncated()
    if facts.allocated == 1:
        flat = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[skip : skip + bits]
        return flat.reshape(facts.shape)
    dtype = np.dtype(facts.dtype)
    stored = dtype.newbyteorder(">") if facts.is_big_endian else dtype
    values = np.frombuffer(data, stored, bits // facts.allocated).astype(dtype)
    if facts.photometric == "YBR_FULL_422":
        quads = values.reshape(-1, 4)  # Y1 Y2 Cb Cr (PS3.3 C.7.6.3.1.2)
        return cast(Frame, quads[:, [0, 2, 3, 1, 2, 3]].reshape(facts.shape))
    if facts.samples > 1 and facts.planar == 1:
        planes = values.reshape(facts.samples, facts.rows, facts.columns)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))
    return values.reshape(facts.shape)
