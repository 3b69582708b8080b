"""RLE and deflated frames: unpacked, and without what is no image.

Pure: bytes in, bytes out. Nothing but the image is left in a stream: no gap between segments, no
run past the last pixel, no tail, no bits outside those stored.
"""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise
from typing import Final

import numpy as np

from pleura.anonymizer.errors import Undecodable
from pleura.anonymizer.pixels.facts import ImageFacts
from pleura.anonymizer.pixels.samples import byte_tables, clear_bytes, is_clear

_HEADER: Final = 64
_MAX_SEGMENTS: Final = 15


def inflated(facts: ImageFacts, stream: bytes) -> bytes:
    """Return the native bytes of a deflated frame (PS3.5 A.4.13), its padding not among them.

    Raises:
        Undecodable: the stream is broken or ends early.
    """
    size = facts.frame_bytes
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream, size)
    except zlib.error:
        raise Undecodable("deflated frame") from None
    if len(data) < size:
        raise Undecodable("deflated frame")
    return data


def unpacked_bits(facts: ImageFacts, stream: bytes) -> bytes:
    """Return the native bytes of the single segment of a 1-bit RLE frame (PS3.5 G).

    Raises:
        Undecodable: the segment is broken or ends early.
    """
    (segment,) = _segments(stream, 1)
    return _plane(_bounded(segment, facts.frame_bytes, None))


def strip_rle(facts: ImageFacts, stream: bytes) -> bytes:
    """Return an RLE frame with nothing in it but the image; the very object if it is so.

    Raises:
        Undecodable: segments are broken, or bits above a sample differ from its sign.
    """
    is_bits = facts.allocated == 1
    tables = byte_tables(facts)
    width = max(facts.allocated // 8, 1)
    size = facts.frame_bytes if is_bits else facts.rows * facts.columns
    segments = _segments(stream, width * facts.samples)
    bodies = [
        _bounded(segment, size, tables[i % width] if tables else None)
        for i, segment in enumerate(segments)
    ]
    if tables is None:
        _check_signs(facts, [_plane(body) for body in bodies])
    if is_bits:
        bodies[0] = _without_last_bits(facts, bodies[0])
    offsets, at = [], _HEADER
    for i, body in enumerate(bodies):
        bodies[i] = body + bytes(len(body) % 2)
        offsets.append(at)
        at += len(bodies[i])
    head = struct.pack("<16L", len(bodies), *offsets, *bytes(_MAX_SEGMENTS - len(bodies)))
    clean = head + b"".join(bodies)
    return stream if stream.rstrip(b"\0") == clean.rstrip(b"\0") else clean


def strip_deflated(facts: ImageFacts, stream: bytes) -> bytes:
    """Return a deflated frame with nothing in it but the image; the very object if it is so.

    Raises:
        Undecodable: the stream is broken or ends early.
    """
    data = inflated(facts, stream)
    clean = _masked(facts, clear_bytes(facts, data))
    end = zlib.decompressobj(-zlib.MAX_WBITS)
    padded = end.decompress(stream, len(data) + 2)
    is_only_image = (
        end.eof and not end.unused_data.strip(b"\0") and not padded[len(data) :].strip(b"\0")
    )
    if is_only_image and clean == data:
        return stream
    squeezed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezed.compress(clean) + squeezed.flush()


def _segments(stream: bytes, count: int) -> list[bytes]:
    """Return the segments of an RLE frame, padding included."""
    if len(stream) < _HEADER or count > _MAX_SEGMENTS:
        raise Undecodable("RLE header")
    found, *offsets = struct.unpack("<16L", stream[:_HEADER])
    bounds = [*offsets[:count], len(stream)]
    if found != count or bounds[0] < _HEADER or bounds != sorted(bounds):
        raise Undecodable("RLE header")
    return [stream[first:last] for first, last in pairwise(bounds)]


def _bounded(segment: bytes, size: int, table: bytes | None) -> bytes:
    """Return a PackBits run that unpacks to `size` bytes exactly, each put through `table`."""
    out, pos, room = bytearray(), 0, size
    while room:
        code = segment[pos] if pos < len(segment) else 128
        if code == 128:  # no operation
            if pos >= len(segment):
                raise Undecodable("RLE segment")
            pos += 1
            continue
        count = min(code + 1 if code < 128 else 257 - code, room)
        held = segment[pos + 1 : pos + 1 + (count if code < 128 else 1)]
        if len(held) < (count if code < 128 else 1):
            raise Undecodable("RLE segment")
        out.append(count - 1 if code < 128 or count == 1 else 257 - count)
        out += held.translate(table) if table else held
        pos += 2 + code if code < 128 else 2
        room -= count
    return bytes(out)


def _plane(body: bytes) -> bytes:
    """Undo PackBits that `_bounded` has checked."""
    out, pos = bytearray(), 0
    while pos < len(body):
        code = body[pos]
        if code < 128:
            out += body[pos + 1 : pos + 2 + code]
            pos += 2 + code
        else:
            out += body[pos + 1 : pos + 2] * (257 - code)
            pos += 2
    return bytes(out)


def _check_signs(facts: ImageFacts, planes: list[bytes]) -> None:
    width = facts.allocated // 8
    for first in range(0, len(planes), width):
        stacked = np.stack([np.frombuffer(p, np.uint8) for p in planes[first : first + width]], 1)
        if not is_clear(facts, stacked.reshape(-1).view(f">i{width}")):
            raise Undecodable("bits outside those stored")


def _without_last_bits(facts: ImageFacts, body: bytes) -> bytes:
    """Return a run whose last byte has no bits behind the last pixel."""
    last = _plane(body)[-1:]
    masked = _masked(facts, _plane(body))[-1:]
    if masked == last:
        return body
    return _bounded(body, facts.frame_bytes - 1, None) + b"\0" + masked


def _masked(facts: ImageFacts, data: bytes) -> bytes:
    """Return the bytes of a frame without bits behind the last pixel."""
    used = facts.frame_bits % 8
    return data if not used else data[:-1] + bytes((data[-1] & (1 << used) - 1,))
