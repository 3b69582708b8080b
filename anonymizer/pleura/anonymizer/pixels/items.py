"""Encapsulated pixel data (PS3.5 A.4): items, offset tables, and which fragments make a frame."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pleura.anonymizer.encoding import DicomFile, Element
from pleura.anonymizer.errors import Undecodable
from pleura.anonymizer.pixels.facts import INTEGER, ImageFacts
from pleura.anonymizer.source import FileSource, Span

OFFSETS, LENGTHS = 0x7FE00001, 0x7FE00002
_ITEM = b"\xfe\xff\x00\xe0"
_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51")


@dataclass(frozen=True, slots=True)
class Fragment:
    """One item: `at` is the position of its header behind the basic offset table."""

    at: int
    start: int
    size: int


def read_fragments(span: Span) -> tuple[tuple[int, ...], list[Fragment]]:
    """Return the basic offset table and the fragments.

    Raises:
        Undecodable: the run of items is broken.
    """
    table: tuple[int, ...] = ()
    found: list[Fragment] = []
    pos, first = 0, None
    while True:
        head = span.read(pos, 8)
        if len(head) < 8:
            raise Undecodable("broken fragments")
        if head[:4] == _END[:4]:
            return table, found
        size = int.from_bytes(head[4:], "little")
        if head[:4] != _ITEM or pos + 8 + size > span.size:
            raise Undecodable("broken fragments")
        if first is None:
            raw = span.read(8, size)
            table = struct.unpack(f"<{size // 4}L", raw[: size // 4 * 4])
            first = 8 + size
        else:
            found.append(Fragment(pos - first, pos + 8, size))
        pos += 8 + size


def group_frames(parsed: DicomFile, facts: ImageFacts, span: Span) -> list[list[Fragment]]:
    """Return the fragments of every frame.

    Raises:
        Undecodable: they cannot be told apart, or are not as many as the header says.
    """
    table, fragments = read_fragments(span)
    extended = next((bytes(e.value) for e in parsed.elements if e.tag == OFFSETS), b"")
    if extended and len(extended) % 8 == 0:
        table = struct.unpack(f"<{len(extended) // 8}Q", extended)
    if facts.frames == 1:
        groups = [fragments] if fragments else []
    elif len(fragments) == facts.frames:
        groups = [[fragment] for fragment in fragments]
    elif len(table) == facts.frames:
        groups = _by_start(fragments, set(table))
    else:
        starts = {f.at for f in fragments if span.read(f.start, 4).startswith(_STARTS)}
        groups = _by_start(fragments, starts)
    if len(groups) != facts.frames:
        raise Undecodable("number of frames")
    return groups


def _by_start(fragments: Sequence[Fragment], starts: set[int]) -> list[list[Fragment]]:
    groups: list[list[Fragment]] = []
    for fragment in fragments:
        if fragment.at in starts:
            groups.append([])
        if not groups:
            raise Undecodable("first fragment")
        groups[-1].append(fragment)
    return groups


def is_tidy(parsed: DicomFile, span: Span, groups: Sequence[Sequence[Fragment]]) -> bool:
    """Return whether the offset tables hold the true offsets or nothing, and no byte follows."""
    offsets = [group[0].at for group in groups]
    sizes = [sum(f.size for f in group) for group in groups]
    basic = span.read(8, int.from_bytes(span.read(4, 4), "little"))
    if basic not in (b"", struct.pack(f"<{len(offsets)}L", *(at & 0xFFFFFFFF for at in offsets))):
        return False
    tables = [e for e in parsed.elements if e.tag in (OFFSETS, LENGTHS)]
    values = {e.tag: bytes(e.value) for e in tables}
    if tables:
        if (
            basic
            or len(tables) > 2
            or values.get(OFFSETS) != struct.pack(f"<{len(offsets)}Q", *offsets)
        ):
            return False
        lengths = values.get(LENGTHS, b"")
        if len(lengths) != 8 * len(sizes):
            return False
        stated = struct.unpack(f"<{len(sizes)}Q", lengths)
        if any(size - length not in (0, 1) for size, length in zip(sizes, stated, strict=True)):
            return False
    return span.read(span.size - 8, 8) == _END


def frame_bytes(span: Span, group: Sequence[Fragment]) -> bytes:
    """Return the bit stream of one frame."""
    return b"".join(span.read(f.start, f.size) for f in group)


class ItemWriter:
    """Writes one fragment a frame behind a basic offset table that is filled in at the end."""

    def __init__(self, spool: BinaryIO, frames: int, *, extended: bool = False) -> None:
        self.spool, self.frames, self.extended = spool, frames, extended
        self.begin = spool.seek(0, os.SEEK_END)
        spool.write(bytes(8 + 4 * frames))
        self.offsets: list[int] = []
        self.lengths: list[int] = []
        self.size = 0

    def add(self, stream: bytes) -> None:
        """Append a frame; the fragment is padded to an even length."""
        pad = len(stream) % 2
        self.offsets.append(self.size)
        self.lengths.append(len(stream))
        self.spool.write(_ITEM + struct.pack("<L", len(stream) + pad))
        self.spool.write(stream)
        self.spool.write(bytes(pad))
        self.size += 8 + len(stream) + pad

    def streams(self) -> Iterator[bytes]:
        """Yield the frames written so far; what is written behind them meanwhile does no harm."""
        self.spool.flush()
        start = self.begin + 8 + 4 * self.frames + 8
        for offset, length in zip(tuple(self.offsets), tuple(self.lengths), strict=True):
            yield os.pread(self.spool.fileno(), length, start + offset)

    def finish(self) -> list[Element]:
        """Return the pixel element, with extended offset tables where offsets pass 32 bits.

        Raises:
            Undecodable: not as many frames came as were announced.
        """
        if len(self.offsets) != self.frames:
            raise Undecodable("number of frames")
        self.spool.write(_END)
        end, start = self.spool.tell(), self.begin
        elements: list[Element] = []
        if self.extended or self.offsets[-1] > 0xFFFFFFFF:
            start += 4 * self.frames  # an empty table right before the first fragment
            self._patch(start, _ITEM + bytes(4))
            for tag, values in ((OFFSETS, self.offsets), (LENGTHS, self.lengths)):
                elements.append(Element(tag, "OV", struct.pack(f"<{len(values)}Q", *values)))
        else:
            table = struct.pack(f"<{self.frames}L", *self.offsets)
            self._patch(start, _ITEM + struct.pack("<L", len(table)) + table)
        self.spool.seek(end)
        value = spooled(self.spool, start, end - start)
        return [*elements, Element(INTEGER, "OB", value, None, True)]

    def _patch(self, at: int, data: bytes) -> None:
        self.spool.seek(at)
        self.spool.write(data)


def spooled(spool: BinaryIO, start: int, size: int) -> Span:
    """Return a span over a part of a spool file; it outlives the spool's own descriptor."""
    spool.flush()
    return Span(FileSource(os.dup(spool.fileno())), start, size)
