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
# ISO 15444-1 A.2, and CAP of part 15. Packed packet headers (PPM, PPT) are not among them: no
# medical encoder writes them, and behind what a decoder needs they may hold anything.
_J2K_MAIN: Final = frozenset(
    {0x50, 0x51, 0x52, 0x53, 0x55, 0x57, 0x5C, 0x5D, 0x5E, 0x5F, 0x63, 0x64}
)
_J2K_TILE: Final = frozenset({0x52, 0x53, 0x58, 0x5C, 0x5D, 0x5E, 0x5F, 0x64})
# Packet lengths and component offsets of the main header: no decoder needs them.
_J2K_IDLE: Final = frozenset({0x57, 0x63, 0x64})
_J2K_TLM, _J2K_PLT = 0x55, 0x58
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

    Comments and other idle segments of the main header go, and lengths of tile-parts that are not
    true; comments and untrue packet lengths of a tile-part become comments of zeros, so that no
    length in the stream changes. The very object comes back when there is nothing to remove.

    Raises:
        Undecodable: the marker structure is broken, or a segment is none that decoders read.
    """
    body = _out_of_boxes(stream)
    if body[:2] != b"\xff\x4f":
        raise Undecodable("JPEG 2000 start")
    changes: list[tuple[int, int, bytes]] = []
    lengths: list[tuple[int, int]] = []
    pos = 2
    while _marker(body, pos) != _SOT:
        stop = _segment_end(body, pos, _J2K_MAIN)
        if body[pos + 1] in _J2K_IDLE:
            changes.append((pos, stop, b""))
        elif body[pos + 1] == _J2K_TLM:
            lengths.append((pos, stop))
        pos = stop
    parts: list[tuple[int, int]] = []
    end = len(body)
    while pos < end and _marker(body, pos) == _SOT:
        length = int.from_bytes(body[pos + 6 : pos + 10], "big")
        stop = pos + length if length else end
        if (length and length < 14) or stop > end:
            raise Undecodable("tile-part length")
        parts.append((int.from_bytes(body[pos + 4 : pos + 6], "big"), length))
        changes += _tile_changes(body, pos + 12, stop)
        pos = stop
    if body[pos : pos + 2] == b"\xff\xd9":
        pos += 2
    elif pos != end:
        raise Undecodable("JPEG 2000 end")
    if not _are_true(body, lengths, parts):
        changes += [(first, last, b"") for first, last in lengths]
    kept: list[bytes] = []
    copied = 0
    for first, last, instead in sorted(changes):
        kept += (body[copied:first], instead)
        copied = last
    result = _joined(body, kept, copied, pos)
    return stream if result is body and body is stream else result


def _tile_changes(body: bytes, pos: int, stop: int) -> list[tuple[int, int, bytes]]:
    """Return what of a tile-part's header becomes comments of zeros: from, to and instead."""
    comments: list[tuple[int, int]] = []
    lengths: list[tuple[int, int]] = []
    while pos < stop and _marker(body, pos) != _SOD:
        after = _segment_end(body, pos, _J2K_TILE)
        if body[pos + 1] == _J2K_COM and body[pos + 4 : after].strip(b"\0"):
            comments.append((pos, after))
        elif body[pos + 1] == _J2K_PLT:
            lengths.append((pos, after))
        pos = after
    packets = stop - pos - 2 - 2 * (stop == len(body) and body[-2:] == b"\xff\xd9")
    if lengths and _packet_bytes(body, lengths) != packets:
        comments += lengths
    return [
        (first, last, b"\xff\x64" + body[first + 2 : first + 4] + bytes(last - first - 4))
        for first, last in comments
    ]


def _packet_bytes(body: bytes, segments: list[tuple[int, int]]) -> int:
    """Return the sum of the packet lengths (ISO 15444-1 A.7.3), or -1 if they are none."""
    total = 0
    for number, (first, last) in enumerate(segments):
        if last - first < 6 or body[first + 4] != number & 0xFF or body[last - 1] & 0x80:
            return -1
        length = 0
        for byte in body[first + 5 : last]:
            length = length << 7 | byte & 0x7F
            if not length:  # no packet is empty, and no length begins with zeros
                return -1
            if not byte & 0x80:
                total, length = total + length, 0
    return total


def _are_true(body: bytes, segments: list[tuple[int, int]], parts: list[tuple[int, int]]) -> bool:
    """Return whether TLM segments (ISO 15444-1 A.7.1) say index and length of all tile-parts."""
    stated: list[tuple[int, int]] = []
    for number, (first, last) in enumerate(segments):
        if last - first < 6 or body[first + 4] != number or body[first + 5] & 0x8F:
            return False
        index, length = body[first + 5] >> 4 & 3, 4 if body[first + 5] & 0x40 else 2
        if index == 3 or (last - first - 6) % (index + length):
            return False
        for at in range(first + 6, last, index + length):
            middle = at + index
            tile = int.from_bytes(body[at:middle], "big") if index else len(stated)
            stated.append((tile, int.from_bytes(body[middle : middle + length], "big")))
    return stated == parts


def _marker(body: bytes, pos: int) -> int:
    if pos + 2 > len(body) or body[pos] != 0xFF:
        raise Undecodable("JPEG 2000 marker")
    return body[pos + 1]


def _segment_end(body: bytes, pos: int, allowed: frozenset[int]) -> int:
    if _marker(body, pos) not in allowed:
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
