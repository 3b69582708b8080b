"""Coloured text that is as bright as its ground: read, blacked out, read again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from pleura.anonymizer.burnedin.boxes import Box
from pleura.anonymizer.burnedin.clean import Reading, read_and_clean
from pleura.anonymizer.burnedin.finder import Found, TextFinder, has_finder, load_finder
from pleura.anonymizer.burnedin.palette import Palette
from pleura.anonymizer.burnedin.policy import ReadingPlan
from pleura.anonymizer.burnedin.redact import redacted
from pleura.anonymizer.burnedin.tints import views_of
from pleura.anonymizer.burnedin.view import Grey, grey_view
from pleura.anonymizer.text import Seeds

SHAPE = (300, 480)
NAME = "QUILLON ADA 1962"
AT = (90, 120)
LETTERS = Box(92, 124, 330, 142)  # the inside of the name, drawn 26 pixels high

Colour = tuple[int, int, int]

# The letters' hue is made as bright as the ground, so these are grounds and hues.
PAIRS: tuple[tuple[Colour, Colour], ...] = (
    ((20, 90, 20), (255, 30, 30)),  # red on green
    ((110, 10, 10), (60, 60, 255)),  # blue on dark red
    ((80, 80, 80), (255, 0, 0)),  # red on grey
    ((80, 80, 80), (40, 60, 255)),  # blue on grey
    ((20, 30, 125), (0, 255, 60)),  # green on blue
    ((90, 20, 100), (0, 255, 255)),  # cyan on purple
    ((10, 80, 80), (255, 90, 0)),  # orange on teal
    ((110, 110, 120), (150, 255, 90)),  # pale green on grey
    ((180, 210, 170), (255, 120, 190)),  # pink on pale green
    ((220, 200, 120), (120, 200, 255)),  # pale blue on sand
)
needs_reader = pytest.mark.skipif(not has_finder(), reason="the extra ocr is not installed")


class Frames:
    """Frames in memory."""

    def __init__(self, *frames: np.ndarray) -> None:
        self._frames = frames
        self.count = len(frames)

    def frame(self, index: int) -> np.ndarray:
        return self._frames[index]


class Places:
    """Finds nothing; remembers where it looked."""

    def __init__(self) -> None:
        self.seen: list[Box] = []

    def find(self, grey: Grey, place: Box) -> list[Found]:
        self.seen.append(place)
        return []


def shown(colour: np.ndarray, *, is_bright: bool) -> float:
    """Return the grey that the grey view makes of a colour."""
    luma = colour @ np.array([0.299, 0.587, 0.114])
    return float(luma + (colour.min() if is_bright else colour.max())) / 2


def as_bright(hue: Colour, ground: Colour) -> Colour:
    """Return a colour of the hue, darker or paler, that has the ground's grey."""
    is_bright = max(ground) > 127
    wanted = shown(np.array(ground), is_bright=is_bright)
    pure = np.array(hue, float)
    steps = np.linspace(0, 1, 2001)
    ways = [pure * s for s in steps] + [pure + (255 - pure) * s for s in steps]
    best = min(ways, key=lambda c: abs(shown(c, is_bright=is_bright) - wanted))
    red, green, blue = (int(v) for v in best.round())
    return red, green, blue


def picture(
    ground: Colour, letters: Colour | None, text: str = NAME, *, has_wedge: bool = True
) -> np.ndarray:
    """Return a ground with every grey below and perhaps text in the middle."""
    image = Image.new("RGB", (SHAPE[1], SHAPE[0]), ground)
    if letters is not None:
        font = ImageFont.load_default(26)
        pen = ImageDraw.Draw(image)
        pen.fontmode = "1"  # a soft edge mixes both colours, and the mixture has another grey
        pen.text(AT, text, fill=letters, font=font)
    values = np.asarray(image).copy()
    if has_wedge:
        values[240:] = np.linspace(0, 255, SHAPE[1]).astype(np.uint8)[None, :, None]
    return values


