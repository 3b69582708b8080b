"""Burned-in text: what is judged, planned, blacked out and refused, with a finder of our own."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest

from pleura.anonymizer.burnedin.boxes import Box, around
from pleura.anonymizer.burnedin.clean import Reading, read_and_clean
from pleura.anonymizer.burnedin.decide import is_marker, judge, near_seed
from pleura.anonymizer.burnedin.finder import Found, RapidFinder, tiles
from pleura.anonymizer.burnedin.policy import Mode, ReadingPlan, check_face, may_face, plan_reading
from pleura.anonymizer.burnedin.redact import redacted
from pleura.anonymizer.burnedin.regions import MakerRegion, maker_boxes, outside, ultrasound_boxes
from pleura.anonymizer.burnedin.strokes import along_ink, is_drawn
from pleura.anonymizer.burnedin.view import Grey, grey_view
from pleura.anonymizer.encoding import Element
from pleura.anonymizer.errors import (
    FaceInField,
    OcrUnavailable,
    TextBoxTooLarge,
    TextResidual,
)
from pleura.anonymizer.header import Header
from pleura.anonymizer.text import Seeds

SHAPE = (400, 400)
AT = Box(100, 100, 180, 116)
RADIOGRAPH, COUNTS, SEGMENTATION, DOSE = (
    f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("1", "20", "66.4", "481.2")
)


def header(**changes: object) -> Header:
    facts: dict[str, object] = {
        "sop_class": "1.2.840.10008.5.1.4.1.1.2", "sop_uid": "1.2.1", "study_uid": "1.2.2",
        "series_uid": "1.2.3", "patient_id": "A", "accession": "", "modality": "CT",
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"), "photometric": "MONOCHROME2",
        "samples": 1, "allocated": 16, "has_pixels": True, "says_burned_in": False,
        "has_embedded_overlay": False,
        "character_sets": (),
    }  # fmt: skip
    return Header(**{**facts, **changes})  # type: ignore[arg-type]


class Frames:
    """Frames in memory."""

    def __init__(self, *frames: np.ndarray) -> None:
        self._frames = frames
        self.count = len(frames)

    def frame(self, index: int) -> np.ndarray:
        return self._frames[index]


class BrightFinder:
    """Finds one line where a picture is brightest (over 250); says the text it was given."""

    def __init__(self, text: str = "QUILL", *, is_blind: bool = False) -> None:
        self.text, self.calls, self.is_blind = text, 0, is_blind

    def find(self, grey: Grey, place: Box) -> list[Found]:
        self.calls += 1
        rows, columns = np.nonzero(grey[place.slices()] > 250)
        if rows.size == 0 and not self.is_blind:
            return []
        box = AT if rows.size == 0 else Box(
            int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
        ).moved(place.x0, place.y0)  # fmt: skip
        is_edge = box.height == grey.shape[0]  # the bright end of `blank`, no line
        return [] if is_edge else [Found(box, self.text, 0.99)]


def blank() -> np.ndarray:
    frame = np.tile(np.linspace(0, 900, SHAPE[1]), (SHAPE[0], 1)).astype(np.uint16)
    frame[0, 0] = 1000  # the last grey is not text
    return frame


def lettered(box: Box = AT, value: int = 4000) -> np.ndarray:
    frame = blank()
    frame[box.slices()] = value
    return frame


def read(
    *frames: np.ndarray, finder: BrightFinder, plan: ReadingPlan | None = None,
    area: Sequence[Box] = (),
) -> Reading:  # fmt: skip
    every = ReadingPlan(tuple(range(len(frames))))
    return read_and_clean(Frames(*frames), "MONOCHROME2", Seeds(), plan or every, finder, area)


# --- decisions --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("L", True), ("AP PORTABLE", True), ("(R)", True), ("PA-ERECT", True), ("APSUPINE", True),
        ("LAT.", True), ("", False), ("-", False), ("LEE", False), ("L 1234", False),
        ("AP @ HOME", False), ("QUILL", False), ("RL", False),
    ],
)  # fmt: skip
def test_markers_are_listed_words_and_their_joins(text: str, is_one: bool) -> None:
    assert is_marker(text) is is_one


def test_near_a_seed_is_a_quarter_of_a_word_or_four_digits() -> None:
    seeds = Seeds()
    seeds.add_name("QUIBBLEWORTH^ADA")
    seeds.add_identifier("77331245")
    assert near_seed("QU1BBLEW0RTH", seeds)
    assert near_seed("x 3312 y", seeds)
    assert not near_seed("OSTRAVIK", seeds)
    assert not near_seed("331 99", seeds)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Found(AT, "QUILL", 0.9), "redact"),
        (Found(AT, "PORTABLE", 0.9), "marker"),
        (Found(AT, "PORTABLE", 0.4), "noise"),
        (Found(AT, "QUILL", 0.4), "noise"),
        (Found(AT, "x", 0.7), "noise"),
        (Found(AT, "--", 0.99), "noise"),
        (Found(Box(10, 10, 60, 16), "QUILL", 0.99), "noise"),
        (Found(AT, "", 0.0, is_drawn=True), "redact"),
        (Found(AT, "l", 0.6, is_drawn=True), "redact"),
        (Found(AT, "l", 0.6), "marker"),
        (Found(Box(10, 10, 300, 90), "QUILL", 0.99), "redact"),
        (Found(Box(10, 10, 300, 90), "QUILL", 0.49), "noise"),
        (Found(Box(10, 10, 110, 62), "PORTABLE", 0.99), "marker"),
        (Found(Box(10, 10, 300, 50), "PORTABLE", 0.99), "redact"),
    ],
)
def test_every_line_gets_one_verdict(found: Found, verdict: str) -> None:
    assert judge(found, SHAPE, Seeds()) == verdict


def test_a_line_near_a_seed_goes_whatever_its_size_and_score() -> None:
    seeds = Seeds()
    seeds.add_name("PORTABLE")
    assert judge(Found(Box(0, 0, 30, 5), "PORTABLE", 0.1), SHAPE, seeds) == "redact"


# --- policy -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "frames", "mode", "expected"),
    [
        ({}, 1, "policy", ()),
        ({}, 9, "policy", (0, 4, 8)),
        ({}, 2, "policy", (0, 1)),
        ({}, 1, "all", (0,)),
        ({"modality": "US"}, 3, "policy", (0, 1, 2)),
        ({"modality": "US"}, 3, "off", ()),
        ({"modality": "SEG", "sop_class": SEGMENTATION}, 9, "policy", ()),
        ({"modality": "SEG", "sop_class": RADIOGRAPH}, 2, "policy", (0, 1)),
        ({"modality": "SEG", "sop_class": COUNTS}, 2, "policy", (0, 1)),
        ({"modality": "RTDOSE", "sop_class": RADIOGRAPH}, 1, "policy", (0,)),
        ({"modality": "RTDOSE", "sop_class": DOSE}, 1, "policy", ()),
        ({"modality": "NM", "sop_class": COUNTS}, 2, "policy", ()),
        ({"modality": "NM"}, 2, "policy", (0, 1)),
        ({"image_type": ("DERIVED", "PRIMARY")}, 3, "policy", (0, 1, 2)),
        ({"has_pixels": False, "modality": "SR"}, 1, "all", ()),
    ],
)
def test_the_plan_names_the_frames(
    changes: dict[str, object], frames: int, mode: Mode, expected: tuple[int, ...]
) -> None:
    plan = plan_reading(header(**changes), frames, mode)
    assert plan.frames == expected
    assert plan.is_none is (not expected)


@pytest.mark.parametrize(
    ("image_type", "allocated", "expected"),
    [
        (("ORIGINAL", "PRIMARY", "WHOLE BODY", "EMISSION"), 16, ()),
        (("ORIGINAL", "PRIMARY", "WHOLE BODY", "EMISSION"), 8, (0,)),
        (("DERIVED", "PRIMARY"), 16, (0,)),
        (("ORIGINAL", "SECONDARY"), 16, (0,)),
    ],
)
def test_counts_drawn_as_a_picture_are_read(
    image_type: tuple[str, ...], allocated: int, expected: tuple[int, ...]
) -> None:
    counts = header(modality="NM", sop_class=COUNTS, image_type=image_type, allocated=allocated)
    assert plan_reading(counts, 1, "policy").frames == expected


@pytest.mark.parametrize(
    ("changes", "part", "is_refused"),
    [
        ({}, "CHEST", False),
        ({}, "", False),
        ({}, "Head ", True),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "CHEST", True),
        ({"modality": "DX"}, "SKULL", False),
    ],
)
def test_a_field_that_may_show_a_face_is_refused(
    changes: dict[str, object], part: str, is_refused: bool
) -> None:
    if is_refused:
        with pytest.raises(FaceInField):
            check_face(header(**changes), part)
    else:
        check_face(header(**changes), part)


@pytest.mark.parametrize(
    ("modality", "study", "is_refused"),
    [("CT", "CT PT", True), ("PT", "CT PT SR", True), ("SR", "CT PT", False), ("CT", "CT", False)],
)
def test_ct_beside_pet_may_show_a_face(modality: str, study: str, is_refused: bool) -> None:
    assert may_face(modality, study.split()) is is_refused


# --- reading and redaction ---------------------------------------------------------


def test_a_line_is_blacked_out_with_a_margin_and_read_again() -> None:
    finder = BrightFinder()
    frame = lettered()
    reading = read(frame, finder=finder)
    assert (reading.frames_read, reading.boxes, reading.is_complete) == (1, 1, True)
    assert finder.calls == 2
    (after,) = redacted(Frames(frame), "MONOCHROME2", reading)
    gone = after != frame
    assert gone[AT.slices()].all()
    assert (after[gone] == frame.min()).all()
    assert around(reading.redact[0]).area < 3 * AT.area
    assert frame[AT.y0, AT.x0] == 4000  # the source stays


class CutFinder(BrightFinder):
    """Reads a name at AT, and a marker beside it whose half reads as something else."""

    MARKER = Box(AT.x1 + 40, AT.y0, AT.x1 + 100, AT.y1)

    def find(self, grey: Grey, place: Box) -> list[Found]:
        seen = self.MARKER.shared(place)
        text = "ERECT" if seen == self.MARKER.area else "ERE"
        return super().find(grey, place) + ([Found(self.MARKER, text, 0.99)] if seen else [])


def test_a_marker_beside_a_name_is_not_read_in_half() -> None:
    reading = read(lettered(), finder=CutFinder())
    assert (reading.boxes, reading.markers) == (1, 1)
    assert all(CutFinder.MARKER.shared(box) == 0 for box in reading.redact[0])


def test_a_sample_with_text_makes_every_frame_be_read() -> None:
    frames = [blank() + i for i in range(7)]
    plan = ReadingPlan((0, 3, 6), is_sample=True)
    clean = read(*frames, finder=BrightFinder(), plan=plan)
    assert (clean.frames_read, clean.is_complete) == (3, False)
    frames[3] = lettered()
    found = read(*frames, finder=BrightFinder(), plan=plan)
    assert (found.frames_read, found.is_complete) == (7, True)
    assert set(found.redact) == {3}


def test_equal_frames_are_read_once_and_all_cleaned() -> None:
    finder = BrightFinder()
    reading = read(*[lettered()] * 5, finder=finder)
    assert finder.calls == 2
    assert set(reading.redact) == set(range(5))


def test_only_what_changed_is_read_and_earlier_boxes_hold() -> None:
    first, second = lettered(), lettered()
    second[300:312, 300:340] = 4000
    reading = read(first, second, finder=BrightFinder())
    gone = np.zeros(SHAPE, bool)
    for box in reading.redact[1]:
        gone[box.slices()] = True
    assert gone[AT.slices()].all()
    assert gone[300:312, 300:340].all()


def test_text_that_stays_legible_is_refused() -> None:
    with pytest.raises(TextResidual):
        read(lettered(), finder=BrightFinder(is_blind=True))


def test_a_long_line_goes_in_two_and_a_larger_one_is_refused() -> None:
    long = Box(20, 100, 380, 130)  # 6.75 % of the image
    frame = lettered(long)
    reading = read(frame, finder=BrightFinder())
    (after,) = redacted(Frames(frame), "MONOCHROME2", reading)
    assert (after != frame)[long.slices()].all()
    with pytest.raises(TextBoxTooLarge):
        read(lettered(Box(10, 100, 390, 145)), finder=BrightFinder())


def test_a_blank_area_goes_from_every_frame_and_text_across_its_edge_as_a_whole() -> None:
    frames = [lettered(), blank()]
    top = Box(0, 0, SHAPE[1], 108)
    reading = read(*frames, finder=BrightFinder(), area=(top,))
    for before, after in zip(
        frames, redacted(Frames(*frames), "MONOCHROME2", reading), strict=True
    ):
        assert (after[top.slices()] == before.min()).all()
    (first, _) = redacted(Frames(*frames), "MONOCHROME2", reading)
    assert (first[AT.slices()] == frames[0].min()).all()


@pytest.mark.parametrize(
    ("photometric", "shape", "black"),
    [("MONOCHROME1", (), 4000), ("RGB", (3,), (0, 0, 0)), ("YBR_FULL", (3,), (0, 128, 128))],
)
def test_black_depends_on_the_colour_space(
    photometric: str, shape: tuple[int, ...], black: object
) -> None:
    frame = np.full((*SHAPE, *shape), 90, np.uint16 if not shape else np.uint8)
    if not shape:
        frame[0, 0] = 4000
    (after,) = redacted(Frames(frame), photometric, Reading(1, 1, 0, True, {0: (AT,)}))
    assert (after[AT.slices()] == black).all()


# --- views ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ground", "letters"),
    [
        ((0, 0, 0), (0, 0, 255)), ((255, 255, 255), (0, 0, 255)), ((255, 255, 255), (255, 255, 0)),
        ((0, 0, 255), (255, 0, 0)), ((30, 60, 110), (255, 255, 255)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_letters_of_any_hue_differ_from_their_ground(
    ground: tuple[int, ...], letters: tuple[int, ...], photometric: str
) -> None:
    frame = np.empty((*SHAPE, 3), np.float64)
    frame[:] = ground
    frame[AT.slices()] = letters
    if photometric == "YBR_FULL":
        red, green, blue = (frame[..., i].copy() for i in range(3))
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        frame = np.stack([luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402], axis=2)
    view = grey_view(frame.clip(0, 255).round().astype(np.uint8), photometric).astype(int)
    assert abs(view[AT.y0 + 8, AT.x0 + 40] - view[AT.y0 - 40, AT.x0 + 40]) > 25


def test_a_flat_frame_is_all_zero() -> None:
    assert not grey_view(np.full(SHAPE, 7, np.uint16), "MONOCHROME2").any()


# --- known regions --------------------------------------------------------------------


def test_outside_covers_exactly_the_rest() -> None:
    inside = [Box(10, 10, 50, 60), Box(40, 40, 90, 80)]
    covered = np.zeros((100, 100), int)
    for box in outside(inside, 100, 100):
        covered[box.slices()] += 1
    expected = np.ones((100, 100), int)
    for box in inside:
        expected[box.slices()] = 0
    assert np.array_equal(covered, expected)


@pytest.mark.parametrize("big_endian", [False, True])
def test_ultrasound_is_blank_outside_its_regions(big_endian: bool) -> None:
    order = "big" if big_endian else "little"
    edges = zip((0x00186018, 0x0018601A, 0x0018601C, 0x0018601E), (0, 20, 99, 79), strict=True)
    item = [Element(tag, "UL", value.to_bytes(4, order)) for tag, value in edges]  # type: ignore[arg-type]
    regions = Element(0x00186011, "SQ", items=[item, [Element(0x00186018, "UL", b"")]])
    boxes = ultrasound_boxes([regions], 100, 100, big_endian=big_endian)
    assert sorted(boxes) == [Box(0, 0, 100, 20), Box(0, 80, 100, 100)]
    assert ultrasound_boxes([], 100, 100) == ()


def test_a_makers_boxes_need_its_name_model_and_size() -> None:
    table = [MakerRegion(maker="ACME", model="Ray", rows=9, columns=8, boxes=((0, 0, 8, 2),))]
    assert maker_boxes("acme ", "RAY", 9, 8, table) == (Box(0, 0, 8, 2),)
    assert maker_boxes("acme", "RAY", 8, 9, table) == ()
    assert maker_boxes("acme", "RAY", 9, 8) == ()


# --- lines, tiles, the extra -------------------------------------------------------------


@pytest.mark.parametrize("is_upright", [False, True])
def test_a_line_is_lengthened_over_its_own_grey_and_no_further(is_upright: bool) -> None:
    grey = np.random.default_rng(1).integers(60, 120, SHAPE).astype(np.uint8)
    for x in range(60, 300, 8):
        grey[102:114, x : x + 4] = 200
    box = Box(140, 100, 220, 116)
    if is_upright:
        grey = np.ascontiguousarray(grey.T)
        longer = along_ink(grey, Box(100, 140, 116, 220))
        ends = longer.y0, longer.y1
    else:
        longer = along_ink(grey, box)
        ends = longer.x0, longer.x1
    assert ends[0] <= 60
    assert ends[1] >= 296
    assert ends[0] > 30
    assert ends[1] < 330


def drawn(value: int = 255, *, is_upright: bool = False) -> Grey:
    """Return soft anatomy with strokes of one grey at AT."""
    grey = np.random.default_rng(1).integers(60, 120, SHAPE).astype(np.uint8)
    for x in range(AT.x0, AT.x1, 8):
        grey[AT.y0 : AT.y1, x : x + 3] = value
    return np.ascontiguousarray(grey.T) if is_upright else grey


@pytest.mark.parametrize("value", [255, 0])
def test_letters_of_any_script_look_drawn(value: int) -> None:
    assert is_drawn(drawn(value), AT)
    assert is_drawn(drawn(value, is_upright=True), Box(AT.y0, AT.x0, AT.y1, AT.x1))


def test_anatomy_short_things_and_edges_do_not_look_drawn() -> None:
    assert not is_drawn(drawn(90), AT)  # no grey of their own
    assert not is_drawn(drawn(), Box(AT.x0, AT.y0, AT.x0 + 40, AT.y1))  # no line
    brighter = drawn(200)
    brighter[300:] = 250
    assert not is_drawn(brighter, AT)  # no extreme
    barred = drawn()
    barred[AT.y0 - 20 : AT.y1 + 20, ::8] = 255
    assert not is_drawn(barred, AT)  # goes on above and below
    edge = drawn(90)
    edge[AT.y0 : AT.y0 + 6, AT.x0 : AT.x1] = 255
    assert not is_drawn(edge, AT)  # one bar, no letters
    soft = drawn(90)
    rise = np.linspace(90, 255, 16).astype(np.uint8)
    for x in range(AT.x0, AT.x1, 16):
        soft[AT.y0 : AT.y1, x : x + 16] = rise
    assert not is_drawn(soft, AT)  # no sharp edges
    assert not is_drawn(drawn(), Box(0, 0, 12, 4))


def test_a_line_without_a_grey_of_its_own_stays() -> None:
    grey = np.random.default_rng(1).integers(0, 255, SHAPE).astype(np.uint8)
    assert along_ink(grey, AT) == AT


@pytest.mark.parametrize("shape", [(100, 200), (1056, 1057), (3000, 2500)])
def test_tiles_cover_a_picture(shape: tuple[int, int]) -> None:
    seen = np.zeros(shape, bool)
    for tile in tiles(*shape):
        seen[tile.slices()] = True
    assert seen.all()


def test_without_the_extra_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)
    with pytest.raises(OcrUnavailable):
        RapidFinder()
