"""The text finder: RapidOCR (PP-OCRv4) offline, on one thread, loaded once a process.

Text is looked for in the plain view and in one whose local contrast was evened out, tile by
tile, because the network costs far more per pixel beyond about 1,200 pixels a side. Every
find is grown along its line over strokes as strong as its own and read, along its slant if it
has one; a line that is not read surely is read again upside down and mirrored.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.util import find_spec
from typing import Any, Final, Literal, Protocol

import numpy as np

from pleura.anonymizer.burnedin.boxes import Box, around
from pleura.anonymizer.burnedin.slants import Slant, distinct, slant_of
from pleura.anonymizer.burnedin.strokes import along_ink, is_drawn
from pleura.anonymizer.burnedin.view import Grey
from pleura.anonymizer.errors import OcrUnavailable

_TILE: Final = 1056
_OVERLAP: Final = 96
_EVEN_RADIUS: Final = 12
_EVEN_FLOOR: Final = 5.0
_BORDER_SHARE: Final = 0.03
_THIN: Final = 3
SURE: Final = 0.5
SURE_SHORT: Final = 0.8
MIN_TEXT_PX: Final = 8
_WIDE_LETTER: Final = 2.5  # heights; a line of fewer letters was read in part
_SHORTEST: Final = 2.0  # heights; what is shorter is no word to read again
_AS_SEEN: Final = ((1, 1),)
_TURNED: Final = ((-1, -1), (1, -1), (-1, 1))  # rows and columns: upside down, mirrored, both
_SHORT_SIDE: Final = 736  # pixels; the detector enlarges a picture until its short side has them


@dataclass(frozen=True, slots=True)
class Found:
    """One line of text: where it is, what it reads, and how sure (0..1) the reader is.

    `chain` has small boxes that cover a slanted line, whose `box` covers far more. `is_drawn`
    says that a line looks like text although nobody could read it.
    """

    box: Box
    text: str
    score: float
    chain: tuple[Box, ...] = ()
    is_drawn: bool = False

    @property
    def letters(self) -> int:
        """Letters and digits read."""
        return sum(c.isalnum() for c in self.text)

    @property
    def is_sure(self) -> bool:
        """Whether it is text, as the reader sees it."""
        return self.letters > 0 and self.score >= (SURE_SHORT if self.letters <= 2 else SURE)

    def moved(self, x: int, y: int) -> Found:
        """Return the line shifted by x columns and y rows."""
        chain = tuple(box.moved(x, y) for box in self.chain)
        return replace(self, box=self.box.moved(x, y), chain=chain)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line to be read: where it is and how it looks in the plain and the evened view.

    `ground` is the picture in which it is level, and its place there.
    """

    box: Box
    chain: tuple[Box, ...]
    crops: tuple[Grey, ...]
    ground: tuple[Grey, Box]

    @property
    def clearest(self) -> Grey:
        """The evened view, but for letters so large that it leaves their edges only."""
        return self.crops[-1 if self.crops[0].shape[0] <= 2 * _EVEN_RADIUS + 4 else 0]

    @property
    def is_word(self) -> bool:
        """Whether it is long enough for a word."""
        rows, columns = (int(side) for side in self.crops[0].shape)
        return rows >= MIN_TEXT_PX and columns >= _SHORTEST * rows


class TextFinder(Protocol):
    """Finds the lines of text of a grey picture."""

    def find(self, grey: Grey, place: Box) -> list[Found]:
        """Return the lines found in some place of the picture, in the picture's coordinates."""
        ...


def has_finder() -> bool:
    """Return whether the extra `ocr` is installed."""
    return all(find_spec(name) is not None for name in ("cv2", "rapidocr_onnxruntime"))


@lru_cache(maxsize=1)
def load_finder() -> RapidFinder:
    """Return the finder of this process.

    Raises:
        OcrUnavailable: the extra `ocr` is not installed.
    """
    return RapidFinder()


