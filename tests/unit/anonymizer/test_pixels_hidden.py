"""Nothing but the image is left in pixel data, and the image is as it was."""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import pytest

from pleura.anonymizer.encoding import Element
from pleura.anonymizer.errors import Truncated, Undecodable
from pleura.anonymizer.pixels.codestream import announced, strip_j2k, strip_jpeg
from pleura.anonymizer.pixels.decode import DEFLATED_FRAMES, J2K, JPEG_LS, RLE
from pleura.anonymizer.pixels.encode import EXPLICIT, encode_frames
from pleura.anonymizer.pixels.facts import BIG_ENDIAN, FLOAT, ImageFacts, span_of
from pleura.anonymizer.pixels.hidden import clear_hidden, strip_comments
from pleura.anonymizer.pixels.items import LENGTHS, OFFSETS, read_fragments
from pleura.anonymizer.pixels.packed import strip_deflated, strip_rle
from pleura.anonymizer.source import BytesSource, Span
from tests.builders.pixel_streams import (
    encapsulated,
    facts_of,
    frames_in,
    native,
    ramp,
    rle_literal,
)

NOTE = b"PLANTED^NOTE"
STRIP = {JPEG_LS: strip_jpeg, J2K: strip_j2k}


@pytest.fixture
def spool() -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        yield file


def cleared(facts: ImageFacts, data: bytes) -> bytes | None:
    pieces = clear_hidden(facts, Span(BytesSource(data), 0, len(data)))
    return None if pieces is None else b"".join(pieces)


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
def test_the_padding_byte_of_native_pixels_is_zero(syntax: str) -> None:
    facts = facts_of(syntax, 8, rows=1, columns=3)
    assert cleared(facts, b"abc\0") is None
    assert cleared(facts, b"abc") is None
    assert cleared(facts, b"abcX") == b"abc\0"
    even = facts_of(syntax, 8, rows=1, columns=2)
    assert cleared(even, b"abX") == b"ab"
    assert cleared(even, b"ab") is None
    assert cleared(facts_of(syntax, 16, rows=1, columns=1), b"abX") == b"ab"


def test_the_padding_of_swapped_words_is_the_byte_before_the_last() -> None:
    facts = facts_of(BIG_ENDIAN, 8, rows=1, columns=3, is_words=True)
    assert cleared(facts, b"ba\0c") is None
    assert cleared(facts, b"baXc") == b"ba\0c"
    even = facts_of(BIG_ENDIAN, 8, rows=1, columns=2, is_words=True)
    assert cleared(even, b"ba") is None


@pytest.mark.parametrize("size", [1, 8, 10])
def test_a_foreign_tail_or_a_missing_end_is_refused(size: int) -> None:
    facts = facts_of(EXPLICIT, 8, rows=1, columns=6)
    with pytest.raises(Truncated):
        cleared(facts, bytes(size))
    with pytest.raises(Truncated):
        cleared(facts_of(EXPLICIT, 32, rows=1, columns=1, tag=FLOAT), bytes(size))


def test_bits_behind_the_last_pixel_are_zero() -> None:
    facts = facts_of(EXPLICIT, 1, rows=1, columns=5, frames=2)  # 10 bits
    assert cleared(facts, b"\xff\x03") is None
    assert cleared(facts, b"\xff\xff") == b"\xff\x03"
    one = replace(facts, frames=1)
    assert cleared(one, b"\xff\xff") == b"\x1f\0"
    swapped = replace(facts, transfer_syntax=BIG_ENDIAN, is_words=True)
    assert cleared(swapped, b"\xff\xff") == b"\x03\xff"


def test_bits_above_eight_bit_samples_are_cleared_in_the_last_word_too() -> None:
    facts = facts_of(EXPLICIT, 8, 4, rows=1, columns=5)
    assert cleared(facts, bytes([0xF1, 0xF2, 3, 4, 0xF5])) == bytes([1, 2, 3, 4, 5, 0])


