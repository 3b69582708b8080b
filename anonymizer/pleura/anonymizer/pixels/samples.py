"""Samples: the bits of each that are image, and all others cleared (PS3.5 8.1.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleura.anonymizer.pixels.facts import INTEGER, ImageFacts

Samples = NDArray[Any]


def has_unused_bits(facts: ImageFacts) -> bool:
    """Return whether samples have bits outside [high_bit - stored + 1, high_bit]."""
    return facts.tag == INTEGER and facts.allocated not in (1, facts.stored)


def is_clear(facts: ImageFacts, values: Samples) -> bool:
    """Return whether unused bits are 0, or above a signed sample copies of its sign."""
    if not values.size or not has_unused_bits(facts):
        return True
    low, mask = _layout(facts)
    if not facts.is_signed:
        return not int(np.bitwise_or.reduce(values, axis=None)) & ~mask
    if low and int(np.bitwise_or.reduce(values, axis=None)) & ((1 << low) - 1):
        return False
    limit = 1 << facts.high_bit
    return int(values.min()) >= -limit and int(values.max()) < limit


def clear_samples(facts: ImageFacts, values: Samples) -> Samples:
    """Return the samples with unused bits cleared; the very array where they are."""
    if is_clear(facts, values):
        return values
    low, mask = _layout(facts)
    native = values.astype(values.dtype.newbyteorder("="))
    if facts.is_signed:
        above = facts.allocated - 1 - facts.high_bit
        native = (native << above) >> above >> low << low
    else:
        native &= native.dtype.type(mask)
    return native.astype(values.dtype)


def clear_bytes(facts: ImageFacts, data: bytes, *, big_endian: bool = False) -> bytes:
    """Return the bytes of whole samples with unused bits cleared; the very object if they are."""
    if not has_unused_bits(facts):
        return data
    dtype = np.dtype(facts.dtype).newbyteorder(">" if big_endian else "<")
    values = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
    cleared = clear_samples(facts, values)
    return data if cleared is values else cleared.tobytes() + data[values.nbytes :]


def byte_tables(facts: ImageFacts) -> list[bytes | None] | None:
    """Return for each byte of a sample, highest first, what to make of its 256 values.

    None in the list: the byte is all image. None instead of the list: a byte above the sign's
    depends on the sign, so no table can clear it.
    """
    count = max(facts.allocated // 8, 1)
    if not has_unused_bits(facts):
        return [None] * count
    if facts.is_signed and facts.high_bit < facts.allocated - 8:
        return None
    _, mask = _layout(facts)
    sign_extended = ((1 << facts.allocated) - 1) & ~((1 << facts.high_bit + 1) - 1)
    tables: list[bytes | None] = []
    for shift in range(8 * (count - 1), -1, -8):
        keep = mask >> shift & 0xFF
        above = sign_extended >> shift & 0xFF if facts.is_signed else 0
        sign = 1 << facts.high_bit - shift if above else 0
        table = bytes(b & keep | (above if b & sign else 0) for b in range(256))
        tables.append(None if table == bytes(range(256)) else table)
    return tables


def _layout(facts: ImageFacts) -> tuple[int, int]:
    low = facts.high_bit - facts.stored + 1
    return low, ((1 << facts.stored) - 1) << low
