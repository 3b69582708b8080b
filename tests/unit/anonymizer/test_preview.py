"""The picture of `preview`: two halves that say what they are, and where it may be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pleura.anonymizer.burnedin.boxes import Box
from pleura.anonymizer.burnedin.clean import Reading, read_and_clean
from pleura.anonymizer.burnedin.finder import Found
from pleura.anonymizer.burnedin.policy import ReadingPlan
from pleura.anonymizer.burnedin.preview import BLANK, GAP_PX, KEPT, TEXT, write_preview
from pleura.anonymizer.burnedin.view import Frame, Grey
from pleura.anonymizer.errors import WriteRefused
from pleura.anonymizer.previewing import check_target, first_with_text, in_frame
from pleura.anonymizer.text import Seeds

TOP = Box(0, 0, 400, 20)
WORDS = Box(100, 60, 180, 90)
SIDE = Box(300, 100, 330, 130)
READING = Reading(
    2, 1, 2, True, redact={0: (TOP,), 1: (TOP, WORDS)}, blank=(TOP,), kept={0: (SIDE,), 1: (SIDE,)}
)


class Frames:
    count = 2

    def __init__(self, rows: int = 200, columns: int = 400) -> None:
        self._values = np.full((rows, columns), 900, np.uint16)
        self._values[::7, ::3] = 100

    def frame(self, index: int) -> Frame:
        return self._values


def drawn(folder: Path, reading: Reading = READING, frames: Frames | None = None) -> Image.Image:
    path = folder / "p.png"
    write_preview(frames or Frames(), "MONOCHROME2", reading, path, index=1)
    with Image.open(path) as picture:
        picture.load()
        return picture


def colours(picture: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(map(int, c)) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3)}


def test_both_halves_lie_under_a_band_and_apart(tmp_path: Path) -> None:
    picture = drawn(tmp_path)
    assert picture.width == 2 * 400 + GAP_PX
    assert picture.height > 200 + 3 * 12  # a heading and what the colours mean
    band = np.asarray(picture.convert("L"))[: picture.height - 200]
    assert (band[:, :400] > 200).sum() > 300  # words stand over either half
    assert (band[:, 400 + GAP_PX :] > 200).sum() > 100


def test_each_kind_of_box_has_its_colour_over_the_left_half_only(tmp_path: Path) -> None:
    picture = drawn(tmp_path)
    top = picture.height - 200
    left, right = (
        picture.crop((x, top, x + 400, picture.height)) for x in (0, 400 + GAP_PX)
    )  # fmt: skip
    assert left.getpixel((WORDS.x0, WORDS.y0)) == TEXT
    assert left.getpixel((TOP.x0 + 5, TOP.y1 - 1)) == BLANK
    assert left.getpixel((SIDE.x0, SIDE.y0)) == KEPT
    assert not colours(right) & {TEXT, BLANK, KEPT}
    assert right.getpixel(((WORDS.x0 + WORDS.x1) // 2, 75)) == (0, 0, 0)
    assert colours(right.crop((SIDE.x0, SIDE.y0, SIDE.x1, SIDE.y1))) != {(0, 0, 0)}


def test_the_words_of_the_band_fit_over_a_small_picture(tmp_path: Path) -> None:
    small = drawn(tmp_path, Reading(2, 0, 0, True), Frames(32, 32))
    band = np.asarray(small.convert("L"))[: small.height - 32]
    half = (small.width - GAP_PX) // 2
    assert half > 32
    assert (band[:, half - 4 : half] < 100).all()  # no word is cut at the edge
    assert (band[:, -4:] < 100).all()


def test_what_is_counted_is_what_is_drawn() -> None:
    counts = in_frame(READING, 1)
    assert (counts.text, counts.known, counts.kept) == (1, 1, 1)
    assert in_frame(READING, 0).text == 0


def test_the_frame_shown_is_the_first_with_text_not_with_a_known_area() -> None:
    assert first_with_text(READING) == 1
    assert first_with_text(Reading(1, 0, 0, True, redact={0: (TOP,)}, blank=(TOP,))) == 0


def test_a_target_without_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteRefused, match="does not exist"):
        check_target(tmp_path / "no" / "p.png")
    with pytest.raises(WriteRefused, match="no folder"):
        check_target(tmp_path / "file" / "p.png")
    check_target(tmp_path / "p.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_takes_nothing_is_refused() -> None:
    with pytest.raises(WriteRefused, match="picture"):
        check_target(Path("/proc/self/p.png"))


def test_a_marker_under_a_box_is_not_called_kept() -> None:
    class Both:
        """Finds a marker and a name that reaches over it, as long as there is ink."""

        def find(self, grey: Grey, place: Box) -> list[Found]:
            if not grey[place.slices()].any():
                return []
            return [Found(SIDE, "R", 0.99), Found(SIDE.moved(-10, 0), "QUILL", 0.99)]

    values = np.zeros((400, 400), np.uint8)
    values[SIDE.slices()] = 255
    frames = Frames()
    frames.count, frames._values = 1, values
    reading = read_and_clean(frames, "MONOCHROME2", Seeds(), ReadingPlan((0,)), Both())
    assert reading.boxes == 1
    assert reading.markers == in_frame(reading, 0).kept == 0