def test_bits_below_stored_ones_are_cleared() -> None:
    facts = facts_of(EXPLICIT, 16, 12, rows=1, columns=1, high_bit=15)
    assert cleared(facts, b"\xff\xff") == b"\xf0\xff"
    assert cleared(facts, b"\xf0\xff") is None
    signed = replace(facts, is_signed=True)
    assert cleared(signed, b"\xff\xff") == b"\xf0\xff"


def test_pixels_larger_than_a_chunk_are_cleared_to_their_end() -> None:
    facts = facts_of(EXPLICIT, 16, 12, rows=1024, columns=1025)
    values = np.zeros(1024 * 1025, "<u2")
    assert cleared(facts, values.tobytes()) is None
    values[-1] = 0xF00F
    done = np.frombuffer(cleared(facts, values.tobytes()) or b"", "<u2")
    assert (done.size, int(done[-1]), int(done[:-1].max())) == (values.size, 0x000F, 0)


@pytest.mark.parametrize(
    ("stored", "high_bit", "signed"),
    [(12, 11, False), (12, 11, True), (12, 15, False), (12, 15, True), (8, 7, False), (6, 9, True)],
)
def test_bits_outside_those_stored_leave_rle_frames(
    stored: int, high_bit: int, signed: bool
) -> None:
    facts = facts_of(RLE, 16, stored, high_bit=high_bit, is_signed=signed)
    values = np.random.default_rng(5).integers(0, 1 << 16, facts.shape).astype("<u2")
    stream = rle_literal([(values >> 8).astype("u1").tobytes(), values.astype("u1").tobytes()])
    clean = strip_rle(facts, stream)
    (frame,) = frames_in(encapsulated(facts, [clean]), facts)
    expected = cleared(facts, values.tobytes())
    assert expected is not None
    assert frame.tobytes() == expected
    assert strip_rle(facts, clean) is clean


def test_signs_that_fill_a_whole_byte_must_be_true() -> None:
    facts = facts_of(RLE, 16, 8, rows=1, columns=2, is_signed=True)
    good = rle_literal([b"\xff\0", b"\x80\x7f"])
    assert strip_rle(facts, good) is good
    with pytest.raises(Undecodable):
        strip_rle(facts, rle_literal([b"\xff\1", b"\x80\x7f"]))


def test_what_lies_between_and_behind_rle_segments_goes() -> None:
    facts = facts_of(RLE, 16, rows=1, columns=2)
    body = b"\1ab\0"
    clean = struct.pack("<16L", 2, 64, 68, *bytes(13)) + body * 2
    assert strip_rle(facts, clean) is clean
    assert strip_rle(facts, clean + b"\0\0") == clean + b"\0\0"
    gap = struct.pack("<16L", 2, 76, 92, *bytes(13)) + NOTE + body + NOTE + body + NOTE
    assert strip_rle(facts, gap) == clean
    unused = struct.pack("<16L", 2, 64, 68, *b"PLANTED NOTE.") + body * 2
    assert strip_rle(facts, unused) == clean
    overrun = struct.pack("<16L", 2, 64, 70, *bytes(13)) + b"\4abSSN" + b"\xf0a"
    kept = struct.pack("<16L", 2, 64, 68, *bytes(13)) + body + b"\xffa"
    assert strip_rle(facts, overrun) == kept


def test_bits_behind_the_last_pixel_leave_one_bit_rle_frames() -> None:
    facts = facts_of(RLE, 1, rows=1, columns=5)
    clean = rle_literal([b"\x1f"])
    assert strip_rle(facts, clean) is clean
    dirty = strip_rle(facts, rle_literal([b"\xff"]))
    assert frames_in(encapsulated(facts, [dirty]), facts)[0].all()
    assert dirty == clean


