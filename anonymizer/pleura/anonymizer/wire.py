"""The DICOM encoding (PS3.5, PS3.10): bytes to a tree of elements and back.

Values stay raw bytes, so nothing is lost or reinterpreted on the way through, and every
length is checked against the bytes that are there: a file that ends early, or goes on after
its data set, is refused instead of being read as far as it goes.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR
from pydicom.uid import UID, AllTransferSyntaxes

from pleura.anonymizer.errors import (
    LimitExceeded,
    NotDicom,
    NoTransferSyntax,
    Truncated,
    Undecodable,
)

# pydicom's warnings quote the values they complain about; none of them may reach a log.
logging.getLogger("pydicom").addFilter(lambda record: False)

MAX_FILE_BYTES: Final = 4 << 30
MAX_HEADER_ELEMENT_BYTES: Final = 64 << 20
MAX_INFLATE_RATIO: Final = 100
MAX_INFLATE_FLOOR_BYTES: Final = 16 << 20
MAX_PARSE_DEPTH: Final = 128

PIXEL_TAGS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
LONG_VRS: Final = frozenset(
    {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
)
SHORT_VRS: Final = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT"}
    | {"PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"}
)
NUL_PADDED_VRS: Final = (LONG_VRS | {"UI"}) - {"UC", "UR", "UT"}
_KNOWN_SYNTAXES: Final = frozenset(str(uid) for uid in AllTransferSyntaxes)
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a data set is encoded."""

    implicit: bool = False
    big_endian: bool = False
    deflated: bool = False


@dataclass(slots=True)
class Element:
    """One data element.

    Exactly one of the two holds content: `items` for a sequence, else `value`. For pixel data
    in fragments, `value` is the run of items up to and including the sequence delimiter.
    """

    tag: int
    vr: str
    value: bytes | memoryview = b""
    items: list[list[Element]] | None = None
    is_encapsulated: bool = False


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A parsed file; `meta` is group 0002, `elements` the data set."""

    meta: list[Element]
    elements: list[Element]
    transfer_syntax: str
    syntax: Syntax = field(default_factory=Syntax)


@lru_cache(maxsize=8192)
def vr_of(tag: int) -> str | None:
    """Return the dictionary's VR (may be `US or SS`), or None for an unknown tag."""
    entry = DicomDictionary.get(tag)
    if entry is not None:
        return entry[0]
    try:
        return dictionary_VR(tag)
    except KeyError:
        return None


@lru_cache(maxsize=8192)
def _implicit_vr(tag: int) -> str:
    if tag & 0xFFFF == 0:
        return "UL"
    if (tag >> 16) & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    vr = vr_of(tag)
    if vr is None or vr == "NONE":
        return "UN"
    return "OW" if vr.endswith("OW") else vr.split(" or ")[0]


class _Reader:
    """Walks one buffer; every jump is checked against its end."""

    def __init__(self, data: memoryview, syntax: Syntax) -> None:
        self.data = data
        self.syntax = syntax
        order = ">" if syntax.big_endian else "<"
        self.pair = struct.Struct(order + "HH")
        self.long = struct.Struct(order + "L")
        self.short = struct.Struct(order + "H")

    def need(self, pos: int, count: int, end: int) -> None:
        if pos + count > end:
            raise Truncated()

    def tag(self, pos: int, end: int) -> int:
        self.need(pos, 4, end)
        group, element = self.pair.unpack_from(self.data, pos)
        return int(group << 16 | element)

    def header(self, pos: int, end: int) -> tuple[int, str, int, int]:
        """Return tag, VR, length and the position of the value."""
        tag = self.tag(pos, end)
        self.need(pos, 8, end)
        if self.syntax.implicit or tag >> 16 == 0xFFFE:
            return tag, _implicit_vr(tag), self.long.unpack_from(self.data, pos + 4)[0], pos + 8
        vr = bytes(self.data[pos + 4 : pos + 6]).decode("latin-1")
        if vr in LONG_VRS:
            self.need(pos, 12, end)
            return tag, vr, self.long.unpack_from(self.data, pos + 8)[0], pos + 12
        if vr not in SHORT_VRS:
            raise Undecodable("unknown value representation")
        return tag, vr, self.short.unpack_from(self.data, pos + 6)[0], pos + 8

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
        if length == _UNDEFINED:
            if vr in ("OB", "OW"):
                stop = self.fragments(start, end)
                return Element(tag, vr, self.data[start:stop], is_encapsulated=True), stop
            reader = self
            if vr == "UN" and not self.syntax.implicit:  # PS3.5 6.2.2: implicit little endian
                reader = _Reader(self.data, Syntax(implicit=True))
            items, stop = reader.items(start, end, is_open=True, depth=depth + 1)
            return Element(tag, "SQ", items=items), stop
        self.need(start, length, end)
        stop = start + length
        reader = self
        if vr == "UN" and self.syntax == Syntax():
            known = _implicit_vr(tag)  # PS3.5 6.2.2: the value is implicit little endian
            if known in LONG_VRS or length <= 0xFFFE:
                reader, vr = _Reader(self.data, Syntax(implicit=True)), known
        if vr == "SQ":
            items, _ = reader.items(start, stop, is_open=False, depth=depth + 1)
            return Element(tag, vr, items=items), stop
        if length > MAX_HEADER_ELEMENT_BYTES and tag not in PIXEL_TAGS:
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
            else:
                self.need(start, length, end)
                item, pos = self.elements(start, start + length, is_open=False, depth=depth)
            found.append(item)
        if is_open:
            raise Truncated()
        return found, pos

    def fragments(self, pos: int, end: int) -> int:
        """Return the position behind the sequence delimiter of encapsulated pixel data."""
        while True:
            self.need(pos, 8, end)
            tag, _, length, start = self.header(pos, end)
            if tag == _SEQUENCE_END:
                return start
            if tag != _ITEM or length == _UNDEFINED:
                raise Undecodable("broken fragments")
            self.need(start, length, end)
            pos = start + length