def as_ybr(rgb: np.ndarray) -> np.ndarray:
    """Return full-range YBR (PS3.3 C.7.6.3.1.2)."""
    red, green, blue = (rgb[..., i].astype(float) for i in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    both = [luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402]
    return np.stack(both, axis=2).round().clip(0, 255).astype(np.uint8)


def read(
    *frames: np.ndarray, photometric: str = "RGB", finder: TextFinder | None = None,
    area: Sequence[Box] = (),
) -> Reading:  # fmt: skip
    plan, finder = ReadingPlan(tuple(range(len(frames)))), finder or load_finder()
    return read_and_clean(Frames(*frames), photometric, Seeds(), plan, finder, area)


def doppler() -> np.ndarray:
    """Return grey tissue with a box of flow in red and blue, and the bar of its colours."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    noise = np.random.default_rng(3).normal(0, 14, SHAPE)
    tissue = 60 + 30 * np.sin(columns / 31) * np.cos(rows / 23) + noise
    values = np.repeat(tissue[..., None], 3, axis=2)
    flow = np.sin(columns / 17 + rows / 29) * np.cos(rows / 19)
    flow[:70] = flow[220:] = flow[:, :90] = flow[:, 390:] = 0
    for way, weights in ((flow > 0.35, (220, 60, 20)), (flow < -0.35, (20, 70, 230))):
        values[way] = np.abs(flow[way])[:, None] * np.array(weights)
    height = np.linspace(-1, 1, 120)[:, None, None]
    values[90:210, 440:456] = np.where(
        height < 0, -height * np.array([250, 80, 0]), height * np.array([0, 90, 250])
    )
    return values.clip(0, 255).astype(np.uint8)


def hidden(reading: Reading, place: Box, index: int = 0) -> float:
    """Return the share of a place that is blacked out."""
    mask = np.zeros(SHAPE, bool)
    for box in reading.redact.get(index, ()):
        mask[box.slices()] = True
    return float(mask[place.slices()].mean())


@pytest.mark.parametrize(("ground", "hue"), PAIRS)
def test_the_pairs_here_are_of_one_grey(ground: Colour, hue: Colour) -> None:
    view = grey_view(picture(ground, as_bright(hue, ground)), "RGB").astype(int)
    part = view[LETTERS.slices()]
    assert part.max() - part.min() < 12


@needs_reader
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize(("ground", "hue"), PAIRS)
def test_text_as_bright_as_its_ground_goes(ground: Colour, hue: Colour, photometric: str) -> None:
    frame = picture(ground, as_bright(hue, ground))
    reading = read(as_ybr(frame) if photometric != "RGB" else frame, photometric=photometric)
    assert hidden(reading, LETTERS) > 0.95
    assert hidden(reading, Box(0, 180, SHAPE[1], SHAPE[0])) == 0


@needs_reader
def test_such_text_in_a_later_frame_only_goes_from_that_frame() -> None:
    ground, hue = PAIRS[0]
    plain, lettered = picture(ground, None), picture(ground, as_bright(hue, ground))
    reading = read(plain, lettered, plain)
    assert hidden(reading, LETTERS, 1) > 0.95
    assert not reading.redact.get(0) and not reading.redact.get(2)


def test_a_later_frame_that_differs_in_colour_only_is_read_where_it_differs() -> None:
    ground, hue = PAIRS[0]
    plain, lettered = picture(ground, None), picture(ground, as_bright(hue, ground))
    first, both = Places(), Places()
    read(plain, finder=first)
    read(plain, lettered, finder=both)
    later = both.seen[len(first.seen) :]
    assert later and all(place.shared(LETTERS) and place.y1 < 240 for place in later)


@needs_reader
def test_text_in_a_palette_of_one_grey_goes() -> None:
    ground, hue = PAIRS[2]
    rgb = picture(ground, as_bright(hue, ground))
    colours, places = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    palette = Palette(0, colours)
    assert (palette.of(places.reshape(SHAPE)) == rgb).all()
    assert hidden(read(palette.of(places.reshape(SHAPE))), LETTERS) > 0.95


@needs_reader
def test_text_across_the_edge_of_a_blank_area_goes_as_a_whole() -> None:
    ground, hue = PAIRS[0]
    frame = picture(ground, as_bright(hue, ground))
    reading = read(frame, area=[Box(0, 0, 200, SHAPE[0])])
    assert hidden(reading, LETTERS) > 0.95


@needs_reader
def test_text_on_grey_speckle_goes() -> None:
    ground, hue = PAIRS[2]
    noise = np.random.default_rng(5).normal(0, 12, SHAPE)[..., None]
    frame = (picture(ground, as_bright(hue, ground)) + noise).clip(0, 255).astype(np.uint8)
    assert hidden(read(frame), LETTERS) > 0.95


@needs_reader
def test_text_of_16_bits_goes() -> None:
    ground, hue = PAIRS[4]
    assert (
        hidden(read(picture(ground, as_bright(hue, ground)).astype(np.uint16) * 257), LETTERS)
        > 0.95
    )


@needs_reader
def test_text_in_grey_and_in_colour_goes_and_nothing_is_legible_after_it() -> None:
    ground, hue = PAIRS[0]
    image = Image.fromarray(picture(ground, as_bright(hue, ground)))
    font = ImageFont.load_default(26)
    ImageDraw.Draw(image).text((90, 160), "MARWICK TOBIAS", fill=(255, 255, 255), font=font)
    frames = Frames(np.asarray(image))
    reading = read(frames.frame(0))
    assert hidden(reading, LETTERS) > 0.95
    assert hidden(reading, Box(92, 164, 310, 182)) > 0.95
    (clean,) = redacted(frames, "RGB", reading)
    assert not read(clean).redact


@needs_reader
def test_a_side_marker_of_one_grey_stays() -> None:
    ground, hue = PAIRS[2]
    reading = read(picture(ground, as_bright(hue, ground), "PORTABLE"))
    assert reading.markers == 1
    assert not reading.redact


@needs_reader
def test_a_side_marker_in_grey_stays_beside_coloured_flow() -> None:
    image = Image.fromarray(doppler())
    font = ImageFont.load_default(26)
    ImageDraw.Draw(image).text((30, 120), "LT", fill=(255, 230, 60), font=font)
    reading = read(np.asarray(image))
    assert reading.markers == 1
    assert not reading.redact


@needs_reader
def test_flow_and_the_bar_of_its_colours_stay() -> None:
    frame = doppler()
    assert any(tint.edges.any() for tint in views_of(frame, "RGB").tints)
    assert not read(frame).redact


# --- what is not read twice ------------------------------------------------------------


def test_a_colour_picture_without_colours_has_one_view() -> None:
    grey = picture((40, 40, 40), (200, 200, 200))
    assert views_of(grey, "RGB").tints == ()
    assert views_of(as_ybr(grey), "YBR_FULL").tints == ()
    assert views_of(grey[..., 0], "MONOCHROME2").tints == ()


@pytest.mark.parametrize(
    "frame",
    [
        picture((40, 40, 40), (200, 200, 200)),
        picture((0, 0, 0), (255, 230, 60)),
        picture((30, 60, 110), (255, 255, 255), has_wedge=False),
        (picture((40, 40, 40), (200, 200, 200)) * np.array([1.0, 0.85, 0.6])).astype(np.uint8),
    ],
    ids=["grey", "yellow on black", "white on blue", "sepia"],
)
def test_what_is_legible_in_grey_is_read_in_grey_only(frame: np.ndarray) -> None:
    finder = Places()
    read(frame, finder=finder)
    assert finder.seen == [Box(0, 0, SHAPE[1], SHAPE[0])]
