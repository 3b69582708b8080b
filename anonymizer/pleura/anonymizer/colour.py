"""Colour profiles (ICC.1:2022, attribute (0028,2000)): the colours stay, the words go.

A profile also names its maker, the device and the day of calibration, in its header, in texts
and in tags of anybody's own. So nothing is taken out of it: a new profile is made of the
tags that map colours, each checked for its form, under a header that says nothing else.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Final

_TEXT: Final = b"ANONYMIZED"
_HEADER_BYTES: Final = 128
_ENTRY_BYTES: Final = 12
_MAX_TAGS: Final = 100
_CLASSES: Final = frozenset({b"scnr", b"mntr", b"prtr", b"spac"})
_SPACES: Final = frozenset({b"RGB ", b"GRAY", b"XYZ ", b"Lab ", b"YCbr", b"CMYK"})
_CONNECTING: Final = frozenset({b"XYZ ", b"Lab "})
_VERSIONS: Final = (2, 4)
_INTENTS: Final = 4
_DUMMY_DAY: Final = struct.pack(">6H", 1900, 1, 1, 0, 0, 0)
_D50: Final = struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)  # ICC.1 7.2.16: no other is lawful
_PARAMETERS: Final = (1, 3, 4, 5, 7)  # of parametricCurveType by its function (ICC.1 10.18)
_MATRIX: Final = (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC")
_COMPLETE: Final = (_MATRIX, (b"kTRC",), (b"A2B0",))  # any of them says what a colour means


class _Malformed(Exception):
    """The bytes are no profile this module can make again."""


def clean_profile(raw: bytes) -> bytes | None:
    """Return a profile with the same colours that names nobody, or None if `raw` is none.

    The result of a result is the same bytes.
    """
    try:
        tags = {name: _checked(name, data) for name, data in _tags(raw).items() if name in _FORMS}
        head = _header(raw)
    except (_Malformed, struct.error):
        return None
    if not any(all(name in tags for name in needed) for needed in _COMPLETE):
        return None
    is_new = raw[8] == 4
    tags[b"desc"], tags[b"cprt"] = (_mluc(), _mluc()) if is_new else (_desc(), _text())
    return _joined(head, tags)


def _tags(raw: bytes) -> dict[bytes, bytes]:
    """Return the data of every tag by signature."""
    if len(raw) < _HEADER_BYTES + 4:
        raise _Malformed
    (count,) = struct.unpack_from(">I", raw, _HEADER_BYTES)
    if count > _MAX_TAGS:
        raise _Malformed
    found: dict[bytes, bytes] = {}
    for number in range(count):
        at = _HEADER_BYTES + 4 + number * _ENTRY_BYTES
        name, offset, size = struct.unpack_from(">4sII", raw, at)
        if name in found or offset + size > len(raw):
            raise _Malformed
        found[name] = raw[offset : offset + size]
    return found


def _header(raw: bytes) -> bytes:
    """Return a header with version, class, colour spaces and intent of another, no size yet."""
    kind, space, connecting = raw[12:16], raw[16:20], raw[20:24]
    (intent,) = struct.unpack_from(">I", raw, 64)
    if raw[36:40] != b"acsp" or raw[8] not in _VERSIONS or intent >= _INTENTS:
        raise _Malformed
    if kind not in _CLASSES or space not in _SPACES or connecting not in _CONNECTING:
        raise _Malformed
    head = bytearray(_HEADER_BYTES)
    head[8:10], head[12:24], head[24:36] = raw[8:10], raw[12:24], _DUMMY_DAY
    head[36:40], head[64:68], head[68:80] = b"acsp", raw[64:68], _D50
    return bytes(head)


def _checked(name: bytes, data: bytes) -> bytes:
    """Return the data of a colour tag, only what its type says it holds."""
    if data[:4] in _LOOSE and name in _TABLES:
        return _relaid(data)
    size_of = _FORMS[name].get(data[:4])
    if size_of is None:
        raise _Malformed
    return data[:4] + bytes(4) + _part(data, 8, size_of(data) - 8)


def _part(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise _Malformed
    return data[at : at + size]


def _relaid(data: bytes) -> bytes:
    """Return a table of loose parts (ICC.1 10.12, 10.13) with nothing between and after them."""
    inputs, outputs = _part(data, 8, 2)
    near, far = (outputs, inputs) if data[:4] == b"mAB " else (inputs, outputs)
    curves_b, matrix, curves_m, cells, curves_a = struct.unpack_from(">5I", data, 12)
    parts = (
        _curves(data, curves_b, near),
        _part(data, matrix, 48) if matrix else b"",
        _curves(data, curves_m, near),
        _cells(data, cells, inputs, outputs),
        _curves(data, curves_a, far),
    )
    places, body = [], b""
    for part in parts:
        places.append(32 + len(body) if part else 0)
        body += part
    return data[:4] + bytes(4) + data[8:10] + bytes(2) + struct.pack(">5I", *places) + body


def _curves(data: bytes, at: int, count: int) -> bytes:
    found = b""
    for _ in range(count if at else 0):
        size_of = _CURVE.get(data[at : at + 4])
        if size_of is None:
            raise _Malformed
        size = size_of(data[at:])
        found += data[at : at + 4] + bytes(4) + _part(data, at + 8, size - 8) + bytes(-size % 4)
        at += size + -size % 4
    return found


def _cells(data: bytes, at: int, inputs: int, outputs: int) -> bytes:
    if not at:
        return b""
    grid, depth = _part(data, at, 16)[:inputs], _part(data, at, 17)[16]
    size = math.prod(grid) * outputs * depth
    head = grid.ljust(16, b"\0") + bytes([depth, 0, 0, 0])
    return head + _part(data, at + 20, size) + bytes(-size % 4)


def _curve_bytes(data: bytes) -> int:
    (count,) = struct.unpack_from(">I", data, 8)
    return 12 + 2 * int(count)


def _parametric_bytes(data: bytes) -> int:
    (function,) = struct.unpack_from(">H", data, 8)
    if function >= len(_PARAMETERS):
        raise _Malformed
    return 12 + 4 * _PARAMETERS[function]


def _lut8_bytes(data: bytes) -> int:
    inputs, outputs, grid = data[8:11] if len(data) > 48 else b"\0\0\0"
    return 48 + 256 * (inputs + outputs) + int(grid**inputs) * outputs


def _lut16_bytes(data: bytes) -> int:
    inputs, outputs, grid = data[8:11] if len(data) > 52 else b"\0\0\0"
    before, after = (int(n) for n in struct.unpack_from(">2H", data, 48))
    return 52 + 2 * (before * inputs + after * outputs + int(grid**inputs) * outputs)


_Forms = Mapping[bytes, Callable[[bytes], int]]
_POINT: Final[_Forms] = {b"XYZ ": lambda _: 20}
_CURVE: Final[_Forms] = {b"curv": _curve_bytes, b"para": _parametric_bytes}
_TABLE: Final[_Forms] = {
    b"mft1": _lut8_bytes, b"mft2": _lut16_bytes,
}  # fmt: skip
_LOOSE: Final = (b"mAB ", b"mBA ")
_TABLES: Final = (b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"gamt")
_FORMS: Final[Mapping[bytes, _Forms]] = {
    **dict.fromkeys((b"wtpt", b"bkpt", b"lumi", b"rXYZ", b"gXYZ", b"bXYZ"), _POINT),
    **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC", b"kTRC"), _CURVE),
    **dict.fromkeys(_TABLES, _TABLE),
    b"chad": {b"sf32": lambda _: 44},
}


def _mluc() -> bytes:
    text = _TEXT.decode("ascii").encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">2I2s2s2I", 1, 12, b"en", b"US", len(text), 28) + text


def _desc() -> bytes:
    """Return a textDescriptionType: ASCII, no Unicode, no ScriptCode (67 bytes of room)."""
    text = _TEXT + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(8 + 3 + 67)


def _text() -> bytes:
    return b"text" + bytes(4) + _TEXT + b"\0"


def _joined(head: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """Return a whole profile; equal data is written once (ICC.1 7.3.1)."""
    start = _HEADER_BYTES + 4 + _ENTRY_BYTES * len(tags)
    table, body, places = b"", bytearray(), dict[bytes, int]()
    for name, data in sorted(tags.items()):
        if data not in places:
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    size = struct.pack(">I", start + len(body))
    return size + head[4:] + struct.pack(">I", len(tags)) + table + bytes(body)
