"""Data elements and their encoding (PS3.5): what a data set is made of and how it is written.

Values stay raw bytes, so nothing is lost or reinterpreted on the way through.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR
from pydicom.uid import UID, AllTransferSyntaxes

from pleura.anonymizer.errors import (
    Undecodable,
)
from pleura.anonymizer.source import Span

# What these say quotes the values they complain about; nothing of it may reach a log. A level is
# inherited by loggers below, a filter is not.
for _library in ("pydicom", "pylibjpeg", "openjpeg", "jpeg_ls"):
    logging.getLogger(_library).setLevel(logging.CRITICAL + 1)
    logging.getLogger(_library).propagate = False
    logging.getLogger(_library).addHandler(logging.NullHandler())

MAX_FILE_BYTES: Final = 4 << 30

PIXEL_TAGS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
LONG_VRS: Final = frozenset(
    {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
)
SHORT_VRS: Final = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT"}
    | {"PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"}
)
NUL_PADDED_VRS: Final = (LONG_VRS | {"UI"}) - {"UC", "UR", "UT"}
_DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"  # PS3.5 A.4.13; unknown to pydicom
_KNOWN_SYNTAXES: Final = frozenset(str(uid) for uid in AllTransferSyntaxes)
_UNDEFINED: Final = 0xFFFFFFFF
_HEADS: Final = {
    order: tuple(struct.Struct(order + form).pack for form in ("HH2sH", "HH2sHL", "HHL"))
    for order in "<>"
}


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a data set is encoded."""

    implicit: bool = False
    big_endian: bool = False
    deflated: bool = False

    def known_vr(self, tag: int, length: int) -> str:
        """Return the dictionary's VR of a value sent as UN (PS3.5 6.2.2), else UN."""
        if self.implicit or self.big_endian or self.deflated:
            return "UN"
        known = implicit_vr(tag)  # the value is implicit little endian
        return known if known in LONG_VRS or length <= 0xFFFE else "UN"


@dataclass(slots=True)
class Element:
    """One data element.

    Exactly one of the two holds content: `items` for a sequence, else `value`. Pixel data of
    the top level, and nothing else, is a `Span`. For pixel data in fragments, `value` is the run
    of items up to and including the sequence delimiter.
    """

    tag: int
    vr: str
    value: bytes | memoryview | Span = b""
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
def implicit_vr(tag: int) -> str:
    """Return the VR a tag has where none is written."""
    if tag & 0xFFFF == 0:
        return "UL"
    if (tag >> 16) & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    vr = vr_of(tag)
    if vr is None or vr == "NONE":
        return "UN"
    return "OW" if vr.endswith("OW") else vr.split(" or ")[0]


@lru_cache(maxsize=64)
def syntax_of(transfer_syntax: str) -> Syntax:
    """Return how `transfer_syntax` encodes a data set.

    Raises:
        Undecodable: it is not a transfer syntax this version knows.
    """
    if transfer_syntax == _DEFLATED_FRAMES:
        return Syntax()
    if transfer_syntax not in _KNOWN_SYNTAXES:
        raise Undecodable("unknown transfer syntax")
    uid = UID(transfer_syntax)
    return Syntax(
        implicit=uid.is_implicit_VR,
        big_endian=not uid.is_little_endian,
        deflated=uid == "1.2.840.10008.1.2.1.99",
    )


def encode(elements: Sequence[Element], syntax: Syntax) -> list[bytes | Span]:
    """Return the encoding of a data set as pieces; sequences get defined lengths."""
    order = ">" if syntax.big_endian else "<"
    short, long, implicit = _HEADS[order]
    pieces: list[bytes | Span] = []
    for element in elements:
        tag, vr, value = element.tag, element.vr, element.value
        if element.items is not None:
            body = _encode_items(element.items, syntax, order)
            size = sum(map(len, body))
        elif len(value) % 2:
            body = _padded(vr, value)
            size = len(value) + 1
        else:
            body = [value if isinstance(value, Span) else bytes(value)]
            size = len(value)
        if element.is_encapsulated:
            size = _UNDEFINED
        if syntax.implicit:
            pieces.append(implicit(tag >> 16, tag & 0xFFFF, size))
        elif vr in LONG_VRS:
            pieces.append(long(tag >> 16, tag & 0xFFFF, vr.encode(), 0, size))
        else:
            pieces.append(short(tag >> 16, tag & 0xFFFF, vr.encode(), size))
        pieces += body
    return pieces


def _padded(vr: str, value: bytes | memoryview | Span) -> list[bytes | Span]:
    """Return the value with the even length PS3.5 7.1.1 asks for."""
    body: list[bytes | Span] = [value if isinstance(value, Span) else bytes(value)]
    if len(value) % 2:
        body.append(b"\0" if vr in NUL_PADDED_VRS else b" ")
    return body


def padded(vr: str, value: bytes) -> bytes:
    """Return the value with the even length PS3.5 7.1.1 asks for."""
    return b"".join(map(bytes, _padded(vr, value)))


def _encode_items(
    items: Sequence[Sequence[Element]], syntax: Syntax, order: str
) -> list[bytes | Span]:
    body: list[bytes | Span] = []
    for item in items:
        inner = encode(item, syntax)
        body.append(struct.pack(order + "HHL", 0xFFFE, 0xE000, sum(map(len, inner))))
        body.extend(inner)
    return body
