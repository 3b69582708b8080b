"""Damaged DICOM files, the same for the same seed, made from small sound ones.

Every sound file is a `Sample` with known identifiers. A mutant applies one to three edits to
it: flipped bytes, cuts, edited tags, VRs and lengths, moved, doubled and dropped elements,
delimiters in odd places, undefined lengths, foreign character sets and transfer syntaxes, broken
fragments and deflate streams. Some of them are still sound; what a reader makes of one is not
known beforehand.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.builders.mutation_samples import LONG, Sample, with_meta

_SHORT: Final = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
_SETS: Final = (
    b"ISO_IR 192", b"ISO_IR 100", b"ISO 2022 IR 87", b"GB18030", b"GBK", b"ISO_IR 13",
    b"\\ISO 2022 IR 149", b"\\ISO 2022 IR 87\\ISO 2022 IR 159", b"NONE SUCH", b"ISO_IR 166", b"",
    b"ISO 2022 IR 6\\ISO_IR 192",
)  # fmt: skip
_SYNTAXES: Final = (
    b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2",
    b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.4.90",
    b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.8.1", b"1.2.3", b"",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """A damaged file; `name` says from what, by which edits, and repeats it."""

    name: str
    data: bytes
    planted: tuple[str, ...]


Edit = Callable[[bytearray, Sample, random.Random], None]


def _flip(data: bytearray, _: Sample, rng: random.Random) -> None:
    for _index in range(rng.choice((1, 1, 2, 8, 40))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, _: Sample, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    noise = rng.choice((rng.randbytes(rng.randrange(1, 24)), b"\0" * 8, b"\xff" * 8))
    data[at : at + len(noise)] = noise


def _cut(data: bytearray, _: Sample, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _append(data: bytearray, sample: Sample, rng: random.Random) -> None:
    data += rng.choice((b"\0", rng.randbytes(64), sample.planted[0].encode() + b"  ", bytes(300)))


def _drop(data: bytearray, sample: Sample, rng: random.Random) -> None:
    start = _head(data, sample, rng) if rng.random() < 0.5 else rng.randrange(len(data) + 1)
    del data[start : start + rng.choice((1, 2, 4, 8, 30, 200))]


def _double(data: bytearray, sample: Sample, rng: random.Random) -> None:
    start, stop = sorted((_head(data, sample, rng), _head(data, sample, rng)))
    target = _head(data, sample, rng)
    data[target:target] = data[start:stop]


def _swap(data: bytearray, sample: Sample, rng: random.Random) -> None:
    a, b, c = sorted(_head(data, sample, rng) for _ in range(3))
    data[a:c] = data[b:c] + data[a:b]


def _length(data: bytearray, sample: Sample, rng: random.Random) -> None:
    at = _head(data, sample, rng)
    vr = bytes(data[at + 4 : at + 6])
    if sample.is_implicit or vr in LONG:
        at, width = at + (4 if sample.is_implicit else 8), 4
    else:
        at, width = at + 6, 2
    old = int.from_bytes(data[at : at + width], "big" if sample.is_big_endian else "little")
    top = (1 << 8 * width) - 1
    new = rng.choice(
        (0, 1, old + 1, old + 2, max(old - 2, 0), old * 2, top, top - 1, top >> 1, len(data),
         rng.randrange(top))
    )  # fmt: skip
    data[at : at + width] = struct.pack(sample.order + ("L" if width == 4 else "H"), new & top)


def _undefine(data: bytearray, sample: Sample, rng: random.Random) -> None:
    at = _head(data, sample, rng)
    if not sample.is_implicit:
        data[at + 4 : at + 8] = rng.choice((b"SQ", b"UN", b"OB", b"OW", b"UT")) + b"\0\0"
    at += 4 if sample.is_implicit else 8
    data[at : at + 4] = b"\xff\xff\xff\xff"
    if rng.random() < 0.5:
        end = _head(data, sample, rng)
        data[end:end] = _tag(sample, 0xFFFE, 0xE0DD) + bytes(4)


def _vr(data: bytearray, sample: Sample, rng: random.Random) -> None:
    at = _head(data, sample, rng) + 4
    pool = LONG if bytes(data[at : at + 2]) in LONG and rng.random() < 0.7 else _SHORT
    data[at : at + 2] = rng.choice((*pool, *pool, *_SHORT, *LONG, rng.randbytes(2), b"\0\0"))


def _retag(data: bytearray, sample: Sample, rng: random.Random) -> None:
    at = _head(data, sample, rng)
    group, number = rng.choice(
        (
            (0x0002, 0x0010), (0x0008, 0x0005), (0x0008, 0x0018), (0x0010, 0x0010), (0, 0),
            (0x7FE0, 0x0010), (0x7FE0, 0x0008), (0xFFFE, 0xE000), (0xFFFE, 0xE00D),
            (0xFFFE, 0xE0DD), (0xFFFF, 0xFFFF), (0x0028, 0x0010), (0x0088, 0x0200),
            (0x5400, 0x1010), (0x0009, 0x0010), (0x6000, 0x3000), (0x0040, 0xA730),
            (0x0029, 0x1003), (0xFFFA, 0xFFFA), (0x0008, 0x0070), (0x0018, 0x1210),
            (0x0018, 0x0015), (0x0008, 0x103E), (0x0008, 0x0008),
            (rng.randrange(65536), rng.randrange(65536)),
        )
    )  # fmt: skip
    data[at : at + 4] = _tag(sample, group, number)


def _delimit(data: bytearray, sample: Sample, rng: random.Random) -> None:
    at = _head(data, sample, rng)
    number = rng.choice((0xE000, 0xE00D, 0xE0DD))
    length = rng.choice((0, 0, 8, 0xFFFFFFFF))
    mark = _tag(sample, 0xFFFE, number) + struct.pack(sample.order + "L", length)
    data[at:at] = mark * rng.choice((1, 1, 2, 50))


def _nest(data: bytearray, sample: Sample, rng: random.Random) -> None:
    """Wrap the rest of the data set in sequences, closed or not."""
    at, depth = _head(data, sample, rng), rng.choice((1, 3, 30, 127, 128, 129, 600))
    vr = b"" if sample.is_implicit else rng.choice((b"SQ\0\0", b"SQ\0\0", b"UN\0\0"))
    opened = _tag(sample, 0x0040, 0xA730) + vr + b"\xff" * 4
    opened += _tag(sample, 0xFFFE, 0xE000) + b"\xff" * 4
    closed = _tag(sample, 0xFFFE, 0xE00D) + bytes(4) + _tag(sample, 0xFFFE, 0xE0DD) + bytes(4)
    end = _head(data, sample, rng)
    end = max(at, end)
    data[end:end] = closed * (depth if rng.random() < 0.8 else depth - 1)
    data[at:at] = opened * depth


def _charset(data: bytearray, sample: Sample, rng: random.Random) -> None:
    value = rng.choice(_SETS)
    value += b" " * (len(value) % 2)
    head = _tag(sample, 0x0008, 0x0005)
    length = struct.pack(sample.order + ("L" if sample.is_implicit else "H"), len(value))
    at = data.find(head)
    if at >= 0:
        skip = 4 if sample.is_implicit else 6
        width = len(length)
        order = "big" if sample.is_big_endian else "little"
        old = int.from_bytes(data[at + skip : at + skip + width], order)  # type: ignore[arg-type]
        del data[at : at + skip + width + old]
    at = max(at, 0)
    data[at:at] = head + (b"" if sample.is_implicit else b"CS") + length + value


def _escape(data: bytearray, sample: Sample, rng: random.Random) -> None:
    """Put shifts between character sets, and halves of characters, into a value."""
    at = min(_head(data, sample, rng) + rng.randrange(8, 16), len(data))
    piece = rng.choice((b"\x1b$B", b"\x1b(B", b"\x1b$)C", b"\x1b", b"\x81", b"\xe3\x81", b"^=\\"))
    data[at : at + len(piece)] = piece


def _pixels(data: bytearray, sample: Sample, rng: random.Random) -> None:
    """Damage what comes last: pixel data, fragments and their offset table."""
    at = data.rfind(_tag(sample, 0x7FE0, 0x0010))
    if at < 0:
        return
    spot = rng.randrange(at, min(at + 64, len(data)) if rng.random() < 0.5 else len(data))
    edit = rng.randrange(4)
    if edit == 0:
        data[spot : spot + 4] = rng.choice((bytes(4), b"\xff" * 4, rng.randbytes(4)))
    elif edit == 1:
        item_at = data.find(_tag(sample, 0xFFFE, 0xE000), spot)
        if item_at >= 0:
            size = rng.choice((0, 1, 2, 0x7FFFFFFF, 0xFFFFFFFF, len(data)))
            data[item_at + 4 : item_at + 8] = struct.pack(sample.order + "L", size)
    elif edit == 2:
        data[spot:spot] = rng.randbytes(rng.choice((1, 2, 8)))
    else:
        del data[spot : spot + rng.choice((1, 2, 8, 64))]


def _image_facts(data: bytearray, sample: Sample, rng: random.Random) -> None:
    """Give an attribute of the image another value (group 0028)."""
    number = rng.choice((0x0002, 0x0008, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103, 0x0006))
    at = data.find(_tag(sample, 0x0028, number))
    if at >= 0:
        value = rng.choice((0, 1, 2, 3, 7, 8, 12, 16, 32, 64, 0x7FFF, 0xFFFF))
        data[at + 8 : at + 10] = struct.pack(sample.order + "H", value)


EDITS: Final[tuple[Edit, ...]] = (
    _flip, _overwrite, _cut, _append, _drop, _double, _swap, _length, _undefine, _vr, _retag,
    _delimit, _nest, _charset, _escape, _pixels, _image_facts,
)  # fmt: skip


def _head(data: bytearray, sample: Sample, rng: random.Random) -> int:
    """Return where an element begins, or began before an earlier edit."""
    return min(rng.choice(sample.heads), len(data))


def _tag(sample: Sample, group: int, number: int) -> bytes:
    return struct.pack(sample.order + "HH", group, number)


def mutant(sample: Sample, seed: str) -> Mutant:
    """Return the mutant of a sample that a seed stands for."""
    rng = random.Random(f"{sample.name} {seed}")
    edits = rng.choices(EDITS, k=rng.choice((1, 1, 1, 2, 3)))
    name = f"{sample.name} {seed}: " + " ".join(e.__name__.strip("_") for e in edits)
    chance = rng.random()
    if chance < 0.06:  # the whole file, preamble and file meta included
        whole = bytearray(sample.data)
        edits[0](whole, sample, rng)
        return Mutant(f"{name} whole", bytes(whole), sample.planted)
    if chance < 0.10:
        data = with_meta(sample.data, rng.choice(_SYNTAXES))
        return Mutant(f"{name} syntax", data, sample.planted)
    if sample.is_deflated and chance < 0.4:  # the stream itself
        packed = bytearray(sample.data)
        rng.choice((_flip, _cut, _append, _overwrite))(packed, sample, rng)
        return Mutant(f"{name} stream", bytes(packed), sample.planted)
    body = bytearray(sample.data[sample.body :])
    if sample.is_deflated:
        body = bytearray(zlib.decompress(bytes(body), -zlib.MAX_WBITS))
    for edit in edits:
        edit(body, sample, rng)
    packed_body = _deflate(bytes(body)) if sample.is_deflated else bytes(body)
    return Mutant(name, sample.data[: sample.body] + packed_body, sample.planted)


def mutants(samples: Sequence[Sample], seed: str, count: int) -> Iterator[Mutant]:
    """Yield `count` mutants, the samples in turn."""
    for number in range(count):
        yield mutant(samples[number % len(samples)], f"{seed}-{number}")


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()
