"""What hides beside the image: unused bits, comments, tails, and tables that hold no offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, Final

from pleura.anonymizer.encoding import DicomFile, Element
from pleura.anonymizer.errors import Truncated, Undecodable
from pleura.anonymizer.pixels.codestream import announced, strip_j2k, strip_jpeg
from pleura.anonymizer.pixels.decode import DEFLATED_FRAMES, RLE, decode_stream
from pleura.anonymizer.pixels.facts import ImageFacts, pixel_element, span_of
from pleura.anonymizer.pixels.items import (
    LENGTHS,
    OFFSETS,
    Fragment,
    ItemWriter,
    frame_bytes,
    group_frames,
    is_tidy,
)
from pleura.anonymizer.pixels.packed import strip_deflated, strip_rle
from pleura.anonymizer.pixels.samples import clear_bytes, is_clear
from pleura.anonymizer.source import Span

_JPEG: Final = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81))
_J2K: Final = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 92, 93, 201, 202, 203))


def clear_hidden(facts: ImageFacts, span: Span) -> Iterator[bytes] | None:
    """Return native pixel bytes without what is no image, or None where nothing hides in them.

    Bits outside [high_bit - stored + 1, high_bit], embedded overlays among them, become 0 in
    unsigned samples; in signed ones the bits above become copies of the sign. Bits behind the
    last pixel and the padding byte become 0.

    Raises:
        Truncated: more than one byte is missing or follows the image.
    """
    size = facts.native_bytes
    if span.size < size:
        raise Truncated("pixel data is shorter than the image")
    if span.size > size + 1:
        raise Truncated("pixel data is longer than the image")
    cut = (size - 1) // 2 * 2 if facts.allocated <= 8 else size
    body, end = Span(span.source, span.start, cut), span.read(cut, span.size - cut)
    clear = partial(clear_bytes, facts, big_endian=facts.is_big_endian)
    last = clear(_last_bytes(facts, end, size - cut))
    is_padded = len(end) <= len(last) and end.ljust(len(last), b"\0") == last
    if is_padded and all(clear(chunk) is chunk for chunk in body.chunks()):
        return None
    return _pieces(body, clear, last)


def _pieces(body: Span, clear: Callable[[bytes], bytes], last: bytes) -> Iterator[bytes]:
    for chunk in body.chunks():
        yield clear(chunk)
    yield last


def _last_bytes(facts: ImageFacts, end: bytes, keep: int) -> bytes:
    """Return the last word of native pixels: image bits as they are, all others 0."""
    words = end + bytes(len(end) % 2)
    logical = bytearray(_swapped(words) if facts.is_swapped else words)[:keep]
    used = facts.frame_bits * facts.frames % 8
    if used:
        logical[-1] &= (1 << used) - 1
    clean = bytes(logical) + bytes(keep % 2)
    return _swapped(clean) if facts.is_swapped else clean


def _swapped(words: bytes) -> bytes:
    return b"".join(words[i : i + 2][::-1] for i in range(0, len(words), 2))


def strip_comments(parsed: DicomFile, facts: ImageFacts, spool: BinaryIO) -> list[Element] | None:
    """Return the pixel element, and extended offset tables, with nothing but the image in them.

    Comments, application data, tails behind the end of a stream, gaps in it, and offset tables
    that hold anything but the offsets go. The streams go to `spool`, a real file, one fragment a
    frame, offset tables rewritten; None where there is nothing to take out.

    Raises:
        Undecodable: a stream is broken, its syntax is none this version can look into, or there
            is something in the unused bits of samples that were compressed as a whole.
    """
    element = pixel_element(parsed)
    if element is None or not element.is_encapsulated:
        return None
    strip = _stripper(facts)
    span = span_of(element)
    groups = group_frames(parsed, facts, span)
    if is_tidy(parsed, span, groups) and not any(_changes(strip, span, g) for g in groups):
        return None
    extended = any(e.tag in (OFFSETS, LENGTHS) for e in parsed.elements)
    writer = ItemWriter(spool, facts.frames, extended=extended)
    for group in groups:
        writer.add(strip(frame_bytes(span, group)))
    return writer.finish()


def _changes(strip: Callable[[bytes], bytes], span: Span, group: list[Fragment]) -> bool:
    stream = frame_bytes(span, group)
    return strip(stream) is not stream


def _stripper(facts: ImageFacts) -> Callable[[bytes], bytes]:
    syntax = facts.transfer_syntax
    if syntax == RLE:
        return partial(strip_rle, facts)
    if syntax == DEFLATED_FRAMES:
        return partial(strip_deflated, facts)
    if syntax in _JPEG:
        return partial(_stripped, facts, strip_jpeg)
    if syntax in _J2K:
        return partial(_stripped, facts, strip_j2k)
    raise Undecodable("transfer syntax nobody can look into")


def _stripped(facts: ImageFacts, strip: Callable[[bytes], bytes], stream: bytes) -> bytes:
    """Strip a code stream; one of more bits than are stored must have nothing in those above."""
    clean = strip(stream)
    if announced(clean)[0] > facts.stored:
        frame, _ = decode_stream(facts, clean)
        if not is_clear(facts, frame):
            raise Undecodable("bits outside those stored")
    return clean
