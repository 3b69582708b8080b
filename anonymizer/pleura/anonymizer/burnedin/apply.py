"""Applying a reading: a parsed file in, the same file with its burned-in text blacked out.

Pixels are decoded only when the policy wants them read, and encoded again only when something
has to go: else the bytes of the source stay what they are. Compressed sources become lossless
(DEID 8); native ones keep their transfer syntax.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from pleura.anonymizer.burnedin.boxes import Box
from pleura.anonymizer.burnedin.clean import Reading, read_and_clean
from pleura.anonymizer.burnedin.finder import TextFinder, load_finder
from pleura.anonymizer.burnedin.palette import Palette, read_palette
from pleura.anonymizer.burnedin.policy import Mode, plan_reading
from pleura.anonymizer.burnedin.redact import redacted
from pleura.anonymizer.burnedin.regions import maker_boxes, ultrasound_boxes
from pleura.anonymizer.burnedin.view import Frame
from pleura.anonymizer.encoding import DicomFile, Element, syntax_of
from pleura.anonymizer.header import Header
from pleura.anonymizer.pixels.decode import RLE, FrameReader, open_frames
from pleura.anonymizer.pixels.encode import EncodedPixels, encode_frames
from pleura.anonymizer.pixels.facts import ImageFacts, read_facts
from pleura.anonymizer.source import FileSource, Span
from pleura.anonymizer.text import Seeds

_MAKER: Final = 0x00080070
_MODEL: Final = 0x00081090
_CHUNK: Final = 1 << 20
_LINE_PX: Final = 64  # ten letters of the least legible size


@dataclass(frozen=True, slots=True)
class Unburned:
    """A file after reading; `reading` is None where the policy had nothing read.

    `is_slice`: a slice whose series has to be looked at, large enough for a line of text.
    """

    parsed: DicomFile
    reading: Reading | None = None
    is_slice: bool = False

    @property
    def is_read(self) -> bool:
        """Whether every frame was read and nothing legible is left: 113101 may be claimed."""
        return self.reading is not None and self.reading.is_complete


class Coloured:
    """Frames of palette indices, seen in their colours."""

    def __init__(self, frames: FrameReader, palette: Palette) -> None:
        self.count = frames.count
        self._frames, self._palette = frames, palette

    def frame(self, index: int) -> Frame:
        return self._palette.of(self._frames.frame(index))


def unburn(
    parsed: DicomFile,
    header: Header,
    seeds: Seeds,
    mode: Mode,
    folder: Path,
    *,
    open_finder: Callable[[], TextFinder] = load_finder,
) -> Unburned:
    """Return the file without burned-in text, and what was found.

    New pixel data lies in a file without a name in `folder` that lives as long as its spans.

    Raises:
        OcrUnavailable: pixels have to be read and the extra `ocr` is not installed.
        Undecodable: pixels have to be read and cannot be decoded.
        Truncated: native pixels end early.
        LimitExceeded: a frame or the number of frames is too large.
        TextResidual: text stayed legible after redaction.
        TextBoxTooLarge: text covers too much of the image.
        OSError: no room.
    """
    facts = read_facts(parsed) if header.has_pixels and mode != "off" else None
    if facts is None:
        return Unburned(parsed)
    plan = plan_reading(header, facts.frames, mode)
    if plan.is_none:
        has_room = max(facts.rows, facts.columns) >= _LINE_PX
        return Unburned(parsed, is_slice=plan.is_slice and has_room)
    finder = open_finder()
    frames = open_frames(parsed, facts)
    decoded = frames.facts
    photometric = decoded.photometric
    blank = known_boxes(parsed, header, facts)
    black = None
    if photometric == "PALETTE COLOR":
        palette = read_palette(parsed.elements, big_endian=parsed.syntax.big_endian)
        coloured, black = Coloured(frames, palette), palette.black
        reading = read_and_clean(coloured, "RGB", seeds, plan, finder, blank)
    else:
        reading = read_and_clean(frames, photometric, seeds, plan, finder, blank)
    if not any(reading.redact.values()):
        return Unburned(parsed, reading)
    with tempfile.TemporaryFile(dir=folder) as spool:
        black_out = redacted(frames, photometric, reading, black=black)
        encoded = encode_frames(decoded, black_out, spool, planar=_planar(parsed, facts))
        return Unburned(_rewritten(parsed, facts, encoded, folder), reading)


def _planar(parsed: DicomFile, facts: ImageFacts) -> int:
    """Return the Planar Configuration to keep: JPEG sources say it of nothing they have."""
    return facts.planar if _is_native(parsed, facts) or facts.transfer_syntax == RLE else 0


def _is_native(parsed: DicomFile, facts: ImageFacts) -> bool:
    return not any(e.is_encapsulated for e in parsed.elements if e.tag == facts.tag)


def known_boxes(parsed: DicomFile, header: Header, facts: ImageFacts) -> tuple[Box, ...]:
    """Return the areas that go whatever they show: outside ultrasound regions, makers' text."""
    maker, model = (_text(parsed, tag) for tag in (_MAKER, _MODEL))
    boxes = maker_boxes(maker, model, facts.rows, facts.columns)
    if header.modality != "US":
        return boxes
    big = parsed.syntax.big_endian
    return boxes + ultrasound_boxes(parsed.elements, facts.rows, facts.columns, big_endian=big)


def _text(parsed: DicomFile, tag: int) -> str:
    values = [bytes(e.value) for e in parsed.elements if e.tag == tag and e.items is None]
    return values[0].decode("latin-1").strip(" \0") if values else ""


def _rewritten(
    parsed: DicomFile, facts: ImageFacts, encoded: EncodedPixels, folder: Path
) -> DicomFile:
    """Return the file with its pixel elements replaced, in a syntax that fits both."""
    was_native = _is_native(parsed, facts)
    elements = encoded.elements
    if was_native and parsed.syntax.big_endian:
        elements = [_swapped(element, facts, folder) for element in elements]
    syntax = parsed.transfer_syntax if was_native else encoded.transfer_syntax
    gone = encoded.dropped | {element.tag for element in elements}
    kept = [element for element in parsed.elements if element.tag not in gone]
    return replace(
        parsed,
        elements=sorted((*kept, *elements), key=lambda element: element.tag),
        transfer_syntax=syntax,
        syntax=syntax_of(syntax),
    )


def _swapped(element: Element, facts: ImageFacts, folder: Path) -> Element:
    """Return an element of the image in big endian order (PS3.5 7.3)."""
    if element.vr == "US":
        return replace(element, value=struct.pack(">H", *struct.unpack("<H", bytes(element.value))))
    wide = facts.allocated // 8
    if wide < 2 or not isinstance(element.value, Span):
        return element
    with tempfile.TemporaryFile(dir=folder) as file:
        source = FileSource(os.dup(file.fileno()))
    for start in range(0, element.value.size, _CHUNK):
        part = element.value.read(start, min(_CHUNK, element.value.size - start))
        source.append(np.frombuffer(part, f"<u{wide}").astype(f">u{wide}").tobytes())
    return replace(element, value=Span(source, 0, source.size))
