"""Reading (PS3.5, PS3.10): a file to a tree of elements, its pixels left where they are.

A file is read through a window that passes over its pixel data. Every length is checked against
the bytes that are there: a file that ends early, or goes on after its data set, is refused
instead of being read as far as it goes.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Final, Literal

from pleura.anonymizer.encoding import (
    LONG_VRS,
    MAX_FILE_BYTES,
    PIXEL_TAGS,
    SHORT_VRS,
    DicomFile,
    Element,
    Syntax,
    encode,
    implicit_vr,
    padded,
    syntax_of,
    vr_of,
)
from pleura.anonymizer.errors import (
    LimitExceeded,
    NoPreamble,
    NotDicom,
    NoTransferSyntax,
    Quarantined,
    Truncated,
    Undecodable,
)
from pleura.anonymizer.inflating import inflate
from pleura.anonymizer.source import BytesSource, Source, Span

MAX_HEADER_ELEMENT_BYTES: Final = 64 << 20
MAX_PARSE_DEPTH: Final = 128
WINDOW_BYTES: Final = 64 << 10
_VR_NAMES: Final = {vr.encode(): vr for vr in LONG_VRS | SHORT_VRS}
_UNDEFINED: Final = 0xFFFFFFFF
_BARE: Final = re.compile(rb"[\2\10]\0.\0", re.DOTALL)  # begins with group 0002 or 0008
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

__all__ = [
    "MAX_FILE_BYTES", "PIXEL_TAGS", "DicomFile", "Element", "Syntax", "encode", "padded",
    "parse_file", "syntax_of", "vr_of",
]  # fmt: skip


class _Reader:
    """Walks one buffer; every jump is checked against its end."""

    def __init__(self, data: bytes, syntax: Syntax) -> None:
        self.data = data
        self.syntax = syntax
        order = ">" if syntax.big_endian else "<"
        self.head = struct.Struct(order + ("HHL" if syntax.implicit else "HH2sH")).unpack_from
        self.long = struct.Struct(order + "L").unpack_from

    def header(self, pos: int, end: int) -> tuple[int, str, int, int]:
        """Return tag, VR, length and the position of the value."""
        start = pos + 8
        if start > end:
            raise Truncated()
        if self.syntax.implicit:
            group, number, length = self.head(self.data, pos)
            tag = group << 16 | number
            return tag, implicit_vr(tag), length, start
        group, number, raw, length = self.head(self.data, pos)
        tag = group << 16 | number
        if group == 0xFFFE:
            return tag, "UN", self.long(self.data, pos + 4)[0], start
        vr = _VR_NAMES.get(raw)
        if vr is None:
            raise Undecodable("unknown value representation")
        if vr in LONG_VRS:
            if start + 4 > end:
                raise Truncated()
            return tag, vr, self.long(self.data, start)[0], start + 4
        return tag, vr, length, start

    def elements(
        self, pos: int, end: int, *, is_open: bool, depth: int
    ) -> tuple[list[Element], int]:
        """Return the elements up to `end`, or to the item delimiter if the item is open."""
        if depth > MAX_PARSE_DEPTH:
            raise LimitExceeded("sequence depth")
        found: list[Element] = []
        while pos < end:
            tag, vr, length, start = self.header(pos, end)
            if tag == _ITEM_END and is_open:
                return found, start
            if tag >> 16 == 0xFFFE:
                raise Undecodable("stray delimiter")
            element, pos = self.element(tag, vr, length, start, end, depth)
            found.append(element)
        if is_open:
            raise Truncated()
        return found, pos

    def element(
        self, tag: int, vr: str, length: int, start: int, end: int, depth: int
    ) -> tuple[Element, int]:
        """Return one element and the position behind it."""
        if length == _UNDEFINED:
            if vr in ("OB", "OW"):
                stop = self.fragments(start, end)
                return Element(tag, vr, self.data[start:stop], None, True), stop
            reader = self
            if vr == "UN" and not self.syntax.implicit:  # PS3.5 6.2.2: implicit little endian
                reader = _Reader(self.data, Syntax(implicit=True))
            items, stop = reader.items(start, end, is_open=True, depth=depth + 1)
            return Element(tag, "SQ", items=items), stop
        stop = start + length
        if stop > end:
            raise Truncated()
        reader = self
        if vr == "UN":
            vr = self.syntax.known_vr(tag, length)
            reader = _Reader(self.data, Syntax(implicit=True)) if vr == "SQ" else self
        if vr == "SQ":
            items, _ = reader.items(start, stop, is_open=False, depth=depth + 1)
            return Element(tag, vr, items=items), stop
        if length > MAX_HEADER_ELEMENT_BYTES:
            raise LimitExceeded("element size")
        return Element(tag, vr, self.data[start:stop]), stop

    def items(
        self, pos: int, end: int, *, is_open: bool, depth: int
    ) -> tuple[list[list[Element]], int]:
        found: list[list[Element]] = []
        while pos < end:
            tag, _, length, start = self.header(pos, end)
            if tag == _SEQUENCE_END and is_open:
                return found, start
            if tag != _ITEM:
                raise Undecodable("sequence without items")
            if length == _UNDEFINED:
                item, pos = self.elements(start, end, is_open=True, depth=depth)
            elif start + length > end:
                raise Truncated()
            else:
                item, pos = self.elements(start, start + length, is_open=False, depth=depth)
            found.append(item)
        if is_open:
            raise Truncated()
        return found, pos

    def fragments(self, pos: int, end: int) -> int:
        """Return the position behind the delimiter of fragments inside a sequence (icons)."""
        while True:
            tag, _, length, start = self.header(pos, end)
            if tag == _SEQUENCE_END:
                return start
            if tag != _ITEM or length == _UNDEFINED:
                raise Undecodable("broken fragments")
            pos = start + length


class _Window:
    """The part of a source that is in memory; it moves and grows with the walk."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.size = source.size
        self.base = 0
        self.data = source.read(0, WINDOW_BYTES)

    @property
    def stop(self) -> int:
        """Position in the source behind the last byte in memory."""
        return self.base + len(self.data)

    def cover(self, pos: int, count: int) -> bool:
        """Have the bytes [pos, pos + count) in memory; return whether the window moved."""
        last = self.base + len(self.data)
        if self.base <= pos and (pos + count <= last or last == self.size):
            return False
        self.base, self.data = pos, self.source.read(pos, max(WINDOW_BYTES, count))
        return True


