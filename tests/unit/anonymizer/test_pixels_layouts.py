"""Layouts of pixel data that PS3.5 allows decode to the samples they stand for."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pleura.anonymizer.encoding import DicomFile, Element, syntax_of
from pleura.anonymizer.errors import LimitExceeded, Quarantined, Truncated, Undecodable
from pleura.anonymizer.pixels.decode import (
    DEFLATED_FRAMES,
    JPEG_EXTENDED,
    RLE,
    decode_stream,
    open_frames,
)
from pleura.anonymizer.pixels.encode import EXPLICIT
from pleura.anonymizer.pixels.facts import BIG_ENDIAN, DOUBLE, FLOAT, ImageFacts, read_facts
from pleura.anonymizer.pixels.items import LENGTHS, OFFSETS, group_frames
from tests.builders.pixel_streams import (
    encapsulated,
    facts_of,
    frames_in,
    jpeg_12_bit,
    native,
    ramp,
    rle_literal,
)


def test_every_pixel_of_a_pair_gets_the_chroma_they_share() -> None:
    facts = facts_of(EXPLICIT, 8, rows=1, columns=4, samples=3, photometric="YBR_FULL_422")
    parsed = native(facts, bytes((10, 11, 5, 6, 12, 13, 7, 8)))
    reader = open_frames(parsed, facts)
    assert reader.frame(0).tolist() == [[[10, 5, 6], [11, 5, 6], [12, 7, 8], [13, 7, 8]]]
    assert reader.facts.photometric == "YBR_FULL"


@pytest.mark.parametrize(("tag", "bits", "vr"), [(FLOAT, 32, "OF"), (DOUBLE, 64, "OD")])
@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
def test_float_pixels_are_read_as_floats(tag: int, bits: int, vr: str, syntax: str) -> None:
    facts = facts_of(syntax, bits, rows=1, columns=3, tag=tag)
    order = ">" if syntax == BIG_ENDIAN else "<"
    values = np.array([[0.5, -2.25, 1e9]], f"{order}f{bits // 8}")
    (frame,) = frames_in(native(facts, values.tobytes(), vr), facts)
    assert frame.dtype == np.dtype(f"<f{bits // 8}")
    np.testing.assert_array_equal(frame, values)


def test_deflated_frames_are_inflated_one_by_one() -> None:
    facts = facts_of(DEFLATED_FRAMES, 16, 12, frames=2)
    frames = ramp(facts)
    squeezed = [zlib.compress(f.tobytes(), wbits=-15) for f in frames]
    np.testing.assert_array_equal(frames_in(encapsulated(facts, squeezed), facts), frames)
    for broken in (b"\xff\xff\xff\xff", zlib.compress(b"short", wbits=-15)):
        with pytest.raises(Undecodable):
            frames_in(encapsulated(facts, [squeezed[0], broken]), facts)


def test_one_bit_frames_in_rle_are_unpacked_each_on_its_own() -> None:
    facts = facts_of(RLE, 1, rows=3, columns=7, frames=2)
    frames = [f % 2 for f in ramp(replace(facts, stored=8))]
    packed = [rle_literal([np.packbits(f, bitorder="little").tobytes()]) for f in frames]
    np.testing.assert_array_equal(frames_in(encapsulated(facts, packed), facts), frames)
    repeated = struct.pack("<16L", 1, 64, *bytes(14)) + b"\x80\xfe\xff"  # no-op, 3 x FF
    assert frames_in(encapsulated(replace(facts, frames=1), [repeated]), replace(facts, frames=1))[
        0
    ].all()


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        struct.pack("<16L", 2, 64, 66, *bytes(13)) + bytes(4),
        struct.pack("<16L", 1, 63, *bytes(14)) + bytes(4),
        struct.pack("<16L", 1, 64, *bytes(14)) + b"\x02\x01",
        struct.pack("<16L", 1, 64, *bytes(14)) + b"\0\1\x80\xfe",
        struct.pack("<16L", 1, 64, *bytes(14)),
    ],
)
def test_a_broken_one_bit_frame_is_refused(stream: bytes) -> None:
    facts = facts_of(RLE, 1, rows=3, columns=7)
    with pytest.raises(Undecodable):
        frames_in(encapsulated(facts, [stream]), facts)


def test_one_bit_frames_follow_each_other_without_a_gap() -> None:
    facts = facts_of(EXPLICIT, 1, rows=3, columns=5, frames=3)
    frames = [f % 2 for f in ramp(replace(facts, stored=8))]
    data = np.packbits(np.concatenate([f.ravel() for f in frames]), bitorder="little").tobytes()
    np.testing.assert_array_equal(frames_in(native(facts, data), facts), frames)


@pytest.mark.parametrize("bits", [1, 8])
def test_bytes_swapped_as_words_are_put_in_order(bits: int) -> None:
    facts = facts_of(BIG_ENDIAN, bits, rows=3, columns=11, frames=3, is_words=True)
    frames = [f & (1 << bits) - 1 for f in ramp(replace(facts, stored=8))]
    flat = np.concatenate([f.ravel() for f in frames])
    data = np.packbits(flat, bitorder="little").tobytes() if bits == 1 else flat.tobytes()
    data += bytes(len(data) % 2)
    swapped = np.frombuffer(data, "<u2").astype(">u2").tobytes()
    np.testing.assert_array_equal(frames_in(native(facts, swapped, "OW"), facts), frames)


def test_big_endian_words_are_swapped_and_big_endian_bytes_are_not() -> None:
    facts = facts_of(BIG_ENDIAN, 16, rows=1, columns=2)
    (frame,) = frames_in(native(facts, b"\1\2\3\4", "OW"), facts)
    assert frame.tolist() == [[0x0102, 0x0304]]
    facts = facts_of(BIG_ENDIAN, 8, rows=1, columns=2)
    assert frames_in(native(facts, b"\1\2"), facts)[0].tolist() == [[1, 2]]


def test_palette_indices_stay_indices() -> None:
    facts = facts_of(EXPLICIT, 8, photometric="PALETTE COLOR")
    reader = open_frames(native(facts, ramp(facts)[0].tobytes()), facts)
    np.testing.assert_array_equal(reader.frame(0), ramp(facts)[0])
    assert reader.facts.photometric == "PALETTE COLOR"


def split_frames(facts: ImageFacts) -> tuple[list[bytes], list[int]]:
    """Two fragments for every frame, and the offset of each frame's first."""
    fragments: list[bytes] = []
    starts: list[int] = []
    at = 0
    for frame in ramp(facts):
        stream = rle_literal([frame.tobytes()])
        starts.append(at)
        for part in (stream[:40], stream[40:]):
            fragments.append(part)
            at += 8 + len(part) + len(part) % 2
    return fragments, starts


