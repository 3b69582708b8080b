"""Code streams without what is no image: comments, application data, and foreign tails.

Pure: bytes in, bytes out. Entropy-coded data is never touched.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from pleura.anonymizer.errors import Undecodable

_NEXT_MARKER: Final = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_BARE: Final = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
# Tables, frame and scan headers, application data and comments of ISO 10918-1 and 14495-1;
# what is reserved, arithmetic or of hierarchical mode nobody reads, and it may hold anything.
_SEGMENTS: Final = frozenset(
    {*range(0xC0, 0xD0), *range(0xDA, 0xDE), *range(0xE0, 0xF0), 0xF7, 0xF8, 0xFE} - {0xC8, 0xCC}
)
# ISO 15444-1 A.2, and CAP of part 15.
_J2K_SEGMENTS: Final = frozenset(
    {0x50, 0x51, 0x52, 0x53, 0x55, 0x57, 0x58, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61, 0x63, 0x64}
)
_SOS, _EOI, _COM = 0xDA, 0xD9, 0xFE
_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_SOT, _SOD, _EOC, _J2K_COM = 0x90, 0x93, 0xD9, 0x64


def strip_jpeg(stream: bytes) -> bytes:
    """Return a JPEG or JPEG-LS stream without APPn and COM segments and without a tail.

    JFIF APP0 (without its thumbnail), Adobe APP14 and HP's APP8 `mrfx` stay: decoders choose the
    colour transform by them. The very object comes back when there is nothing to remove.

    Raises:
        Undecodable: the marker structure is broken.
    """
    if stream[:2] != b"\xff\xd8":
        raise Undecodable("JPEG start")
    kept: list[bytes] = []
    pos, copied = 2, 0
    while True:
        while stream[pos : pos + 2] == b"\xff\xff":  # fill bytes
            pos += 1
        if pos + 2 > len(stream) or stream[pos] != 0xFF:
            raise Undecodable("JPEG marker")
        marker = stream[pos + 1]
        if marker == _EOI:
            pos += 2
            break
        if marker in _BARE:
            pos += 2
            continue
        if marker not in _SEGMENTS:
            raise Undecodable("JPEG marker")
        stop = pos + 2 + int.from_bytes(stream[pos + 2 : pos + 4], "big")
        if stop < pos + 4 or stop > len(stream):
            raise Undecodable("JPEG segment")
        if 0xE0 <= marker <= 0xEF or marker == _COM:
            needed = _needed(marker, stream[pos + 4 : stop])
            if needed != stream[pos + 4 : stop]:
                kept.append(stream[copied:pos])
                if needed:
                    head = bytes((0xFF, marker)) + (len(needed) + 2).to_bytes(2, "big")
                    kept.append(head + needed)
                copied = stop
        pos = stop
        if marker == _SOS:
            found = _NEXT_MARKER.search(stream, pos)
            if found is None:  # no end marker: the data goes on to the end
                pos = len(stream)
                break
            pos = found.start()
    return _joined(stream, kept, copied, pos)


def _needed(marker: int, payload: bytes) -> bytes:
    """Return the part of an APPn or COM segment that a decoder needs."""
    if marker == 0xE0 and payload[:5] == b"JFIF\0" and len(payload) >= 14:
        return payload[:12] + b"\0\0"  # no thumbnail
    if marker == 0xEE and payload[:5] == b"Adobe" and len(payload) >= 12:
        return payload[:12]
    if marker == 0xE8 and payload[:4] == b"mrfx" and len(payload) >= 5:
        return payload[:5]
    return b""


def _joined(stream: bytes, kept: list[bytes], copied: int, end: int) -> bytes:
    """Return the kept parts; padding of zeros behind the end is no tail."""
    if not kept and not stream[end:].strip(b"\0"):
        return stream
    return b"".join([*kept, stream[copied:end]])


def announced(stream: bytes) -> tuple[int, int, int, int]:
    """Return precision, rows, columns and components in a code stream's header; zeros if none."""
    body = _out_of_boxes(stream)
    if body[:4] == b"\xff\x4f\xff\x51" and len(body) >= 43:
        width, height, left, top = struct.unpack_from(">4L", body, 8)
        components = int.from_bytes(body[40:42], "big")
        precision = max((b & 0x7F) + 1 for b in body[42 : 42 + 3 * components : 3])
        return precision, height - top, width - left, components
    pos = 2
    while stream[pos : pos + 1] == b"\xff" and pos + 10 <= len(stream):
        marker = stream[pos + 1]
        if marker in _FRAME_HEADERS:
            precision, rows, columns, components = struct.unpack_from(">BHHB", stream, pos + 4)
            return precision, rows, columns, components
        pos += 1 if marker == 0xFF else 2 + int.from_bytes(stream[pos + 2 : pos + 4], "big")
    return 0, 0, 0, 0


