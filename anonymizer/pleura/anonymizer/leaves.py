"""Leaves: the elements of a finished file as pydicom's reader finds them.

The residual scan reads through this module and never through the engine's own parser, so that
a fault there cannot hide from the scan. Pixel data at the top level is passed over.
"""

from __future__ import annotations

import io
import logging
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import BinaryIO, Final, NamedTuple, cast

from pydicom import Dataset
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filereader import data_element_generator, read_sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from pleura.anonymizer.errors import SelfCheckFailed
from pleura.anonymizer.inflating import inflate
from pleura.anonymizer.source import BytesSource, Source

# pydicom's warnings quote the values they complain about; none of them may reach a log.
logging.getLogger("pydicom").addFilter(lambda record: False)

_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_IMPLICIT: Final = str(ImplicitVRLittleEndian)
_BIG_ENDIAN: Final = str(ExplicitVRBigEndian)
_DEFLATED: Final = str(DeflatedExplicitVRLittleEndian)
_UNDEFINED: Final = 0xFFFFFFFF
# Sets whose bytes may be UTF-8 by chance.
_MULTI_BYTE: Final = frozenset(
    [f"ISO 2022 IR {n}" for n in (13, 58, 87, 149, 159, 166)]
    + ["ISO_IR 13", "ISO_IR 166", "ISO_IR 192", "GB18030", "GBK"]
)
_FORBIDDEN: Final = re.compile(rb"[\1-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]|\0(?!\0*(?:\\|\Z))")
_CONTROLS: Final = bytes({*range(32), 127} - {*b"\t\n\f\r"})
_ESCAPE: Final = re.compile(rb"\x1b[$(-/]{1,2}[@-Z]")
_PLAIN_RUN: Final = re.compile(rb"[ -~]{6,}")
_FIRST_WIDE: Final = "\u0e00"
_WIDE: Final = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


Step = tuple[int, int]
"""A sequence's tag and the number of an item in it."""


class Leaf(NamedTuple):
    """One primitive element; `sets` are its character sets, `depth` counts its sequences.

    `path` leads to the item it is in. A sequence, where one is asked for, has the VR SQ and as
    `raw` the number of its items, nothing if it has none.
    """

    tag: int
    vr: str
    raw: bytes
    sets: tuple[str, ...]
    depth: int
    path: tuple[Step, ...] = ()

    def text(self) -> str:
        """Return the text, undecodable bytes replaced; UTF-8 in a Latin file is UTF-8."""
        raw = self.raw
        if raw.isascii():
            text = raw.decode("ascii")
            if text.isprintable() or "\x1b" not in text:
                return text.strip(" \0")
        elif not _MULTI_BYTE.intersection(self.sets) and b"\x1b" not in raw:
            with suppress(UnicodeDecodeError):
                return raw.decode("utf-8").strip(" \0")
        return self._declared()

    def _declared(self) -> str:
        delimiters = PN_DELIMS if self.vr == "PN" else TEXT_VR_DELIMS
        try:
            encodings = convert_encodings(list(self.sets) or ["ISO_IR 6"])
            return decode_bytes(self.raw, encodings, delimiters).strip(" \0")
        except (LookupError, UnicodeError, ValueError):
            return self.raw.decode("latin-1").strip(" \0")

    def readings(self) -> tuple[str, ...]:
        """Return every text the value may be meant as, the one of `text` first."""
        text = self.text()
        if text.isascii() and text.isprintable():
            return (text,)
        found = {text: None}
        if not self.raw.isascii():
            with suppress(UnicodeDecodeError):
                found[self.raw.decode("utf-8")] = None
        if is_unreadable(self.raw):
            found[self.raw.translate(None, _CONTROLS).decode("latin-1")] = None
        return tuple(found)

    def visible(self) -> tuple[str, ...]:
        """Return the readings and, of bytes no text may have, UTF-16 and UTF-32."""
        found = self.readings()
        if len(found) > 1 and is_unreadable(self.raw):
            found += tuple(self.raw.decode(codec, "ignore") for codec in _WIDE)
        return found

    def hidden(self) -> str:
        """Return the plain letters that others read as letters of two bytes, in lower case.

        They stand behind an escape, or one of them ends such a letter.
        """
        if self.raw.isascii() and b"\x1b" not in self.raw:
            return ""
        text = self.text()
        if b"\x1b" not in self.raw and max(text, default="") < _FIRST_WIDE:
            return ""
        runs = (r.decode("ascii") for r in _PLAIN_RUN.findall(_ESCAPE.sub(b"\0", self.raw)))
        return "\n".join(run for run in runs if run not in text).lower()


def is_unreadable(raw: bytes) -> bool:
    """Return whether bytes hold what no text may: NUL but as padding, control characters."""
    return len(raw.translate(None, _CONTROLS)) != len(raw) and bool(_FORBIDDEN.search(raw))


class _Window(io.RawIOBase):
    """A source as the file object pydicom wants."""

    def __init__(self, source: Source, start: int = 0) -> None:
        self._source, self._pos = source, start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._pos, self._source.size)[whence]
        self._pos = base + offset
        return self._pos

    def tell(self) -> int:
        return self._pos

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._source.read(self._pos, len(buffer))
        buffer[: len(data)] = data
        self._pos += len(data)
        return len(data)


