"""The encoding: what is read is written again, and broken bytes are refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pleura.anonymizer import inflating, wire
from pleura.anonymizer.errors import (
    LimitExceeded,
    NotDicom,
    NoTransferSyntax,
    Quarantined,
    Truncated,
    Undecodable,
)
from pleura.anonymizer.source import Span
from pleura.anonymizer.wire import Element, Syntax, encode, parse_file
from tests.builders.identified import ct_dataset, item, nested, write

HEAD = bytes(128) + b"DICM"
UNDEFINED = b"\xff\xff\xff\xff"


def ui(tag: int, value: bytes) -> bytes:
    return b"".join(map(bytes, encode([Element(tag, "UI", value)], Syntax())))


def file_of(body: bytes, syntax: str = ImplicitVRLittleEndian) -> bytes:
    return HEAD + ui(0x00020010, syntax.encode()) + body


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, size) + value


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_a_data_set_is_written_as_it_was_read(tmp_path: Path, syntax: str) -> None:
    ds = ct_dataset(**nested("AnatomicRegionSequence", item(CodeValue="T-28000")))
    data = write(tmp_path / "a", ds, syntax=syntax).read_bytes()
    parsed = parse_file(data)
    body = b"".join(map(bytes, encode(parsed.elements, parsed.syntax)))
    assert data.endswith(body)
    assert len(body) > 500


def test_a_deflated_data_set_is_inflated(tmp_path: Path) -> None:
    path = write(tmp_path / "a", ct_dataset(), syntax=DeflatedExplicitVRLittleEndian)
    tags = {e.tag for e in parse_file(path.read_bytes()).elements}
    assert {0x00100010, 0x7FE00010} <= tags


@pytest.mark.parametrize("data", [b"DICM", bytes(200), b"\x89PNG" * 100])
def test_other_files_are_not_dicom(data: bytes) -> None:
    with pytest.raises(NotDicom):
        parse_file(data)


def test_a_file_without_transfer_syntax_is_refused() -> None:
    with pytest.raises(NoTransferSyntax):
        parse_file(HEAD)
    with pytest.raises(NoTransferSyntax):
        parse_file(HEAD + ui(0x00020010, b""))


_ITEM = b"\xfe\xff\x00\xe0"
_ITEM_END = b"\xfe\xff\x0d\xe0" + bytes(4)
_END = b"\xfe\xff\xdd\xe0" + bytes(4)
_SQ = 0x00082218


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"\x08\x00", Truncated),
        (b"\x08\x00\x05\x00\x10\x00", Truncated),
        (implicit(0x00080060, b"CT", 400), Truncated),
        (implicit(0x00080060, b"CT") + b"\0\0\0", Truncated),
        (implicit(_SQ, b"", 0xFFFFFFFF), Truncated),
        (implicit(_SQ, _ITEM + UNDEFINED, 0xFFFFFFFF), Truncated),
        (implicit(_SQ, _ITEM + b"\x40\0\0\0", 0xFFFFFFFF), Truncated),
        (implicit(_SQ, b"surprise", None), Undecodable),
        (implicit(0x00080060, b"CT") + _ITEM_END, Undecodable),
        (implicit(0x7FE00010, _ITEM + b"\x40\0\0\0ab", 0xFFFFFFFF), Truncated),
        (implicit(0x7FE00010, b"\x08\x00\x60\x00\x02\0\0\0CT", 0xFFFFFFFF), Undecodable),
        (implicit(0x7FE00010, _ITEM + UNDEFINED, 0xFFFFFFFF), Undecodable),
    ],
)
def test_broken_framing_is_refused(body: bytes, error: type[Quarantined]) -> None:
    with pytest.raises(error):
        parse_file(file_of(body))


def test_open_items_and_fragments_are_read() -> None:
    inner = implicit(0x00080100, b"AB")
    sequence = implicit(_SQ, _ITEM + UNDEFINED + inner + _ITEM_END + _END, 0xFFFFFFFF)
    pixels = implicit(0x7FE00010, _ITEM + b"\x02\0\0\0ab" + _END, 0xFFFFFFFF)
    parsed = parse_file(file_of(sequence + pixels))
    assert parsed.elements[0].items is not None
    assert bytes(parsed.elements[0].items[0][0].value) == b"AB"
    assert parsed.elements[1].is_encapsulated
    assert b"".join(map(bytes, encode(parsed.elements[1:], parsed.syntax))) == pixels


def test_an_unknown_representation_or_syntax_is_refused() -> None:
    body = b"\x08\x00\x60\x00??\x02\x00CT"
    with pytest.raises(Undecodable):
        parse_file(file_of(body, ExplicitVRLittleEndian))
    with pytest.raises(Undecodable):
        parse_file(file_of(b"", "1.2.3.4"))


def test_a_short_explicit_header_is_truncated() -> None:
    with pytest.raises(Truncated):
        parse_file(file_of(b"\x08\x00\x18\x22SQ\0\0", ExplicitVRLittleEndian))


def test_depth_size_and_inflation_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b""
    for _ in range(wire.MAX_PARSE_DEPTH + 2):
        body = implicit(_SQ, _ITEM + len(body).to_bytes(4, "little") + body)
    with pytest.raises(LimitExceeded):
        parse_file(file_of(body))
    monkeypatch.setattr(wire, "MAX_HEADER_ELEMENT_BYTES", 10)
    with pytest.raises(LimitExceeded):
        parse_file(file_of(implicit(0x0040A160, b"x" * 12)))
    monkeypatch.setattr(inflating, "MAX_INFLATE_FLOOR_BYTES", 10)
    packed = zlib.compress(bytes(100_000), wbits=-15)
    with pytest.raises(LimitExceeded):
        parse_file(file_of(packed, DeflatedExplicitVRLittleEndian))


def test_a_damaged_deflate_stream_is_refused() -> None:
    packed = zlib.compress(
        b"".join(map(bytes, encode([Element(0x00080060, "CS", b"CT")], Syntax()))), wbits=-15
    )
    with pytest.raises(Truncated):
        parse_file(file_of(packed[:-2], DeflatedExplicitVRLittleEndian))
    with pytest.raises(Truncated):
        parse_file(file_of(packed + b"tail", DeflatedExplicitVRLittleEndian))
    with pytest.raises(Undecodable):
        parse_file(file_of(b"\xff\xff\xff\xff", DeflatedExplicitVRLittleEndian))


def test_values_are_padded_to_an_even_length() -> None:
    assert wire.padded("UI", b"1.2") == b"1.2\0"
    assert wire.padded("LO", b"abc") == b"abc "
    assert wire.padded("OB", b"a") == b"a\0"
    assert wire.padded("UT", b"a") == b"a "


def test_representations_of_implicit_elements_come_from_the_dictionary() -> None:
    elements = [
        (0x00080000, "UL"), (0x00090010, "LO"), (0x00091001, "UN"), (0x00080099, "UN"),
        (0x60003000, "OW"), (0x00280106, "US"), (0x00283006, "OW"),
    ]  # fmt: skip
    for tag, vr in elements:
        assert parse_file(file_of(implicit(tag, b"\0\0\0\0"))).elements[0].vr == vr


# --- the window -------------------------------------------------------------------


class Counting:
    """A source that counts the bytes somebody read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.count = data, len(data), 0

    def read(self, start: int, count: int) -> bytes:
        found = self.data[start : start + count]
        self.count += len(found)
        return found


