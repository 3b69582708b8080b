"""Segments of a JPEG 2000 stream that decoders pass over hold nothing but what they are for."""

from __future__ import annotations

import struct
import tempfile

import numpy as np
import pytest

from pleura.anonymizer.errors import Undecodable
from pleura.anonymizer.pixels.codestream import strip_j2k
from pleura.anonymizer.pixels.decode import J2K
from pleura.anonymizer.pixels.encode import encode_frames
from pleura.anonymizer.pixels.facts import ImageFacts, span_of
from pleura.anonymizer.pixels.items import read_fragments
from tests.builders.pixel_streams import encapsulated, facts_of, frames_in, ramp

NOTE = b"\x00ZORBATZ^ANTON 11.12.1950"


@pytest.fixture
def facts() -> ImageFacts:
    return facts_of(J2K, 8, rows=33, columns=40)


@pytest.fixture
def stream(facts: ImageFacts) -> bytes:
    with tempfile.TemporaryFile() as spool:
        span = span_of(encode_frames(facts, ramp(facts), spool).elements[-1])
        _, (only,) = read_fragments(span)
        return strip_j2k(span.read(only.start, only.size).rstrip(b"\0"))


def segment(marker: int, payload: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(payload) + 2) + payload


def in_main(stream: bytes, *segments: bytes) -> bytes:
    at = stream.index(b"\xff\x90")
    return stream[:at] + b"".join(segments) + stream[at:]


def in_tile(stream: bytes, *segments: bytes) -> bytes:
    """Put segments into the first tile-part and correct its length."""
    at, added = stream.index(b"\xff\x90"), b"".join(segments)
    length = int.from_bytes(stream[at + 6 : at + 10], "big")
    sized = struct.pack(">L", length + len(added)) if length else bytes(4)
    return stream[: at + 6] + sized + stream[at + 10 : at + 12] + added + stream[at + 12 :]


def tile_length(stream: bytes) -> int:
    at = stream.index(b"\xff\x90")
    return int.from_bytes(stream[at + 6 : at + 10], "big") or len(stream) - at - 2


def same_image(facts: ImageFacts, stream: bytes) -> bool:
    (frame,) = frames_in(encapsulated(facts, [stream]), facts)
    return bool(np.array_equal(frame, ramp(facts)[0]))


@pytest.mark.parametrize("marker", [0x55, 0x57, 0x63, 0x64])
def test_idle_segments_of_the_main_header_go(facts: ImageFacts, stream: bytes, marker: int) -> None:
    clean = strip_j2k(in_main(stream, segment(marker, NOTE)))
    assert clean == stream
    assert same_image(facts, clean)


@pytest.mark.parametrize("marker", [0x58, 0x60])
def test_a_segment_out_of_place_or_of_packed_headers_is_refused(stream: bytes, marker: int) -> None:
    with pytest.raises(Undecodable):
        strip_j2k(in_main(stream, segment(marker, NOTE)))


@pytest.mark.parametrize("marker", [0x55, 0x57, 0x61, 0x63])
def test_a_tile_part_with_one_is_refused(stream: bytes, marker: int) -> None:
    with pytest.raises(Undecodable):
        strip_j2k(in_tile(stream, segment(marker, NOTE)))


@pytest.mark.parametrize(
    "head", [b"\0\x40", b"\0\x50\0", b"\0\x60\0\0"], ids=["no index", "byte", "word"]
)
def test_true_lengths_of_tile_parts_stay(stream: bytes, head: bytes) -> None:
    size = struct.pack(">L", tile_length(stream))
    at = stream.index(b"\xff\x90")
    sized = stream[: at + 6] + size + stream[at + 10 :]
    true = in_main(sized, segment(0x55, head + size))
    assert strip_j2k(true) is true
    for wrong in (head + size * 2, head + b"ANNA", b"\1" + head[1:] + size, b"\0", b"\0\x7fANNA"):
        assert strip_j2k(in_main(sized, segment(0x55, wrong))) == sized


def packets(stream: bytes) -> int:
    return len(stream) - stream.index(b"\xff\x93") - 2 - 2 * stream.endswith(b"\xff\xd9")


def number(length: int) -> bytes:
    parts = [length & 0x7F]
    while length := length >> 7:
        parts.append(length & 0x7F | 0x80)
    return bytes(reversed(parts))


def test_packet_lengths_that_add_up_stay_and_others_become_zeros(
    facts: ImageFacts, stream: bytes
) -> None:
    size = packets(stream)
    for good in (
        [segment(0x58, b"\0" + number(size))],
        [segment(0x58, b"\0" + number(5)), segment(0x58, b"\1" + number(size - 5))],
    ):
        true = in_tile(stream, *good)
        assert strip_j2k(true) is true
        assert same_image(facts, true)
    for bad in (NOTE, b"\1" + number(size), b"\0\x80" + number(size), b"\0" + number(size + 1),
                b"\0\0" + number(size), b"\0\xff", b"\0"):  # fmt: skip
        dirty = in_tile(stream, segment(0x58, bad))
        clean = strip_j2k(dirty)
        assert clean == in_tile(stream, segment(0x64, bytes(len(bad))))
        assert strip_j2k(clean) is clean
        assert same_image(facts, clean)
