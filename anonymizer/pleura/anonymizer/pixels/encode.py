"""Encoding redacted frames without a loss (DEID 8).

Explicit VR Little Endian, or RLE, JPEG-LS or JPEG 2000 lossless where the source was that.
Every compressed frame is decoded again and compared before it counts. Where an encoder gives up
or fails that check (CharLS on noise, which compression makes larger), the whole object is written
native instead. Bits outside those stored are cleared in every frame.
"""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any, BinaryIO, Final

import numpy as np
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID

from pleura.anonymizer.encoding import Element
from pleura.anonymizer.errors import Undecodable
from pleura.anonymizer.pixels.decode import (
    J2K,
    JPEG_LS,
    RLE,
    Frame,
    decode_stream,
    upsampled,
)
from pleura.anonymizer.pixels.facts import INTEGER, ImageFacts
from pleura.anonymizer.pixels.items import ItemWriter, spooled
from pleura.anonymizer.pixels.samples import clear_samples

EXPLICIT: Final = "1.2.840.10008.1.2.1"
DROPPED: Final = frozenset(range(0x00280106, 0x0028010C)) | {0x7FE00001, 0x7FE00002, 0x7FE00003}
_ENCODERS: Final = {RLE: "pylibjpeg", JPEG_LS: "pyjpegls", J2K: "pylibjpeg"}
_SMALLEST_J2K: Final = 32
_encoder = lru_cache(maxsize=8)(get_encoder)


@dataclass(frozen=True, slots=True)
class EncodedPixels:
    """Elements that replace the source's, tags to remove, and the syntax they are written in.

    LossyImageCompression, its ratio and its method are not among them: they stay as they were.
    """

    elements: list[Element]
    transfer_syntax: str
    dropped: frozenset[int] = DROPPED


def target_syntax(facts: ImageFacts) -> str:
    """Return the lossless syntax redacted frames are written in.

    No encoder takes more than 16 bits, and OpenJPEG none of its frames below 32 pixels a side.
    """
    fits = facts.allocated in (8, 16) and facts.tag == INTEGER
    if facts.transfer_syntax == J2K and min(facts.rows, facts.columns) < _SMALLEST_J2K:
        return EXPLICIT
    return facts.transfer_syntax if fits and facts.transfer_syntax in _ENCODERS else EXPLICIT


def encode_frames(
    facts: ImageFacts, frames: Iterable[Frame], spool: BinaryIO, *, planar: int = 0
) -> EncodedPixels:
    """Write frames to `spool`, a real file, and return the elements that describe them.

    `facts` are those of the reader the frames came from (`FrameReader.facts`). `planar`: the
    Planar Configuration to write; compressed streams other than RLE have no planes, so 0. The
    number of frames is described only if it is not 1: a file that did not count its only frame
    need not keep the rules for multi-frame objects afterwards.

    Raises:
        Undecodable: a frame has another shape or type, or there are more or fewer than announced.
        OSError: the spool cannot be written.
    """
    facts = replace(facts, photometric=upsampled(facts.photometric), planar=0)
    syntax = target_syntax(facts)
    planes = planar == 1 and facts.samples > 1 and facts.allocated > 1
    clean = (_checked(facts, frame) for frame in frames)
    if syntax == EXPLICIT:
        pixels = _native(facts, clean, spool, planes=planes)
    else:
        syntax, pixels = _compressed(facts, clean, spool, planes=planes)
    described = [Element(0x00280004, "CS", facts.photometric.encode("ascii"))]
    if facts.frames != 1:
        described.append(Element(0x00280008, "IS", str(facts.frames).encode("ascii")))
    if facts.samples > 1:
        written = int(planes and syntax in (EXPLICIT, RLE))
        described.append(Element(0x00280006, "US", struct.pack("<H", written)))
    return EncodedPixels(described + pixels, syntax)


def _checked(facts: ImageFacts, frame: Frame) -> Frame:
    if frame.shape != facts.shape or frame.dtype.itemsize != np.dtype(facts.dtype).itemsize:
        raise Undecodable("frame shape")
    return clear_samples(facts, np.ascontiguousarray(frame.astype(facts.dtype, copy=False)))


def _native(
    facts: ImageFacts, frames: Iterable[Frame], spool: BinaryIO, *, planes: bool
) -> list[Element]:
    start = spool.seek(0, os.SEEK_END)
    count, rest = 0, np.zeros(0, np.uint8)
    for frame in frames:
        count += 1
        if facts.allocated > 1:
            spool.write((frame.transpose(2, 0, 1) if planes else frame).tobytes())
            continue
        bits = np.concatenate([rest, frame.ravel()])  # frames follow each other without a gap
        whole = bits.size // 8 * 8
        spool.write(np.packbits(bits[:whole], bitorder="little").tobytes())
        rest = bits[whole:]
    if count != facts.frames:
        raise Undecodable("number of frames")
    if rest.size:
        spool.write(np.packbits(rest, bitorder="little").tobytes())
    size = spool.tell() - start
    vr = {0x7FE00008: "OF", 0x7FE00009: "OD"}.get(facts.tag, "OB" if facts.allocated <= 8 else "OW")
    if size % 2:
        spool.write(b"\0")
        size += 1
    return [Element(facts.tag, vr, spooled(spool, start, size))]


def _compressed(
    facts: ImageFacts, frames: Iterator[Frame], spool: BinaryIO, *, planes: bool
) -> tuple[str, list[Element]]:
    """Return the syntax and the pixel element; native where a frame does not compress."""
    writer = ItemWriter(spool, facts.frames)
    for frame in frames:
        stream = _stream(facts, frame)
        if stream is None:
            again = (decode_stream(facts, written)[0] for written in writer.streams())
            return EXPLICIT, _native(facts, chain(again, (frame,), frames), spool, planes=planes)
        writer.add(stream)
    return facts.transfer_syntax, writer.finish()


def _stream(facts: ImageFacts, frame: Frame) -> bytes | None:
    """Return the bit stream of a frame, or None where no stream gives the frame back."""
    options: dict[str, Any] = {
        "rows": facts.rows,
        "columns": facts.columns,
        "number_of_frames": 1,
        "samples_per_pixel": facts.samples,
        "bits_allocated": facts.allocated,
        "bits_stored": facts.stored,
        "pixel_representation": int(facts.is_signed),
        "photometric_interpretation": facts.photometric,
        "planar_configuration": 0,
        "pixel_keyword": "PixelData",
    }
    syntax = facts.transfer_syntax
    encoder = _encoder(UID(syntax))
    try:
        with warnings.catch_warnings(action="ignore"):
            stream = bytes(encoder.encode(frame, encoding_plugin=_ENCODERS[syntax], **options))
        again, _ = decode_stream(facts, stream)
    except Exception:  # noqa: BLE001  any failure of a codec has the same answer
        return None
    return stream if np.array_equal(again, frame) else None
