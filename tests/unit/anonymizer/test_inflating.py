"""Deflated data sets: bounded in memory and in size, and refused when damaged."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from pleura.anonymizer import inflating
from pleura.anonymizer.errors import LimitExceeded, Truncated, Undecodable
from pleura.anonymizer.inflating import deflate, inflate
from pleura.anonymizer.source import BytesSource, FileSource, Span


def packed(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


@pytest.mark.parametrize("size", [0, 10, 5 << 20, 9 << 20])
def test_what_is_deflated_is_inflated_again(tmp_path: Path, size: int) -> None:
    data = os.urandom(1 << 20) * (size >> 20) + bytes(size % (1 << 20))
    half = len(data) // 2
    pieces = [data[:half], Span(BytesSource(data), half, len(data) - half)]
    stored = b"".join(deflate(pieces))
    assert len(stored) % 2 == 0
    plain = inflate(BytesSource(b"head" + stored), 4, spool=tmp_path)
    assert plain.read(0, size + 1) == data
    assert isinstance(plain, FileSource) == (size > inflating.SPOOL_BYTES)
    assert not list(tmp_path.iterdir())


def test_a_bomb_is_refused_before_it_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflating, "MAX_INFLATE_FLOOR_BYTES", 1 << 20)
    with pytest.raises(LimitExceeded):
        inflate(BytesSource(packed(bytes(200 << 20))), 0)


def test_damage_and_tails_are_refused() -> None:
    whole = packed(os.urandom(3 << 20))
    inflate(BytesSource(whole + b"\0"), 0)
    for broken in (whole[:-1], whole[: len(whole) // 2], whole + b"\0\0", b""):
        with pytest.raises(Truncated):
            inflate(BytesSource(broken), 0)
    with pytest.raises(Truncated):
        inflate(BytesSource(whole + bytes(3 << 20)), 0)
    with pytest.raises(Undecodable):
        inflate(BytesSource(b"\xff" * 100), 0)