def strip_j2k(stream: bytes) -> bytes:
    """Return a JPEG 2000 code stream without comments, JP2 boxes and tail.

    Comments of the main header go; those of a tile-part are filled with zeros, so that no length
    in the stream changes. The very object comes back when there is nothing to remove.

    Raises:
        Undecodable: the marker structure is broken.
    """
    body = _out_of_boxes(stream)
    if body[:2] != b"\xff\x4f":
        raise Undecodable("JPEG 2000 start")
    kept: list[bytes] = []
    pos, copied = 2, 0
    while _marker(body, pos) != _SOT:
        stop = _segment_end(body, pos)
        if body[pos + 1] == _J2K_COM:
            kept.append(body[copied:pos])
            copied = stop
        pos = stop
    end = len(body)
    while pos < end and _marker(body, pos) == _SOT:
        length = int.from_bytes(body[pos + 6 : pos + 10], "big")
        stop = pos + length if length else end
        if (length and length < 14) or stop > end:
            raise Undecodable("tile-part length")
        for first, last in _tile_comments(body, pos + 12, stop):
            kept.extend((body[copied:first], bytes(last - first)))
            copied = last
        pos = stop
    if body[pos : pos + 2] == b"\xff\xd9":
        pos += 2
    elif pos != end:
        raise Undecodable("JPEG 2000 end")
    result = _joined(body, kept, copied, pos)
    return stream if result is body and body is stream else result


def _tile_comments(body: bytes, pos: int, stop: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while pos < stop and _marker(body, pos) != _SOD:
        after = _segment_end(body, pos)
        if body[pos + 1] == _J2K_COM and body[pos + 4 : after].strip(b"\0"):
            found.append((pos + 4, after))
        pos = after
    return found


def _marker(body: bytes, pos: int) -> int:
    if pos + 2 > len(body) or body[pos] != 0xFF:
        raise Undecodable("JPEG 2000 marker")
    return body[pos + 1]


def _segment_end(body: bytes, pos: int) -> int:
    if _marker(body, pos) not in _J2K_SEGMENTS:
        raise Undecodable("JPEG 2000 marker")
    stop = pos + 2 + int.from_bytes(body[pos + 2 : pos + 4], "big")
    if stop < pos + 4 or stop > len(body):
        raise Undecodable("JPEG 2000 segment")
    return stop


def _out_of_boxes(stream: bytes) -> bytes:
    """Return the code stream of a JP2 file, which PS3.5 A.4.4 does not allow; else the stream."""
    if stream[4:8] != b"jP  ":
        return stream
    pos = 0
    while pos + 8 <= len(stream):
        size, start = int.from_bytes(stream[pos : pos + 4], "big"), pos + 8
        if size == 1:
            size, start = int.from_bytes(stream[pos + 8 : pos + 16], "big"), pos + 16
        stop = pos + size if size else len(stream)
        if stop < start or stop > len(stream):
            break
        if stream[pos + 4 : pos + 8] == b"jp2c":
            return stream[start:stop]
        pos = stop
    raise Undecodable("JP2 boxes")
