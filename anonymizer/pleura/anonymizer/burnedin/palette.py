"""Palettes: the colour an index stands for (PS3.3 C.7.6.3.1.5), to read and to black out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pleura.anonymizer.burnedin.view import Frame
from pleura.anonymizer.encoding import Element
from pleura.anonymizer.errors import Undecodable

_DESCRIPTORS: Final = (0x00281101, 0x00281102, 0x00281103)
_TABLES: Final = (0x00281201, 0x00281202, 0x00281203)
_SEGMENTED: Final = 0x20  # its tag is so far from that of the plain table


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours (entries x 3, 0..255) of the indices from `first` on."""

    first: int
    colours: NDArray[np.uint8]

    @property
    def black(self) -> int:
        """The index of the darkest colour."""
        return self.first + int(self.colours.astype(np.uint16).sum(axis=1).argmin())

    def of(self, frame: Frame) -> Frame:
        """Return a frame of indices as rows x columns x 3 of 8 bits."""
        places = np.clip(frame.astype(np.int64) - self.first, 0, len(self.colours) - 1)
        shown: Frame = self.colours[places]
        return shown


def read_palette(elements: Sequence[Element], *, big_endian: bool) -> Palette:
    """Return the palette of an image.

    Raises:
        Undecodable: it has none, or its tables are broken or contradict each other.
    """
    values = {e.tag: bytes(e.value) for e in elements if e.tag >> 16 == 0x28 and e.items is None}
    order = ">" if big_endian else "<"
    tables = []
    firsts = set()
    for descriptor, table in zip(_DESCRIPTORS, _TABLES, strict=True):
        head, data = values.get(descriptor, b""), values.get(table, b"")
        segments = values.get(table + _SEGMENTED, b"")
        if len(head) < 6 or not (data or segments):
            raise Undecodable("palette")
        count, first, bits = (int(n) for n in np.frombuffer(head[:6], order + "u2"))
        count = count or 1 << 16
        firsts.add(first)
        if not data:
            words = [
                int(w) for w in np.frombuffer(segments[: len(segments) // 2 * 2], order + "u2")
            ]
            data = np.array(_expanded(words, count), order + "u2").tobytes()
        tables.append(_channel(data, count, bits, order))
    if len(firsts) != 1 or len({len(table) for table in tables}) != 1:
        raise Undecodable("palette")
    return Palette(firsts.pop(), np.stack(tables, axis=1))


def _channel(data: bytes, count: int, bits: int, order: str) -> NDArray[np.uint8]:
    if len(data) >= 2 * count:
        words = np.frombuffer(data, order + "u2", count)
        return words.astype(np.uint8) if bits == 8 else (words >> 8).astype(np.uint8)
    if bits != 8 or len(data) < count:
        raise Undecodable("palette")
    packed = np.frombuffer(data[: len(data) // 2 * 2], order + "u2").astype("<u2")
    flat = packed.view(np.uint8) if len(data) % 2 == 0 else np.frombuffer(data, np.uint8)
    return flat[:count]


def _expanded(words: list[int], count: int) -> list[int]:
    """Return the entries of a table of 16-bit segments (PS3.3 C.7.9.2).

    Raises:
        Undecodable: a segment is broken, or they do not make `count` entries.
    """
    out: list[int] = []
    _expand(words, 0, len(words), out, count)
    if len(out) != count:
        raise Undecodable("palette")
    return out


def _expand(
    words: list[int],
    at: int,
    segments: int,
    out: list[int],
    count: int,
    *,
    is_nested: bool = False,
) -> None:
    """Append up to `segments` segments from word `at` on; indirect ones do not nest."""
    while segments and at + 2 <= len(words) and len(out) < count:
        kind, length = words[at : at + 2]
        body = words[at + 2 : at + 2 + (length if kind == 0 else 1 if kind == 1 else 2)]
        at, segments = at + 2 + len(body), segments - 1
        if kind == 0 and len(body) == length:
            out += body
        elif kind == 1 and body and out:
            start, end = out[-1], body[0]
            out += [start + round((end - start) * i / length) for i in range(1, length + 1)]
        elif kind == 2 and len(body) == 2 and not is_nested:
            _expand(words, (body[0] | body[1] << 16) // 2, length, out, count, is_nested=True)
        else:
            raise Undecodable("palette")
