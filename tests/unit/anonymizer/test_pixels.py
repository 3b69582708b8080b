"""Pixels: every syntax we write comes back bit for bit; what hides beside an image goes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray

from pleura.anonymizer.encoding import DicomFile, Element, syntax_of
from pleura.anonymizer.errors import Truncated, Undecodable
from pleura.anonymizer.pixels.codestream import strip_j2k, strip_jpeg
from pleura.anonymizer.pixels.decode import J2K, JPEG_LS, RLE, decode_stream, open_frames
from pleura.anonymizer.pixels.encode import EXPLICIT, EncodedPixels, encode_frames
from pleura.anonymizer.pixels.facts import BIG_ENDIAN, ImageFacts, span_of
from pleura.anonymizer.pixels.hidden import clear_hidden, strip_comments
from pleura.anonymizer.pixels.items import group_frames, read_fragments
from pleura.anonymizer.source import BytesSource, Span

Array = NDArray[Any]


@pytest.fixture
def spool() -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        yield file


def facts_of(syntax: str, bits: int, stored: int, *, signed: bool = False, samples: int = 1,
             frames: int = 3) -> ImageFacts:  # fmt: skip
    photometric = "MONOCHROME2" if samples == 1 else "RGB"
    return ImageFacts(
        33, 41, frames, samples, photometric, 0, bits, stored, stored - 1, signed, syntax
    )


def frames_of(facts: ImageFacts) -> list[Array]:
    low = -(1 << facts.stored - 1) if facts.is_signed else 0
    grid = np.arange(np.prod(facts.shape), dtype=np.int64).reshape(facts.shape)
    step = max((1 << facts.stored) // grid.size, 1)
    return [
        (low + (grid * step + 3 * i) % (1 << facts.stored)).astype(facts.dtype)
        for i in range(facts.frames)
    ]


def opened(facts: ImageFacts, pixels: EncodedPixels) -> list[Array]:
    syntax = pixels.transfer_syntax
    parsed = DicomFile([], pixels.elements, syntax, syntax_of(syntax))
    reader = open_frames(parsed, replace(facts, transfer_syntax=syntax, planar=0))
    return [reader.frame(i) for i in range(reader.count)]


@pytest.mark.parametrize("syntax", [EXPLICIT, RLE, JPEG_LS, J2K])
@pytest.mark.parametrize(
    ("bits", "stored", "signed", "samples"),
    [(8, 8, False, 1), (8, 8, False, 3), (16, 12, False, 1), (16, 12, True, 1),
     (16, 16, False, 1), (16, 16, True, 1), (32, 32, False, 1), (1, 1, False, 1)],
)  # fmt: skip
def test_frames_come_back_bit_for_bit(
    syntax: str, bits: int, stored: int, signed: bool, samples: int, spool: BinaryIO
) -> None:
    facts = facts_of(syntax, bits, stored, signed=signed, samples=samples)
    frames = frames_of(facts)
    for before, after in zip(frames, opened(facts, encode_frames(facts, frames, spool)),
                             strict=True):  # fmt: skip
        np.testing.assert_array_equal(before, after)


def test_planar_colour_decodes_like_pixel_by_pixel() -> None:
    facts = facts_of(EXPLICIT, 8, 8, samples=3, frames=1)
    (frame,) = frames_of(facts)
    raw = frame.transpose(2, 0, 1).tobytes()
    parsed = DicomFile([], [Element(0x7FE00010, "OB", raw)], EXPLICIT)
    reader = open_frames(parsed, replace(facts, planar=1))
    np.testing.assert_array_equal(reader.frame(0), frame)
    assert reader.facts.planar == 0


@pytest.mark.parametrize("syntax", [EXPLICIT, RLE, JPEG_LS, J2K])
def test_planes_are_written_again_where_a_syntax_has_them(syntax: str, spool: BinaryIO) -> None:
    facts = facts_of(syntax, 8, 8, samples=3, frames=2)
    frames = frames_of(facts)
    pixels = encode_frames(facts, frames, spool, planar=1)
    (planar,) = (e.value[0] for e in pixels.elements if e.tag == 0x00280006)
    assert planar == (syntax in (EXPLICIT, RLE))
    parsed = DicomFile([], pixels.elements, syntax, syntax_of(syntax))
    reader = open_frames(parsed, replace(facts, planar=planar))
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(reader.frame(number), frame)
    if syntax == EXPLICIT:
        span = span_of(pixels.elements[-1])
        assert span.read(0, 33 * 41) == frames[0][..., 0].tobytes()


def test_a_single_frame_is_not_counted_so_no_multi_frame_rules_apply(spool: BinaryIO) -> None:
    for count, described in ((1, False), (2, True)):
        facts = facts_of(EXPLICIT, 8, 8, frames=count)
        tags = {e.tag for e in encode_frames(facts, frames_of(facts), spool).elements}
        assert (0x00280008 in tags) is described


def test_frame_in_several_fragments_is_joined() -> None:
    facts = facts_of(RLE, 8, 8, frames=1)
    with tempfile.TemporaryFile() as file:
        pixels = encode_frames(facts, frames_of(facts), file)
    span = span_of(pixels.elements[-1])
    _, (fragment,) = read_fragments(span)
    stream = span.read(fragment.start, fragment.size)
    items = b"".join(
        b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part
        for part in (b"", stream[:10], stream[10:])
    )
    element = Element(0x7FE00010, "OB", items + b"\xfe\xff\xdd\xe0" + bytes(4), None, True)
    parsed = DicomFile([], [element], RLE)
    np.testing.assert_array_equal(open_frames(parsed, facts).frame(0), frames_of(facts)[0])
    with pytest.raises(Undecodable):
        group_frames(parsed, replace(facts, frames=3), span_of(element))


def test_broken_stream_is_refused() -> None:
    for syntax in (RLE, JPEG_LS, J2K):
        with pytest.raises(Undecodable):
            decode_stream(facts_of(syntax, 8, 8), b"\xff\xd8 no image")


def test_native_pixels_that_end_early_are_refused() -> None:
    parsed = DicomFile([], [Element(0x7FE00010, "OB", bytes(34))], EXPLICIT)
    with pytest.raises(Truncated):
        open_frames(parsed, facts_of(EXPLICIT, 8, 8, frames=1))


@pytest.mark.parametrize(("syntax", "order"), [(EXPLICIT, "<"), (BIG_ENDIAN, ">")])
def test_bits_above_stored_are_cleared_or_follow_the_sign(syntax: str, order: str) -> None:
    def cleared(values: list[int], signed: bool) -> list[int] | None:
        facts = replace(facts_of(syntax, 16, 12, signed=signed, frames=1), rows=1, columns=2)
        kind = order + ("i2" if signed else "u2")
        raw = np.array(values, kind).tobytes()
        pieces = clear_hidden(facts, Span(BytesSource(raw), 0, len(raw)))
        return None if pieces is None else np.frombuffer(b"".join(pieces), kind).tolist()

    assert cleared([0, 4095], signed=False) is None
    assert cleared([-2048, 2047], signed=True) is None
    assert cleared([0x1FFF, 7], signed=False) == [0x0FFF, 7]
    assert cleared([0x0FFF, 0x1001], signed=True) == [-1, 1]


def test_comments_leave_jpeg_and_j2k_streams_and_images_stay(spool: BinaryIO) -> None:
    note = b"PLANTED^NOTE"
    for syntax, strip, mark in ((JPEG_LS, strip_jpeg, b"\xff\xfe"), (J2K, strip_j2k, b"\xff\x64")):
        facts = facts_of(syntax, 8, 8, frames=2)
        frames = frames_of(facts)
        with tempfile.TemporaryFile() as file:
            span = span_of(encode_frames(facts, frames, file).elements[-1])
        _, found = read_fragments(span)
        streams = []
        for fragment in found:
            clean = strip(span.read(fragment.start, fragment.size))
            assert strip(clean) is clean
            at = 2 if syntax == JPEG_LS else 4 + int.from_bytes(clean[4:6], "big")
            segment = mark + (len(note) + 2).to_bytes(2, "big") + note
            streams.append(clean[:at] + segment + clean[at:] + note)
        items = b"\xfe\xff\x00\xe0" + bytes(4)
        for stream in streams:
            stream += bytes(len(stream) % 2)
            items += b"\xfe\xff\x00\xe0" + len(stream).to_bytes(4, "little") + stream
        element = Element(0x7FE00010, "OB", items + b"\xfe\xff\xdd\xe0" + bytes(4), None, True)
        parsed = DicomFile([], [element], syntax)
        elements = strip_comments(parsed, facts, spool)
        assert elements is not None
        assert note not in bytes(elements[-1].value)
        for before, after in zip(frames, opened(facts, EncodedPixels(elements, syntax)),
                                 strict=True):  # fmt: skip
            np.testing.assert_array_equal(before, after)
        again = DicomFile([], elements, syntax)
        assert strip_comments(again, facts, spool) is None


def test_broken_marker_structure_is_refused() -> None:
    for strip, data in ((strip_jpeg, b"\xff\xd8\xff\xfe\xff\xff"), (strip_jpeg, b"no"),
                        (strip_jpeg, b"\xff\xd8\xff"), (strip_jpeg, b"\xff\xd8no"),
                        (strip_jpeg, b"\xff\xd8\xff\0\0\2\xff\xd9"),
                        (strip_j2k, b"\xff\x4f\xff\x51\xff\xff"), (strip_j2k, b"no")):  # fmt: skip
        with pytest.raises(Undecodable):
            strip(data)


def test_decoder_segments_stay_and_thumbnails_go() -> None:
    jfif = b"JFIF\0\1\2\0\0\1\0\1\1\1RGB"
    adobe, mrfx = b"Adobe\0d\0\0\0\0\1", b"mrfx\1"

    def segment(marker: int, body: bytes) -> bytes:
        return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body

    kept = segment(0xEE, adobe) + segment(0xE8, mrfx)
    stream = b"\xff\xd8" + segment(0xE0, jfif) + segment(0xE1, b"Exif") + kept + b"\xff\xd9"
    assert strip_jpeg(stream) == (
        b"\xff\xd8" + segment(0xE0, jfif[:12] + b"\0\0") + kept + b"\xff\xd9"
    )


@pytest.mark.parametrize(
    ("syntax", "bits", "side"), [(J2K, 8, 31), (RLE, 32, 33), (JPEG_LS, 32, 33)]
)
def test_what_no_encoder_takes_is_written_native(
    syntax: str, bits: int, side: int, spool: BinaryIO
) -> None:
    facts = replace(facts_of(syntax, bits, bits), rows=side)
    assert encode_frames(facts, frames_of(facts), spool).transfer_syntax == EXPLICIT


def test_frame_count_that_differs_is_refused(spool: BinaryIO) -> None:
    for syntax in (EXPLICIT, RLE):
        facts = facts_of(syntax, 8, 8)
        with pytest.raises(Undecodable):
            encode_frames(facts, frames_of(facts)[:2], spool)