class _Walk:
    """Reads the top level of a data set; pixel bytes are passed over, not read."""

    def __init__(self, window: _Window, syntax: Syntax) -> None:
        self.window = window
        self.syntax = syntax
        self.reader = _Reader(window.data, syntax)

    def elements(self, pos: int, *, group: int | None = None) -> tuple[list[Element], int]:
        """Return the elements from `pos` on, of one group only if `group` is given."""
        found: list[Element] = []
        window, size = self.window, self.window.size
        while pos < size:
            if pos + 12 > window.stop:  # the walk never goes back
                self._cover(pos, 12)
            if group is not None and self.peek_group(pos) != group:
                break
            reader, base, end = self.reader, window.base, len(window.data)
            tag, vr, length, start = reader.header(pos - base, end)
            stop = start + length
            if vr in SHORT_VRS and stop <= end and tag not in PIXEL_TAGS and tag >> 16 != 0xFFFE:
                found.append(Element(tag, vr, window.data[start:stop]))
                pos = base + stop
                continue
            element, pos = self._element(pos, tag, vr, length, base + start)
            found.append(element)
        return found, pos

    def peek_group(self, pos: int) -> int:
        window = self.window
        if pos + 4 > window.stop:
            raise Truncated()
        at = pos - window.base
        return int.from_bytes(window.data[at : at + 2], "little")

    def _cover(self, pos: int, count: int) -> None:
        if self.window.cover(pos, count):
            self.reader = _Reader(self.window.data, self.syntax)

    def _element(self, pos: int, tag: int, vr: str, length: int, start: int) -> tuple[Element, int]:
        window = self.window
        if tag >> 16 == 0xFFFE:
            raise Undecodable("stray delimiter")
        if tag in PIXEL_TAGS and vr != "SQ" and (length != _UNDEFINED or vr in ("OB", "OW")):
            return self._pixels(tag, vr, length, start)
        if length == _UNDEFINED:
            return self._open(tag, vr, pos, start)
        if start + length > window.size:
            raise Truncated()
        if length > MAX_HEADER_ELEMENT_BYTES:
            raise LimitExceeded("element size")
        self._cover(pos, start + length - pos)
        return self._parsed(tag, vr, length, start)

    def _parsed(self, tag: int, vr: str, length: int, start: int) -> tuple[Element, int]:
        base, end = self.window.base, len(self.window.data)
        element, stop = self.reader.element(tag, vr, length, start - base, end, 0)
        return element, stop + base

    def _open(self, tag: int, vr: str, pos: int, start: int) -> tuple[Element, int]:
        """Return an element of undefined length: the window grows until its end is inside."""
        count = WINDOW_BYTES
        while True:
            try:
                return self._parsed(tag, vr, _UNDEFINED, start)
            except Truncated:
                if self.window.stop >= self.window.size:
                    raise
                if count > MAX_HEADER_ELEMENT_BYTES:
                    raise LimitExceeded("element size") from None
                count *= 4
                self._cover(pos, count)

    def _pixels(self, tag: int, vr: str, length: int, start: int) -> tuple[Element, int]:
        source, size = self.window.source, self.window.size
        if length == _UNDEFINED:
            stop = _fragments_end(source, start, self.reader)
            return Element(tag, vr, Span(source, start, stop - start), None, True), stop
        if start + length > size:
            raise Truncated()
        if vr == "UN":
            vr = self.syntax.known_vr(tag, length)
        return Element(tag, vr, Span(source, start, length)), start + length