class _Reading:
    """One pass over a file; remembers where pydicom stopped for pixel data."""

    def __init__(self, source: Source, *, with_sequences: bool = False) -> None:
        self.source, self._with_sequences = source, with_sequences
        self.file: BinaryIO = _buffered(source, 132)
        self.stopped_at: tuple[int, int] | None = None  # length and position of a value

    def leaves(self) -> Iterator[Leaf]:
        """Yield every primitive element, the file meta first, and sequences if asked for.

        Raises:
            SelfCheckFailed: the file does not end where its data set does.
        """
        syntax = ""
        for element in data_element_generator(self.file, False, True, _is_data_set):
            raw = _raw(element)
            if element.tag == 0x00020010:
                syntax = raw.decode("latin-1").strip(" \0")
            yield Leaf(int(element.tag), str(element.VR), raw, (), 0)
        if syntax == _DEFLATED:
            self.source = inflate(self.source, self.file.tell())
            self.file = _buffered(self.source, 0)
        is_implicit, is_little = syntax == _IMPLICIT, syntax != _BIG_ENDIAN
        sets: tuple[str, ...] = ()
        while True:
            self.stopped_at = None
            for element in data_element_generator(
                self.file, is_implicit, is_little, self._is_pixel_data
            ):
                tag, vr, value = int(element.tag), element.VR, element.value
                if vr is None or vr == "UN":
                    vr = _vr(tag)
                if tag == 0x00080005:
                    sets = _terms(element)
                if vr == "SQ":
                    yield from _nested(element, sets, is_little, (), self._with_sequences)
                elif type(value) is bytes:
                    yield Leaf(tag, vr, value, sets, 0)
                else:
                    yield Leaf(tag, vr, _raw(element), sets, 0)
            if self.stopped_at is None:
                break
            self._pass_over(is_little)
        if self.file.tell() != self.source.size:
            raise SelfCheckFailed("tail")

    def _is_pixel_data(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        if int(tag) not in _PIXELS or vr == "SQ":
            return False
        self.stopped_at = length, self.file.tell()
        return True

    def _pass_over(self, is_little: bool) -> None:
        assert self.stopped_at is not None
        length, pos = self.stopped_at
        unpack = struct.Struct("<HHL" if is_little else ">HHL").unpack
        while length == _UNDEFINED:
            self.file.seek(pos)
            group, number, size = unpack(self.file.read(8))
            pos += 8 + size
            if (group, number) == (0xFFFE, 0xE0DD):
                length = 0
        if pos + length > self.source.size:
            raise SelfCheckFailed("pixel data")
        self.file.seek(pos + length)


def leaves_of(source: Source | bytes) -> Iterator[Leaf]:
    """Yield every primitive element of a file outside its pixel data."""
    return _Reading(BytesSource(source) if isinstance(source, bytes) else source).leaves()


def elements_of(source: Source) -> Iterator[Leaf]:
    """Yield every element of a file outside its pixel data, each sequence before its items."""
    return _Reading(source, with_sequences=True).leaves()


def preamble_of(source: Source | bytes) -> bytes:
    """Return the first 128 bytes."""
    return source[:128] if isinstance(source, bytes) else source.read(0, 128)


def _buffered(source: Source, start: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Window(source, start), 64 << 10))


def _is_data_set(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag >> 16 != 2


def _nested(
    sequence: RawDataElement | DataElement,
    sets: tuple[str, ...],
    is_little: bool,
    path: tuple[Step, ...],
    with_sequences: bool,
) -> Iterator[Leaf]:
    items, depth, above = _items(sequence, is_little), len(path) + 1, int(sequence.tag)
    if with_sequences:
        count = str(len(items)).encode() if items else b""
        yield Leaf(above, "SQ", count, (), len(path), path)
    for number, item in enumerate(items):
        inner, place = sets, (*path, (above, number))
        if 0x00080005 in item:
            inner = _terms(item.get_item(0x00080005))
        for element in item.elements():
            tag, vr = int(element.tag), element.VR
            if vr is None or vr == "UN":
                vr = _vr(tag)
            if vr == "SQ":
                yield from _nested(element, inner, is_little, place, with_sequences)
            else:
                yield Leaf(tag, vr, _raw(element), inner, depth, place)


def _items(element: RawDataElement | DataElement, is_little: bool) -> Sequence[Dataset]:
    value = element.value
    if not isinstance(element, RawDataElement) or not isinstance(value, bytes):
        return cast(Sequence[Dataset], value or ())
    # PS3.5 6.2.2: a sequence sent as UN is implicit little endian
    is_unknown = element.VR == "UN"
    return read_sequence(
        io.BytesIO(value),
        element.is_implicit_VR or is_unknown,
        is_little or is_unknown,
        len(value),
        "iso8859",
    )


def _terms(element: RawDataElement | DataElement | None) -> tuple[str, ...]:
    return tuple(part.strip(" \0") for part in _raw(element).decode("latin-1").split("\\"))


@lru_cache(maxsize=8192)
def _vr(tag: int) -> str:
    try:
        return dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return "UN"


def _raw(element: RawDataElement | DataElement | None) -> bytes:
    value = None if element is None else element.value
    if isinstance(value, bytes):
        return value
    if value is None:
        return b""
    parts = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return "\\".join(str(part) for part in parts).encode()