def test_tails_and_bits_leave_deflated_frames() -> None:
    facts = facts_of(DEFLATED_FRAMES, 16, 12, rows=1, columns=3)
    image = np.array([1, 2, 0x0FFF], "<u2").tobytes()
    clean = zlib.compress(image, wbits=-15)
    assert strip_deflated(facts, clean) is clean
    padded = clean + b"\0"
    assert strip_deflated(facts, padded) is padded
    for hidden in (
        clean + NOTE,
        zlib.compress(image + NOTE, wbits=-15),
        zlib.compress(np.array([0xF001, 2, 0x0FFF], "<u2").tobytes(), wbits=-15),
    ):
        assert zlib.decompress(strip_deflated(facts, hidden), wbits=-15) == image
    bits = facts_of(DEFLATED_FRAMES, 1, rows=1, columns=5)
    done = strip_deflated(bits, zlib.compress(b"\xff", wbits=-15))
    assert zlib.decompress(done, wbits=-15) == b"\x1f"


@pytest.mark.parametrize("syntax", [RLE, DEFLATED_FRAMES])
def test_a_tail_of_one_frame_has_the_file_rewritten(syntax: str, spool: BinaryIO) -> None:
    facts = facts_of(syntax, 8, frames=2)
    streams = [
        rle_literal([f.tobytes()]) if syntax == RLE else zlib.compress(f.tobytes(), wbits=-15)
        for f in ramp(facts)
    ]
    assert strip_comments(encapsulated(facts, streams), facts, spool) is None
    parsed = encapsulated(facts, [streams[0], streams[1] + NOTE])
    elements = strip_comments(parsed, facts, spool)
    assert elements is not None
    assert NOTE not in bytes(elements[-1].value)
    again = replace(parsed, elements=elements)
    np.testing.assert_array_equal(frames_in(again, facts), ramp(facts))
    assert strip_comments(again, facts, spool) is None


def test_offset_tables_that_hold_something_else_are_written_anew(spool: BinaryIO) -> None:
    facts = facts_of(RLE, 8, frames=2)
    streams = [rle_literal([f.tobytes()]) for f in ramp(facts)]
    step = 8 + len(streams[0])
    offsets = Element(OFFSETS, "OV", struct.pack("<2Q", 0, step))
    lengths = Element(LENGTHS, "OV", struct.pack("<2Q", *map(len, streams)))
    basic = struct.pack("<2L", 0, step)
    for good in (
        encapsulated(facts, streams),
        encapsulated(facts, streams, basic),
        encapsulated(facts, streams, b"", offsets, lengths),
    ):
        assert strip_comments(good, facts, spool) is None
    for bad in (
        encapsulated(facts, streams, NOTE),
        encapsulated(facts, streams, basic, offsets, lengths),
        encapsulated(facts, streams, b"", replace_value(offsets, NOTE + b"1234"), lengths),
        encapsulated(facts, streams, b"", offsets, replace_value(lengths, NOTE)),
        encapsulated(facts, streams, b"", replace_value(offsets, NOTE), offsets, lengths),
        encapsulated(facts, streams, b"", offsets, replace_value(lengths, NOTE + b"1234")),
        encapsulated(facts, streams, end=b"\xfe\xff\xdd\xe0NOTE"),
    ):
        elements = strip_comments(bad, facts, spool)
        assert elements is not None
        written = replace(bad, elements=elements)
        assert strip_comments(written, facts, spool) is None
        assert not any(b"NOTE" in bytes(e.value) for e in elements)
        np.testing.assert_array_equal(frames_in(written, facts), ramp(facts))


def replace_value(element: Element, value: bytes) -> Element:
    return Element(element.tag, element.vr, value)


def test_a_syntax_nobody_can_look_into_is_refused(spool: BinaryIO) -> None:
    video = facts_of("1.2.840.10008.1.2.4.102", 8)
    with pytest.raises(Undecodable):
        strip_comments(encapsulated(video, [b"video"]), video, spool)
    plain = facts_of(EXPLICIT, 8)
    assert strip_comments(native(plain, bytes(24)), plain, spool) is None


def streams_of(facts: ImageFacts, spool: BinaryIO) -> list[bytes]:
    span = span_of(encode_frames(facts, ramp(facts), spool).elements[-1])
    _, found = read_fragments(span)
    return [span.read(f.start, f.size) for f in found]