class RapidFinder:
    """The finder over rapidocr-onnxruntime; deterministic, no network, no log."""

    def __init__(self) -> None:
        """Load the models.

        Raises:
            OcrUnavailable: the extra `ocr` is not installed.
        """
        try:
            import cv2
        except ImportError as exc:
            raise OcrUnavailable from exc
        cv2.setNumThreads(1)
        self._cv2: Any = cv2
        self._detect = _network("Det")
        for name in ("mean", "std"):  # lists there: every picture would be made twice as large
            setattr(self._detect, name, np.array(getattr(self._detect, name), np.float32))
        # The detector enlarges until the short side has 736 pixels: a band would grow 12 times.
        self._detect_as_is = copy.copy(self._detect)
        self._detect_as_is.limit_type = "max"

    @cached_property
    def _read(self) -> Any:
        return _network("Rec")  # most pictures have no text to read

    def find(self, grey: Grey, place: Box) -> list[Found]:
        """Return the lines found, plain and evened view and enlarged border bands together.

        A part is looked at as large as it is seen in the whole: what the network costs goes
        with the pixels it is given.
        """
        part = grey[place.slices()]
        even = self._evened(part)
        scale = max(1.0, _SHORT_SIDE / min(grey.shape)) if part.shape != grey.shape else None
        lines = [*self._lines(part, scale), *self._lines(even, scale), *self._border(part)]
        level = self._merged([line for line in lines if isinstance(line, Box)])
        slanted = distinct([line for line in lines if isinstance(line, Slant)])
        seen = [self._level(part, even, box) for box in level]
        seen += [self._slanted(part, even, slant) for slant in slanted]
        return [one.moved(place.x0, place.y0) for one in self._readings(seen)]

    def _evened(self, grey: Grey) -> Grey:
        values = grey.astype(np.float32)
        side = (2 * _EVEN_RADIUS + 1, 2 * _EVEN_RADIUS + 1)
        mean = self._cv2.blur(values, side)
        spread = self._cv2.blur(values * values, side) - mean * mean
        scale = 50.0 / (np.sqrt(np.maximum(spread, 0)) + _EVEN_FLOOR)
        even: Grey = np.clip((values - mean) * scale + 128, 0, 255).astype(np.uint8)
        return even

    def _lines(self, grey: Grey, scale: float | None) -> Iterator[Box | Slant]:
        """Yield lines of text looked for at `scale`, or at what the detector finds best."""
        factor = scale or 1.0
        if factor > 1:
            grey = self._cv2.resize(grey, None, fx=factor, fy=factor, interpolation=2)
        for tile in tiles(grey.shape[0], grey.shape[1]):
            part = np.ascontiguousarray(grey[tile.slices()])
            if part.min() == part.max():
                continue
            is_thin = max(part.shape) > _THIN * min(part.shape)
            detect = self._detect_as_is if scale or is_thin else self._detect
            quads, _ = detect(np.repeat(part[..., None], 3, axis=2))
            for quad in quads if quads is not None else ():
                corners = quad / factor
                x, y = round(tile.x0 / factor), round(tile.y0 / factor)
                slant = slant_of(self._cv2, corners)
                if slant is not None:
                    yield slant.moved(x, y)
                    continue
                low, high = corners.min(axis=0), corners.max(axis=0)
                box = Box(int(low[0]), int(low[1]), int(high[0]) + 1, int(high[1]) + 1)
                yield box.moved(x, y)

    def _border(self, grey: Grey) -> Iterator[Box | Slant]:
        rows, columns = grey.shape
        deep = max(32, int(rows * _BORDER_SHARE))
        if rows < 3 * deep or columns > _TILE:
            return  # on large pictures the letters of a band are large enough as they are
        for top in (0, rows - deep):
            for line in self._lines(grey[top : top + deep], 2.0):
                yield line.moved(0, top)

    @staticmethod
    def _merged(boxes: list[Box]) -> list[Box]:
        """Return boxes where of two that share most of a line only their union stays."""
        merged: list[Box] = []
        for box in sorted(boxes, key=lambda b: -b.area):
            twin = next((m for m in merged if m.shared(box) > 0.6 * min(m.area, box.area)), None)
            if twin is None:
                merged.append(box)
                continue
            if box.height <= 1.3 * twin.height:
                merged[merged.index(twin)] = Box(
                    min(twin.x0, box.x0), min(twin.y0, box.y0),
                    max(twin.x1, box.x1), max(twin.y1, box.y1),
                )  # fmt: skip
        return merged

    def _grown(self, even: Grey, box: Box) -> Box:
        """Return the box lengthened over neighbouring strokes as strong as its own."""
        box = box.grown(0, 0, even.shape)
        high = min(box.height, box.width)
        if high < 6 or box.height > box.width:
            return box
        strength = np.abs(even[box.y0 : box.y1].astype(np.int16) - 128)
        inside = strength[:, box.x0 : box.x1]
        level = 0.75 * float(np.percentile(inside, 92))
        share = (strength >= level).mean(axis=0)
        usual = float(share[box.x0 : box.x1].mean())
        step, ends = max(3, high), [box.x0, box.x1]
        for _ in range(12):
            window = share[max(0, ends[0] - step) : ends[0]]
            if window.size == 0 or float(window.mean()) < 0.6 * usual:
                break
            ends[0] = max(0, ends[0] - step)
        for _ in range(12):
            window = share[ends[1] : ends[1] + step]
            if window.size == 0 or float(window.mean()) < 0.6 * usual:
                break
            ends[1] = min(even.shape[1], ends[1] + step)
        return Box(ends[0], box.y0, ends[1], box.y1)

    def _level(self, grey: Grey, even: Grey, box: Box) -> _Line:
        box = self._grown(even, box)
        place = box.grown(2, 2, grey.shape).slices()
        return _Line(box, (), (_upright(grey[place]), _upright(even[place])), (grey, box))

    def _slanted(self, grey: Grey, even: Grey, slant: Slant) -> _Line:
        level, level_even = slant.strip(self._cv2, grey), slant.strip(self._cv2, even)
        box = self._grown(level_even, slant.strip_box())
        place = box.grown(2, 2, level.shape).slices()
        chain = slant.chain(along_ink(level, box), grey.shape)
        return _Line(around(chain), chain, (level[place], level_even[place]), (level, box))

    def _readings(self, lines: list[_Line]) -> list[Found]:
        found = self._read_as(lines, _AS_SEEN)
        again = [i for i, one in enumerate(found) if lines[i].is_word and _is_doubtful(one)]
        clear = [replace(lines[i], crops=(lines[i].clearest,)) for i in again]
        turned = self._read_as(clear, _TURNED)
        for i, one in zip(again, turned, strict=True):
            best = max(found[i], one, key=lambda f: f.score)
            looks = not best.is_sure and is_drawn(*lines[i].ground)
            found[i] = replace(best, is_drawn=looks)
        return found

    def _read_as(self, lines: list[_Line], turns: Sequence[tuple[int, int]]) -> list[Found]:
        """Return the best reading of every line among some turns of its views."""
        crops = [
            np.repeat(np.ascontiguousarray(crop[::down, ::across])[..., None], 3, axis=2)
            for line in lines
            for crop in line.crops
            for down, across in turns
        ]
        if not crops:
            return []
        read, _ = self._read(crops)
        pairs = [(str(text).strip(), float(score)) for text, score in (r[:2] for r in read)]
        count = len(pairs) // len(lines)
        best = [max(pairs[i : i + count], key=lambda p: p[1]) for i in range(0, len(pairs), count)]
        return [Found(x.box, *pair, x.chain) for x, pair in zip(lines, best, strict=True)]