def test_pixels_are_not_read_and_what_follows_them_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = implicit(0x7FE00010, bytes(1 << 20))
    after = implicit(0xFFFCFFFC, b"sign", None)
    source = Counting(file_of(implicit(0x00080060, b"CT") + pixels + after))
    parsed = parse_file(source)
    assert [e.tag for e in parsed.elements] == [0x00080060, 0x7FE00010, 0xFFFCFFFC]
    assert isinstance(parsed.elements[1].value, Span)
    assert source.count < 2 * wire.WINDOW_BYTES
    assert bytes(parsed.elements[1].value) == bytes(1 << 20)


def test_of_fragments_only_the_item_headers_are_read() -> None:
    fragment = _ITEM + (100_000).to_bytes(4, "little") + bytes(100_000)
    pixels = implicit(0x7FE00010, fragment * 20 + _END, 0xFFFFFFFF)
    source = Counting(file_of(pixels + implicit(0xFFFCFFFC, b"sign")))
    parsed = parse_file(source)
    assert len(parsed.elements[0].value) == 20 * 100_008 + 8
    assert source.count < 3 * wire.WINDOW_BYTES


@pytest.mark.parametrize("window", [140, 150, 200, 1000])
def test_values_and_sequences_larger_than_the_window_are_read(
    monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    inner = implicit(0x00080100, b"AB" * 300)
    open_item = implicit(_SQ, _ITEM + UNDEFINED + inner + _ITEM_END + _END, 0xFFFFFFFF)
    closed = implicit(0x00081110, _ITEM + len(inner).to_bytes(4, "little") + inner)
    text = implicit(0x0040A160, b"report " * 100)
    data = file_of(open_item + closed + text + open_item)
    whole = parse_file(data)
    monkeypatch.setattr(wire, "WINDOW_BYTES", window)
    assert parse_file(data) == whole
    with pytest.raises(Truncated):
        parse_file(data[:-4])


def test_an_open_sequence_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "WINDOW_BYTES", 256)
    monkeypatch.setattr(wire, "MAX_HEADER_ELEMENT_BYTES", 2000)
    inner = implicit(0x00080100, b"AB" * 300)
    sequence = implicit(_SQ, (_ITEM + UNDEFINED + inner + _ITEM_END) * 40 + _END, 0xFFFFFFFF)
    with pytest.raises(LimitExceeded):
        parse_file(file_of(sequence))


def test_pixels_sent_as_unknown_get_their_representation() -> None:
    body = b"\xe0\x7f\x10\x00UN\0\0" + (4).to_bytes(4, "little") + b"abcd"
    pixels = parse_file(file_of(body, ExplicitVRLittleEndian)).elements[0]
    assert (pixels.vr, bytes(pixels.value)) == ("OW", b"abcd")
    with pytest.raises(Truncated):
        parse_file(file_of(body[:-1], ExplicitVRLittleEndian))
    with pytest.raises(Truncated):
        parse_file(file_of(body[:2], ExplicitVRLittleEndian))
    with pytest.raises(Truncated):
        parse_file(file_of(implicit(0x7FE00010, _ITEM + b"\2\0\0\0ab", 0xFFFFFFFF)))


def test_fragments_inside_a_sequence_stay_in_memory() -> None:
    icon = b"\xe0\x7f\x10\x00OB\0\0" + UNDEFINED + _ITEM + b"\2\0\0\0ab" + _END
    item_ = _ITEM + len(icon).to_bytes(4, "little") + icon
    head = b"\x88\x00\x00\x02SQ\0\0" + len(item_).to_bytes(4, "little")
    element = parse_file(file_of(head + item_, ExplicitVRLittleEndian)).elements[0]
    assert element.items is not None
    assert element.items[0][0].is_encapsulated
    assert b"".join(map(bytes, encode([element], Syntax()))) == head + item_
    broken = item_.replace(_END, _ITEM + UNDEFINED)
    with pytest.raises(Undecodable):
        parse_file(file_of(head + broken, ExplicitVRLittleEndian))
