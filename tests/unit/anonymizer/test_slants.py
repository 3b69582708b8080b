"""Lines at an angle: what counts as one, its level strip, and the boxes that cover it."""

from __future__ import annotations

import numpy as np
import pytest

from pleura.anonymizer.burnedin.slants import Slant, distinct, slant_of

SHAPE = (400, 500)


def corners(degrees: float, length: float = 200, height: float = 20) -> np.ndarray:
    angle = np.radians(degrees)
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    over = np.array([-np.sin(angle), np.cos(angle)]) * height / 2
    quad = [-along - over, along - over, along + over, -along + over]
    return (np.array(quad) + np.array((250, 200))).astype(np.float32)


@pytest.mark.parametrize("degrees", [-70, -45, -12, 30, 45, 80])
def test_a_slanted_line_is_level_in_its_strip_and_covered_by_its_chain(degrees: float) -> None:
    cv2 = pytest.importorskip("cv2")
    quad = corners(degrees)
    slant = slant_of(cv2, quad)
    assert slant is not None
    grey = np.zeros(SHAPE, np.uint8)
    cv2.fillConvexPoly(grey, quad.round().astype(np.int32), 255)
    strip, box = slant.strip(cv2, grey), slant.strip_box()
    assert strip[box.slices()].mean() > 235
    assert strip[: box.y0 - 2].max() == 0
    gone = np.zeros(SHAPE, bool)
    for link in slant.chain(box.grown(1, 1, strip.shape), SHAPE):
        gone[link.slices()] = True
    assert gone[grey > 0].all()
    assert gone.sum() < 3.5 * 200 * 20


@pytest.mark.parametrize("quad", [corners(0), corners(90), corners(1.5), corners(45, 30, 20)])
def test_level_lines_and_short_ones_have_no_slant(quad: np.ndarray) -> None:
    assert slant_of(pytest.importorskip("cv2"), quad) is None


def test_a_chain_ends_at_the_edge_of_the_picture() -> None:
    slant = Slant(5, 5, 80, 10, np.pi / 4)
    chain = slant.chain(slant.strip_box(), SHAPE)
    assert chain
    assert all(box.area and box.x0 >= 0 and box.y0 >= 0 for box in chain)


def test_of_lines_on_one_another_the_largest_stays() -> None:
    long, short = Slant(100, 100, 90, 12, 0.5), Slant(104, 102, 60, 12, 0.5)
    beside = Slant(90, 120, 90, 12, 0.5)
    assert set(distinct([short, beside, long])) == {long, beside}