@pytest.mark.parametrize("syntax", [JPEG_LS, J2K])
def test_bits_above_those_stored_in_a_code_stream_are_refused(syntax: str, spool: BinaryIO) -> None:
    wide = facts_of(syntax, 16, rows=33, columns=40)
    (stream,) = streams_of(wide, spool)
    stream = STRIP[syntax](stream)
    assert announced(stream) == (16, 33, 40, 1)
    assert strip_comments(encapsulated(wide, [stream]), wide, spool) is None
    narrow = replace(wide, stored=8, high_bit=7)
    with pytest.raises(Undecodable):
        strip_comments(encapsulated(narrow, [stream]), narrow, spool)
    at = wide.rows * wide.columns * 7
    assert at < 1 << 14
    fits = replace(wide, stored=14, high_bit=13)  # 16 bits announced, values below 2 ** 14
    assert strip_comments(encapsulated(fits, [stream]), fits, spool) is None


def test_a_stream_without_a_frame_header_announces_no_bits() -> None:
    assert announced(b"\xff\xd8\xff\xff\xff\xd9") == (0, 0, 0, 0)
    filled = b"\xff\xd8\xff\xc4\0\2\xff\xff\xc0\0\x0b\x0c\0\x08\0\x09\1\1\x11\0"
    assert announced(filled) == (12, 8, 9, 1)


def test_comments_of_tile_parts_become_zeros_and_boxes_go(spool: BinaryIO) -> None:
    facts = facts_of(J2K, 8, rows=33, columns=40)
    (stream,) = streams_of(facts, spool)
    stream = strip_j2k(stream.rstrip(b"\0"))
    at = stream.index(b"\xff\x90")
    length = int.from_bytes(stream[at + 6 : at + 10], "big")
    comment = b"\xff\x64" + struct.pack(">H", len(NOTE) + 2) + NOTE
    sized = struct.pack(">L", length + len(comment)) if length else bytes(4)
    tile = stream[at : at + 6] + sized + stream[at + 10 : at + 12] + comment + stream[at + 12 :]
    clean = strip_j2k(stream[:at] + tile)
    assert NOTE not in clean
    assert len(clean) == len(stream) + len(comment)
    assert strip_j2k(clean) is clean
    open_end = stream[: at + 6] + bytes(4) + stream[at + 10 : -2]
    assert strip_j2k(open_end) == open_end
    (frame,) = frames_in(encapsulated(facts, [clean]), facts)
    np.testing.assert_array_equal(frame, ramp(facts)[0])
    sign = b"\0\0\0\x0cjP  \x0d\x0a\x87\x0a"
    for size in (struct.pack(">L", len(stream) + 8), bytes(4)):
        boxed = sign + struct.pack(">L", 8 + len(NOTE)) + b"xml " + NOTE + size + b"jp2c" + stream
        assert strip_j2k(boxed) == stream
    long = sign + struct.pack(">L", 1) + b"jp2c" + struct.pack(">Q", len(stream) + 16) + stream
    assert strip_j2k(long) == stream


def broken_j2k() -> dict[str, bytes]:
    size = b"\xff\x4f\xff\x51\0\4\0\0"
    part = b"\xff\x90\0\x0a\0\0"
    return {
        "no tile-part length": size + part + struct.pack(">L", 9) + b"\0\0",
        "tile-part too long": size + part + struct.pack(">L", 99) + b"\0\0",
        "something behind": size + part + struct.pack(">L", 14) + b"\0\0\xff\x93tail",
        "another segment behind": size + part + struct.pack(">L", 14) + b"\0\0\xff\x93\xff\x64",
        "no box holds a stream": b"\0\0\0\x0cjP  \x0d\x0a\x87\x0a",
        "box too long": b"\0\0\0\x0cjP  \x0d\x0a\x87\x0a\0\0\xff\xffxml ",
    }