def test_several_fragments_a_frame_are_joined_by_either_offset_table() -> None:
    facts = facts_of(RLE, 8, frames=3)
    fragments, starts = split_frames(facts)
    basic = encapsulated(facts, fragments, struct.pack("<3L", *starts))
    offsets = Element(OFFSETS, "OV", struct.pack("<3Q", *starts))
    extended = encapsulated(facts, fragments, b"", offsets, Element(LENGTHS, "OV", bytes(24)))
    for parsed in (basic, extended):
        np.testing.assert_array_equal(frames_in(parsed, facts), ramp(facts))
    for table in (b"", struct.pack("<3L", 4, *starts[1:]), struct.pack("<3L", 0, 1, 2)):
        with pytest.raises(Undecodable):
            frames_in(encapsulated(facts, fragments, table), facts)


def test_without_a_table_a_stream_starts_where_its_marker_is() -> None:
    facts = facts_of("1.2.840.10008.1.2.4.50", 8, frames=2)
    starts = [b"\xff\xd8\xff\xdb", b"tail", b"\xff\xd8\xff\xdb", b"tail"]
    parsed = encapsulated(facts, starts)
    groups = group_frames(parsed, facts, open_frames(parsed, facts)._span)
    assert [len(group) for group in groups] == [2, 2]


@pytest.mark.parametrize("end", [b"", b"\xfe\xff\x00\xe0\xff\0\0\0", b"nonsense"])
def test_a_broken_run_of_items_is_refused(end: bytes) -> None:
    facts = facts_of(RLE, 8)
    with pytest.raises(Undecodable):
        open_frames(encapsulated(facts, [b"abcd"], end=end), facts)
    with pytest.raises(Undecodable):
        open_frames(encapsulated(facts, []), facts)


def test_a_grey_jpeg_of_twelve_bits_decodes() -> None:
    facts = facts_of(JPEG_EXTENDED, 16, 12, rows=8, columns=8)
    (frame,) = frames_in(encapsulated(facts, [jpeg_12_bit(200)]), facts)
    assert frame.tolist() == [[2048 + 25] * 8] * 8
    other = jpeg_12_bit(200).replace(b"\0\x08\0\x08\1", b"\0\x08\0\x10\1")
    for wrong, stream in (
        (facts, other),
        (facts, b"\xff\xd8\xff\xd9"),
        (facts, jpeg_12_bit(200)[:40]),
        (facts, jpeg_12_bit(200)[:-10]),
        (facts, jpeg_12_bit(200).replace(b"\xff\xdb", b"\xff\0", 1)),  # GDCM aborts on it
        (replace(facts, allocated=32), jpeg_12_bit(200)),
        (replace(facts, allocated=8, stored=8), jpeg_12_bit(200)),
    ):
        with pytest.raises(Undecodable):
            frames_in(encapsulated(wrong, [stream]), wrong)


def test_pixels_that_are_not_as_their_syntax_says_are_refused() -> None:
    facts = facts_of(RLE, 8)
    with pytest.raises(Undecodable):
        open_frames(native(facts, bytes(24)), facts)
    with pytest.raises(Undecodable):
        open_frames(encapsulated(facts_of(EXPLICIT, 8), [bytes(24)]), facts_of(EXPLICIT, 8))
    with pytest.raises(Undecodable):
        open_frames(DicomFile([], [], EXPLICIT), facts)