def syntax_of(transfer_syntax: str) -> Syntax:
    """Return how `transfer_syntax` encodes a data set.

    Raises:
        Undecodable: it is not a transfer syntax this version knows.
    """
    if transfer_syntax not in _KNOWN_SYNTAXES:
        raise Undecodable("unknown transfer syntax")
    uid = UID(transfer_syntax)
    return Syntax(
        implicit=uid.is_implicit_VR,
        big_endian=not uid.is_little_endian,
        deflated=uid == "1.2.840.10008.1.2.1.99",
    )


def inflate(data: memoryview) -> bytes:
    """Return the inflated data set (PS3.5 A.5).

    Raises:
        Truncated: the stream ends early or has a tail.
        LimitExceeded: it inflates beyond 4 GiB or a ratio of 100.
    """
    limit = max(MAX_INFLATE_FLOOR_BYTES, min(MAX_FILE_BYTES, MAX_INFLATE_RATIO * len(data)))
    inflator = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflator.decompress(data, limit)
    except zlib.error as exc:
        raise Undecodable("damaged deflate stream") from exc
    if inflator.unconsumed_tail:
        raise LimitExceeded("inflated size")
    if not inflator.eof or len(inflator.unused_data) > 1:
        raise Truncated()
    return plain


def parse_file(data: bytes) -> DicomFile:
    """Parse a whole PS3.10 file.

    Raises:
        NotDicom: no `DICM` prefix or no file meta group.
        NoTransferSyntax: the file meta does not name one.
        Truncated: the file ends early or goes on after its data set.
        Undecodable: the encoding breaks PS3.5.
        LimitExceeded: size, depth or inflation.
    """
    if len(data) < 132 or data[128:132] != b"DICM":
        raise NotDicom()
    view = memoryview(data)
    reader = _Reader(view, Syntax())
    meta: list[Element] = []
    pos = 132
    while pos < len(data) and reader.tag(pos, len(data)) >> 16 == 2:
        tag, vr, length, start = reader.header(pos, len(data))
        element, pos = reader.element(tag, vr, length, start, len(data), 0)
        meta.append(element)
    named = [bytes(e.value).strip(b"\0 ") for e in meta if e.tag == 0x00020010]
    if not named or not named[0]:
        raise NoTransferSyntax()
    transfer_syntax = named[0].decode("latin-1")
    syntax = syntax_of(transfer_syntax)
    body = memoryview(inflate(view[pos:])) if syntax.deflated else view[pos:]
    elements, _ = _Reader(body, syntax).elements(0, len(body), is_open=False, depth=0)
    return DicomFile(meta, elements, transfer_syntax, syntax)


def padded(vr: str, value: bytes | memoryview) -> bytes | memoryview:
    """Return the value with the even length PS3.5 7.1.1 asks for."""
    if len(value) % 2 == 0:
        return value
    return bytes(value) + (b"\0" if vr in NUL_PADDED_VRS else b" ")


def encode(elements: Sequence[Element], syntax: Syntax) -> list[bytes | memoryview]:
    """Return the encoding of a data set as pieces; sequences get defined lengths."""
    order = ">" if syntax.big_endian else "<"
    pieces: list[bytes | memoryview] = []
    for element in elements:
        if element.items is None:
            body: list[bytes | memoryview] = [padded(element.vr, element.value)]
        else:
            body = _encode_items(element.items, syntax, order)
        size = _UNDEFINED if element.is_encapsulated else sum(map(len, body))
        head = struct.pack(order + "HH", element.tag >> 16, element.tag & 0xFFFF)
        if syntax.implicit:
            head += struct.pack(order + "L", size)
        elif element.vr in LONG_VRS:
            head += element.vr.encode() + b"\0\0" + struct.pack(order + "L", size)
        else:
            head += element.vr.encode() + struct.pack(order + "H", size)
        pieces.append(head)
        pieces.extend(body)
    return pieces


def _encode_items(
    items: Sequence[Sequence[Element]], syntax: Syntax, order: str
) -> list[bytes | memoryview]:
    body: list[bytes | memoryview] = []
    for item in items:
        inner = encode(item, syntax)
        body.append(struct.pack(order + "HHL", 0xFFFE, 0xE000, sum(map(len, inner))))
        body.extend(inner)
    return body


def deflate(pieces: Sequence[bytes | memoryview]) -> bytes:
    """Return the deflated data set, padded to an even length (PS3.5 A.5)."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])
    return packed + b"\0" * (len(packed) % 2)
