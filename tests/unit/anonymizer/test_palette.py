"""Palettes: colours from tables of entries or segments, and what is broken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pleura.anonymizer.burnedin.palette import read_palette
from pleura.anonymizer.encoding import Element
from pleura.anonymizer.errors import Undecodable


def _palette(entries: Sequence[int], bits: int = 16, first: int = 5) -> list[Element]:
    head = np.array([len(entries), first, bits], "<u2").tobytes()
    data = np.array(entries, "<u2").tobytes() if bits == 16 else bytes(entries)
    tags = [(0x00281101 + i, 0x00281201 + i) for i in range(3)]
    return [
        element
        for descriptor, table in tags
        for element in (Element(descriptor, "US", head), Element(table, "OW", data))
    ]


@pytest.mark.parametrize(("entries", "bits"), [([0xFF00, 0x4000, 0x0100, 0x2000], 16),
                                               ([255, 64, 1, 32], 8)])  # fmt: skip
def test_a_palette_shows_colours_and_knows_its_black(entries: list[int], bits: int) -> None:
    palette = read_palette(_palette(entries, bits), big_endian=False)
    assert palette.black == 7
    shown = palette.of(np.array([[0, 5, 6, 99]], np.uint8))
    assert shown[0, :, 0].tolist() == [255, 255, 64, 32]


def _segmented(words: list[int], count: int) -> list[Element]:
    head = np.array([count, 0, 16], "<u2").tobytes()
    data = np.array(words, "<u2").tobytes()
    return [
        e
        for i in range(3)
        for e in (Element(0x00281101 + i, "US", head), Element(0x00281221 + i, "OW", data))
    ]


def test_a_segmented_palette_is_expanded() -> None:
    words = [0, 1, 0x0800, 1, 4, 0x4800, 0, 2, 0x0100, 0xFF00]  # discrete, linear, discrete
    palette = read_palette(_segmented(words, 7), big_endian=False)
    assert palette.colours[:, 0].tolist() == [0x08, 0x18, 0x28, 0x38, 0x48, 0x01, 0xFF]
    assert palette.black == 5
    again = read_palette(_segmented([*words, 2, 1, 0, 0], 8), big_endian=False)  # the first again
    assert again.colours[7, 0] == 0x08


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ([0, 5, 1, 2], 5),
        ([1, 2, 9], 2),
        ([9, 1, 1], 1),
        ([0, 2, 1, 2], 3),
        ([2, 60000, 0, 0], 9),
    ],
)
def test_broken_segments_are_undecodable(words: list[int], count: int) -> None:
    with pytest.raises(Undecodable):
        read_palette(_segmented(words, count), big_endian=False)


@pytest.mark.parametrize("keep", [0, 5])
def test_a_broken_palette_is_undecodable(keep: int) -> None:
    with pytest.raises(Undecodable):
        read_palette(_palette([0, 1, 2, 3])[:keep], big_endian=False)