def _upright(crop: Grey) -> Grey:
    return np.rot90(crop) if crop.shape[0] > 1.5 * crop.shape[1] else crop


def _is_doubtful(found: Found) -> bool:
    """Return whether a line was not read, or fewer letters of it than it has room for."""
    sides = sorted((found.box.width, found.box.height))
    is_part = not found.chain and sides[1] > _WIDE_LETTER * found.letters * sides[0]
    return is_part or not found.is_sure


def _network(part: Literal["Det", "Rec"]) -> Any:
    """Return RapidOCR's detector or reader, on one thread and without its log.

    It is built here with a session that uses memory again from call to call: RapidOCR gives
    every tensor pages of its own, which takes a fifth of the time and twice the memory.

    Raises:
        OcrUnavailable: the extra `ocr` is not installed.
    """
    try:
        from rapidocr_onnxruntime import main as rapid
        from rapidocr_onnxruntime.utils import OrtInferSession
    except ImportError as exc:
        raise OcrUnavailable from exc
    for name in ("RapidOCR", "OrtInferSession"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    OrtInferSession._init_sess_opts = staticmethod(_session_options)
    config = rapid.update_model_path(rapid.read_yaml(rapid.DEFAULT_CFG_PATH))
    kind = rapid.TextDetector if part == "Det" else rapid.TextRecognizer
    return kind(config[part])


def _session_options(_config: object) -> Any:
    from onnxruntime import GraphOptimizationLevel, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena, options.enable_mem_pattern = True, False
    return options


def tiles(rows: int, columns: int) -> list[Box]:
    """Return overlapping tiles that cover a picture."""
    return [
        Box(left, top, right, bottom)
        for top, bottom in _cuts(rows)
        for left, right in _cuts(columns)
    ]


def _cuts(length: int) -> list[tuple[int, int]]:
    if length <= _TILE:
        return [(0, length)]
    count = -(-(length - _OVERLAP) // (_TILE - _OVERLAP))
    size = -(-(length + (count - 1) * _OVERLAP) // count)
    starts = [min(i * (size - _OVERLAP), length - size) for i in range(count)]
    return [(start, start + size) for start in starts]
