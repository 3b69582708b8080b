"""What a header says about its pixels (PS3.3 C.7.6.3), checked before a decoder sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pleura.anonymizer.encoding import PIXEL_TAGS, DicomFile, Element
from pleura.anonymizer.errors import LimitExceeded, Undecodable
from pleura.anonymizer.source import BytesSource, Span

FLOAT, DOUBLE, INTEGER = 0x7FE00008, 0x7FE00009, 0x7FE00010
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
MAX_FRAME_BYTES: Final = 1 << 30
MAX_FRAMES: Final = 1 << 20
_ALLOCATED: Final = (1, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Shape, sample layout and encoding of an image; `tag` is its pixel element."""

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    planar: int
    allocated: int
    stored: int
    high_bit: int
    is_signed: bool
    transfer_syntax: str
    tag: int = INTEGER
    is_words: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one decoded frame."""
        plane = (self.rows, self.columns)
        return plane if self.samples == 1 else (*plane, self.samples)

    @property
    def is_big_endian(self) -> bool:
        """Whether native samples are big endian."""
        return self.transfer_syntax == BIG_ENDIAN

    @property
    def is_swapped(self) -> bool:
        """Whether native bytes were swapped in pairs, as words are in big endian (PS3.5 8.2)."""
        return self.is_big_endian and self.is_words and self.allocated <= 8

    @property
    def frame_bits(self) -> int:
        """Bits of one native frame."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.allocated

    @property
    def frame_bytes(self) -> int:
        """Bytes of one native frame on its own."""
        return (self.frame_bits + 7) // 8

    @property
    def native_bytes(self) -> int:
        """Bytes of all native frames, padding not among them."""
        return (self.frame_bits * self.frames + 7) // 8

    @property
    def dtype(self) -> str:
        """NumPy name of a decoded sample, little endian."""
        if self.tag != INTEGER:
            return f"<f{self.allocated // 8}"
        return ("<i" if self.is_signed else "<u") + str(max(self.allocated // 8, 1))


def pixel_element(parsed: DicomFile) -> Element | None:
    """Return the pixel element of the top level, if there is one."""
    return next((e for e in parsed.elements if e.tag in PIXEL_TAGS and e.items is None), None)


def span_of(element: Element) -> Span:
    """Return the element's value as a span."""
    value = element.value
    return value if isinstance(value, Span) else Span(BytesSource(bytes(value)), 0, len(value))


def read_facts(parsed: DicomFile) -> ImageFacts | None:
    """Return the facts of the image, or None where there are no pixels.

    Raises:
        Undecodable: an attribute is missing or contradicts another.
        LimitExceeded: a frame or the number of frames is too large.
    """
    element = pixel_element(parsed)
    if element is None:
        return None
    if sum(e.tag in PIXEL_TAGS for e in parsed.elements) > 1:
        raise Undecodable("two pixel elements")
    values = {e.tag: bytes(e.value) for e in parsed.elements if e.tag >> 16 == 0x28 and not e.items}
    order: Literal["big", "little"] = "big" if parsed.syntax.big_endian else "little"

    def number(tag: int, default: int | None = None) -> int:
        raw = values.get(tag, b"")
        if len(raw) >= 2:
            return int.from_bytes(raw[:2], order)
        if default is None:
            raise Undecodable("missing image attribute")
        return default

    is_float = element.tag != INTEGER
    width = {FLOAT: 32, DOUBLE: 64}.get(element.tag)
    allocated = width or number(0x00280100)
    stored = allocated if is_float else number(0x00280101, allocated)
    facts = ImageFacts(
        rows=number(0x00280010),
        columns=number(0x00280011),
        frames=_frames(values.get(0x00280008, b"")),
        samples=number(0x00280002, 1),
        photometric=values.get(0x00280004, b"MONOCHROME2").decode("latin-1").strip("\0 "),
        planar=number(0x00280006, 0),
        allocated=allocated,
        stored=stored,
        high_bit=stored - 1 if is_float else number(0x00280102, stored - 1),
        is_signed=not is_float and number(0x00280103, 0) == 1,
        transfer_syntax=parsed.transfer_syntax,
        tag=element.tag,
        is_words=element.vr == "OW",
    )
    _check(facts)
    return facts


def _frames(raw: bytes) -> int:
    text = raw.strip(b"\0 ")
    if not text:
        return 1
    if not text.isdigit() or len(text) > 12 or int(text) == 0:
        raise Undecodable("number of frames")
    if int(text) > MAX_FRAMES:
        raise LimitExceeded("number of frames")
    return int(text)


def _check(facts: ImageFacts) -> None:
    if not (facts.rows and facts.columns) or facts.samples not in (1, 3, 4):
        raise Undecodable("image shape")
    if facts.allocated not in _ALLOCATED or not 1 <= facts.stored <= facts.allocated:
        raise Undecodable("bits per sample")
    if not facts.stored - 1 <= facts.high_bit < facts.allocated or facts.planar not in (0, 1):
        raise Undecodable("sample layout")
    if facts.rows * facts.columns * facts.samples * max(facts.allocated // 8, 1) > MAX_FRAME_BYTES:
        raise LimitExceeded("frame size")
