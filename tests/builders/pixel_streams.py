"""Pixel facts, frames and streams for tests of the anonymizer's pixels."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleura.anonymizer.encoding import DicomFile, Element, syntax_of
from pleura.anonymizer.pixels.decode import FrameReader, open_frames
from pleura.anonymizer.pixels.facts import INTEGER, ImageFacts

ITEM = b"\xfe\xff\x00\xe0"
END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def facts_of(
    syntax: str,
    allocated: int = 8,
    stored: int | None = None,
    *,
    rows: int = 4,
    columns: int = 6,
    **changes: Any,
) -> ImageFacts:
    """Return facts of a grey or, with three samples, RGB image."""
    stored = stored or allocated
    samples = changes.setdefault("samples", 1)
    changes.setdefault("photometric", "MONOCHROME2" if samples == 1 else "RGB")
    defaults = {"frames": 1, "planar": 0, "high_bit": stored - 1, "is_signed": False}
    return ImageFacts(
        rows=rows, columns=columns, allocated=allocated, stored=stored, transfer_syntax=syntax,
        **{**defaults, **changes},
    )  # fmt: skip


def ramp(facts: ImageFacts) -> list[NDArray[Any]]:
    """Return different frames whose values fit the stored bits."""
    grid = np.arange(np.prod(facts.shape), dtype=np.int64).reshape(facts.shape)
    low = -(1 << facts.stored - 1) if facts.is_signed else 0
    return [
        (low + (grid * 7 + 3 * i) % (1 << facts.stored)).astype(facts.dtype)
        for i in range(facts.frames)
    ]


def native(facts: ImageFacts, data: bytes, vr: str = "OB") -> DicomFile:
    """Return a file with native pixels."""
    syntax = facts.transfer_syntax
    return DicomFile([], [Element(facts.tag, vr, data)], syntax, syntax_of(syntax))


def items_of(fragments: Sequence[bytes], table: bytes = b"", end: bytes = END) -> bytes:
    """Return encapsulated pixel data of these fragments."""
    parts = [table, *(f + bytes(len(f) % 2) for f in fragments)]
    return b"".join(ITEM + struct.pack("<L", len(p)) + p for p in parts) + end


def encapsulated(
    facts: ImageFacts, fragments: Sequence[bytes], table: bytes = b"", *others: Element,
    end: bytes = END,
) -> DicomFile:  # fmt: skip
    """Return a file with encapsulated pixels; `others` are offset tables."""
    element = Element(INTEGER, "OB", items_of(fragments, table, end), None, True)
    syntax = facts.transfer_syntax
    return DicomFile([], [*others, element], syntax, syntax_of(syntax))


def frames_in(parsed: DicomFile, facts: ImageFacts) -> list[NDArray[Any]]:
    """Return all decoded frames."""
    reader: FrameReader = open_frames(parsed, facts)
    return [reader.frame(i) for i in range(reader.count)]


def rle_literal(planes: Sequence[bytes]) -> bytes:
    """Return an RLE frame whose segments hold the planes as literal runs."""
    bodies = []
    for plane in planes:
        runs = [plane[i : i + 128] for i in range(0, len(plane), 128)]
        body = b"".join(bytes((len(run) - 1,)) + run for run in runs)
        bodies.append(body + bytes(len(body) % 2))
    offsets = [64 + sum(map(len, bodies[:i])) for i in range(len(bodies))]
    head = struct.pack("<16L", len(bodies), *offsets, *bytes(15 - len(bodies)))
    return head + b"".join(bodies)


def jpeg_12_bit(level: int) -> bytes:
    """Return an 8 x 8 JPEG of 12 bits (SOF1), flat: 2048 + level / 8; 128 <= level < 256."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body

    one_code = bytes((1, *bytes(15)))
    bits = f"0{level:08b}0".ljust(16, "1")  # the only DC code, its 8 bits, end of block
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + b"\1" * 64)
        + segment(0xC1, struct.pack(">BHHB", 12, 8, 8, 1) + b"\1\x11\0")
        + segment(0xC4, b"\0" + one_code + b"\x08")
        + segment(0xC4, b"\x10" + one_code + b"\0")
        + segment(0xDA, b"\1\1\0\0\x3f\0")
        + int(bits, 2).to_bytes(2, "big")
        + b"\xff\xd9"
    )