@pytest.mark.parametrize("name", broken_j2k())
def test_a_broken_jpeg_2000_structure_is_refused(name: str) -> None:
    with pytest.raises(Undecodable):
        strip_j2k(broken_j2k()[name])


def test_restart_markers_fill_bytes_and_a_missing_end_are_no_break() -> None:
    scan = b"\xff\xda\0\2ab\xff\0c\xff\xd0d"
    whole = b"\xff\xd8\xff\x01" + scan + b"\xff\xd9"
    assert strip_jpeg(whole) is whole
    assert strip_jpeg(b"\xff\xd8" + scan) == b"\xff\xd8" + scan
    filled = b"\xff\xd8\xff\xff\xfe\0\x06NOTE" + scan + b"\xff\xd9"
    assert b"NOTE" not in strip_jpeg(filled)
    assert strip_jpeg(whole + NOTE) == whole


def noise(facts: ImageFacts) -> Any:
    return np.random.default_rng(7).integers(0, 1 << facts.stored, facts.shape).astype(facts.dtype)


@pytest.mark.parametrize("noisy", [0, 1, 2])
def test_noise_that_jpeg_ls_cannot_take_is_written_native(noisy: int, spool: BinaryIO) -> None:
    facts = facts_of(JPEG_LS, 8, rows=8, columns=8, frames=3)
    frames = [frame & 1 for frame in ramp(facts)]
    assert encode_frames(facts, frames, spool).transfer_syntax == JPEG_LS
    frames[noisy] = noise(facts)
    pixels = encode_frames(facts, frames, spool)
    assert pixels.transfer_syntax == EXPLICIT
    plain = replace(facts, transfer_syntax=EXPLICIT)
    parsed = replace(native(plain, b""), elements=pixels.elements)
    np.testing.assert_array_equal(frames_in(parsed, plain), frames)


@pytest.mark.parametrize("syntax", [EXPLICIT, RLE, JPEG_LS, J2K])
@pytest.mark.parametrize("signed", [False, True])
def test_encoded_frames_have_no_bits_outside_those_stored(
    syntax: str, signed: bool, spool: BinaryIO
) -> None:
    facts = facts_of(syntax, 16, 12, rows=40, columns=40, is_signed=signed)
    (frame,) = ramp(facts)
    dirty = frame ^ np.array(0x3000, frame.dtype)
    pixels = encode_frames(facts, [dirty], spool)
    assert pixels.transfer_syntax == syntax
    parsed = replace(native(facts, b""), elements=pixels.elements)
    np.testing.assert_array_equal(frames_in(parsed, facts)[0], frame)


def test_a_frame_of_another_shape_or_type_is_refused(spool: BinaryIO) -> None:
    facts = facts_of(EXPLICIT, 8)
    for frame in (np.zeros((4, 5), "u1"), np.zeros((4, 6), "u2")):
        with pytest.raises(Undecodable):
            encode_frames(facts, [frame], spool)


def test_odd_native_pixels_and_colour_are_described_truly(spool: BinaryIO) -> None:
    facts = facts_of(EXPLICIT, 8, rows=1, columns=3, samples=3, photometric="YBR_FULL_422")
    pixels = encode_frames(facts, ramp(facts), spool)
    by_tag = {e.tag: e for e in pixels.elements}
    assert by_tag[0x00280004].value == b"YBR_FULL"
    assert by_tag[0x00280006].value == b"\0\0"
    assert len(by_tag[0x7FE00010].value) == 10


def test_extended_tables_are_written_where_the_source_had_them(spool: BinaryIO) -> None:
    facts = facts_of(RLE, 8, frames=2)
    streams = [rle_literal([f.tobytes()]) for f in ramp(facts)]
    lengths = Element(LENGTHS, "OV", NOTE)
    elements = strip_comments(encapsulated(facts, streams, b"", lengths), facts, spool)
    assert elements is not None
    assert [e.tag for e in elements] == [OFFSETS, LENGTHS, 0x7FE00010]
    assert struct.unpack("<2Q", bytes(elements[0].value)) == (0, 8 + len(streams[0]))