def _fragments_end(source: Source, pos: int, reader: _Reader) -> int:
    """Return the position behind the sequence delimiter; only item headers are read."""
    long = reader.long
    order: Literal["big", "little"] = "big" if reader.syntax.big_endian else "little"
    while True:
        head = source.read(pos, 8)
        if len(head) < 8:
            raise Truncated()
        group, number = (int.from_bytes(head[i : i + 2], order) for i in (0, 2))
        length, tag = long(head, 4)[0], group << 16 | number
        pos += 8
        if tag == _SEQUENCE_END:
            return pos
        if tag != _ITEM or length == _UNDEFINED:
            raise Undecodable("broken fragments")
        pos += length
        if pos > source.size:
            raise Truncated()


def _no_preamble(start: bytes) -> Quarantined:
    """Return what a file is that has no `DICM` prefix, by its first bytes."""
    if len(start) < 132 and not any(start):
        return Truncated("empty")
    return NoPreamble() if _BARE.match(start) else NotDicom()


def parse_file(source: Source | bytes, *, spool: Path | None = None) -> DicomFile:
    """Parse a whole PS3.10 file; bytes of pixels are not read.

    `spool` is the folder a large deflated data set is inflated in.

    Raises:
        NotDicom: no `DICM` prefix.
        NoPreamble: no prefix either, but elements of DICOM from the first byte on.
        NoTransferSyntax: the file meta does not name one.
        Truncated: the file is empty, ends early or goes on after its data set.
        Undecodable: the encoding breaks PS3.5.
        LimitExceeded: size, depth or inflation.
    """
    if isinstance(source, bytes):
        source = BytesSource(source)
    window = _Window(source)
    if window.data[128:132] != b"DICM":
        raise _no_preamble(window.data[:132])
    meta, pos = _Walk(window, Syntax()).elements(132, group=2)
    named = [bytes(e.value).strip(b"\0 ") for e in meta if e.tag == 0x00020010]
    if not named or not named[0]:
        raise NoTransferSyntax()
    transfer_syntax = named[0].decode("latin-1")
    syntax = syntax_of(transfer_syntax)
    if syntax.deflated:
        window, pos = _Window(inflate(source, pos, spool=spool)), 0
    elements, _ = _Walk(window, syntax).elements(pos)
    return DicomFile(meta, elements, transfer_syntax, syntax)