def test_a_frame_that_is_not_there_is_no_frame() -> None:
    facts = facts_of(EXPLICIT, 8)
    reader = open_frames(native(facts, bytes(24)), facts)
    for index in (-1, 1):
        with pytest.raises(IndexError):
            reader.frame(index)


def header(**values: bytes) -> list[Element]:
    tags = {
        "samples": 0x00280002, "frames": 0x00280008, "rows": 0x00280010, "columns": 0x00280011,
        "allocated": 0x00280100, "stored": 0x00280101, "high_bit": 0x00280102,
        "planar": 0x00280006,
    }  # fmt: skip
    basic = {"rows": b"\4\0", "columns": b"\6\0", "allocated": b"\x08\0", "stored": b"\x08\0"}
    kept = {name: value for name, value in {**basic, **values}.items() if value}
    return [Element(tags[name], "US", value) for name, value in kept.items()]


def test_facts_come_from_the_header_and_have_defaults() -> None:
    pixels = Element(0x7FE00010, "OW", bytes(24))
    facts = read_facts(DicomFile([], [*header(), pixels], EXPLICIT))
    assert facts == replace(facts_of(EXPLICIT, 8), is_words=True)
    assert read_facts(DicomFile([], header(), EXPLICIT)) is None
    floats = Element(FLOAT, "OF", bytes(96))
    read = read_facts(DicomFile([], [*header(allocated=b""), floats], EXPLICIT))
    assert read is not None
    assert (read.allocated, read.stored, read.dtype) == (32, 32, "<f4")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"rows": b""}, Undecodable),
        ({"rows": b"\0\0"}, Undecodable),
        ({"samples": b"\x05\0"}, Undecodable),
        ({"allocated": b"\x0c\0"}, Undecodable),
        ({"stored": b"\x09\0"}, Undecodable),
        ({"high_bit": b"\x08\0"}, Undecodable),
        ({"high_bit": b"\x06\0"}, Undecodable),
        ({"planar": b"\x02\0"}, Undecodable),
        ({"frames": b"-1"}, Undecodable),
        ({"frames": b"0 "}, Undecodable),
        ({"frames": b"99999999"}, LimitExceeded),
        ({"rows": b"\xff\xff", "columns": b"\xff\xff"}, LimitExceeded),
    ],
)
def test_facts_that_contradict_each_other_are_refused(
    values: dict[str, bytes], error: type[Quarantined]
) -> None:
    pixels = Element(0x7FE00010, "OB", bytes(24))
    with pytest.raises(error):
        read_facts(DicomFile([], [*header(**values), pixels], EXPLICIT))


def test_a_second_pixel_element_is_refused() -> None:
    both = [Element(FLOAT, "OF", bytes(96)), Element(0x7FE00010, "OB", bytes(24))]
    with pytest.raises(Undecodable):
        read_facts(DicomFile([], [*header(), *both], EXPLICIT))


def test_native_pixels_that_end_early_while_they_are_read_are_refused() -> None:
    facts = facts_of(EXPLICIT, 8, frames=2)
    reader = open_frames(native(facts, bytes(48)), facts)
    reader._span = replace(reader._span, size=30)
    with pytest.raises(Truncated):
        reader.frame(1)


def test_facts_of_a_compressed_image_are_those_of_its_first_frame() -> None:
    facts = facts_of(RLE, 8, rows=1, columns=2, samples=3, planar=0)
    stream = rle_literal([b"ab", b"cd", b"ef"])
    reader = open_frames(encapsulated(facts, [stream]), facts)
    assert reader.facts == facts
    assert reader.frame(0).tolist() == [[[97, 99, 101], [98, 100, 102]]]


def test_a_picture_of_another_size_than_the_header_says_is_refused() -> None:
    file = BytesIO()
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(file, "jpeg")
    facts = facts_of("1.2.840.10008.1.2.4.50", 8, rows=8, columns=16)
    assert not frames_in(encapsulated(facts, [file.getvalue()]), facts)[0].any()
    for rows, columns in ((16, 8), (8, 15), (8, 17)):
        wrong = replace(facts, rows=rows, columns=columns)
        with pytest.raises(Undecodable):
            frames_in(encapsulated(wrong, [file.getvalue()]), wrong)


def test_a_retired_jpeg_process_is_an_unknown_syntax() -> None:
    for syntax in ("1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55", "1.2.3"):
        with pytest.raises(Undecodable):
            syntax_of(syntax)


def test_segments_longer_than_the_image_are_refused_and_do_not_end_the_process() -> None:
    facts = facts_of(RLE, 16, rows=7, columns=8)
    with pytest.raises(Undecodable):  # the decoder panics on them, in Rust
        decode_stream(facts, rle_literal([bytes(64), bytes(64)]))
