"""Reading: looks at the frames the plan names and says what has to be blacked out.

A frame is read whole, or, where an earlier frame of the file is equal outside some area, in
that area only: equal pixels were read already, so no pixel goes unread. Of a colour picture the
tints are read too, where they show what the grey view does not. What is blacked out in one view
is so in all, and read again with its surroundings until nothing legible is left in any.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from pleura.anonymizer.burnedin.boxes import Box, around
from pleura.anonymizer.burnedin.decide import judge
from pleura.anonymizer.burnedin.finder import TextFinder
from pleura.anonymizer.burnedin.policy import ReadingPlan
from pleura.anonymizer.burnedin.strokes import along_ink
from pleura.anonymizer.burnedin.tints import Sheets, Views, views_of
from pleura.anonymizer.burnedin.view import Frame, Grey
from pleura.anonymizer.errors import TextBoxTooLarge, TextResidual
from pleura.anonymizer.text import Seeds

MAX_BOX_SHARE: Final = 0.05
MAX_ROUNDS: Final = 3
_PAD_SHARE: Final = 0.2
_CONTEXT_PX: Final = 48
_MARGIN_PX: Final = 8
_READ_WHOLE_SHARE: Final = 0.6
_HIDDEN_SHARE: Final = 0.25


class Frames(Protocol):
    """Decoded frames by number."""

    @property
    def count(self) -> int:
        """Number of frames."""
        ...

    def frame(self, index: int) -> Frame:
        """Return one frame as (rows, columns) or (rows, columns, samples)."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read and what must go; counts only, never the text.

    `boxes` counts lines of text; `redact` has by frame what goes, the areas of `blank` first,
    and `kept` the side markers that stay: one beside a name goes with it.
    """

    frames_read: int
    boxes: int
    markers: int
    is_complete: bool
    redact: dict[int, tuple[Box, ...]] = field(default_factory=dict)
    blank: tuple[Box, ...] = ()
    kept: dict[int, tuple[Box, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Seen:
    boxes: tuple[Box, ...]
    markers: tuple[Box, ...]


def read_and_clean(
    frames: Frames,
    photometric: str,
    seeds: Seeds,
    plan: ReadingPlan,
    finder: TextFinder,
    blank: Sequence[Box] = (),
) -> Reading:
    """Read the planned frames; a find in a sample makes every frame be read.

    `blank`: areas that are blacked out in every frame whatever they show.

    Raises:
        TextResidual: text stayed legible after three rounds of blacking out.
        TextBoxTooLarge: a line of text covers over 10 % of the image, half of it over 5 %.
    """
    wanted = list(plan.frames)
    redact: dict[int, tuple[Box, ...]] = {}
    kept: dict[int, tuple[Box, ...]] = {}
    known: dict[bytes, _Seen] = {}
    last: tuple[Views, _Seen] | None = None
    boxes = markers = 0
    done: set[int] = set()
    while wanted:
        index = wanted.pop(0)
        if index in done:
            continue
        views = views_of(frames.frame(index), photometric)
        mark = hashlib.sha256(b"".join(p.tobytes() for p in views.pictures)).digest()
        seen = known.get(mark) or _read(views, seeds, finder, blank, last)
        known[mark], last = seen, (views, seen)
        if len(known) > 8:
            known.pop(next(iter(known)))
        done.add(index)
        boxes += len(seen.boxes)
        if seen.boxes or blank:
            redact[index] = (*blank, *seen.boxes)
        kept[index] = _legible(seen.markers, redact.get(index, ()))
        markers += len(kept[index])
        if (seen.boxes or seen.markers) and len(done) + len(wanted) < frames.count:
            wanted = [i for i in range(frames.count) if i not in done]
    for index in range(frames.count) if blank else ():
        redact.setdefault(index, tuple(blank))
    is_all = len(done) == frames.count
    return Reading(len(done), boxes, markers, is_all, redact, tuple(blank), kept)


def _read(
    views: Views,
    seeds: Seeds,
    finder: TextFinder,
    blank: Sequence[Box],
    last: tuple[Views, _Seen] | None,
) -> _Seen:
    sheets, shape = Sheets(views), views.shape
    area, old, kept = _changed(views, last)
    sheets.blacken(old)
    if area is None:
        return _Seen(old, kept)
    gone, markers = list(old), list(kept)
    places = [area]
    sheets.pass_over(blank)
    for number in range(MAX_ROUNDS):
        is_blank = number > 0 or not blank
        fresh: list[Box] = []
        for sheet, parts in sheets.to_read(places):
            found, signs = _look(sheet, parts, seeds, finder)
            if not is_blank:  # text across the edge of a blank area has to go as a whole
                found, signs = _across(found, signs, blank)
            markers += [s for s in signs if all(s.shared(m) == 0 for m in markers)]
            padded = [_padded(box, shape) for box in found]
            fresh += padded
            sheets.blacken(padded)
        sheets.blacken(blank)
        if not fresh and is_blank:
            return _Seen(tuple(gone), tuple(markers))
        gone += fresh
        if is_blank:
            places = _surroundings(fresh, markers, area, shape)
    if any(_look(sheet, parts, seeds, finder)[0] for sheet, parts in sheets.to_read(places)):
        raise TextResidual(counts={"boxes": len(gone)})
    return _Seen(tuple(gone), tuple(markers))


def _legible(markers: Sequence[Box], gone: Sequence[Box]) -> tuple[Box, ...]:
    """Return the markers that are not blacked out together with text beside them."""
    return tuple(m for m in markers if sum(m.shared(box) for box in gone) < _HIDDEN_SHARE * m.area)


def _surroundings(
    boxes: Sequence[Box], markers: Sequence[Box], area: Box, shape: tuple[int, ...]
) -> list[Box]:
    """Return the areas round some boxes, joined where they meet: nothing else has changed.

    A marker is in an area as a whole: half of it would read as something else.
    """
    joined: list[Box] = []
    for box in boxes:
        place = box.grown(_CONTEXT_PX, _CONTEXT_PX, shape)
        whole = [m.grown(_MARGIN_PX, _MARGIN_PX, shape) for m in markers]
        while near := [
            other for other in (*joined, *whole) if 0 < place.shared(other) < other.area
        ]:
            place = around([place, *near])
        joined = [other for other in joined if not place.shared(other)]
        joined.append(place)
    is_most = sum(place.area for place in joined) > _READ_WHOLE_SHARE * area.area
    return [area] if is_most else joined


def _across(
    found: list[Box], signs: list[Box], blank: Sequence[Box]
) -> tuple[list[Box], list[Box]]:
    """Return what is not blanked as a whole anyway; a marker that is cut goes."""

    def hidden(box: Box) -> int:
        return sum(box.shared(b) for b in blank)

    cut = [s for s in signs if 0 < hidden(s) < s.area]
    return [b for b in found if hidden(b) < b.area] + cut, [s for s in signs if not hidden(s)]


def _changed(
    views: Views, last: tuple[Views, _Seen] | None
) -> tuple[Box | None, tuple[Box, ...], tuple[Box, ...]]:
    """Return the area to read, and boxes and markers that hold from the earlier frame."""
    whole = Box(0, 0, views.shape[1], views.shape[0])
    if last is None:
        return whole, (), ()
    now, then, seen = views.pictures, last[0].pictures, last[1]
    if [p.shape for p in now] != [p.shape for p in then]:
        return whole, (), ()
    differs = np.any([a != b for a, b in zip(now, then, strict=True)], axis=0)
    rows, columns = np.nonzero(differs.any(axis=1))[0], np.nonzero(differs.any(axis=0))[0]
    if rows.size == 0:
        return None, seen.boxes, seen.markers
    area = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    area = area.grown(_CONTEXT_PX, _CONTEXT_PX, views.shape)
    if area.area > _READ_WHOLE_SHARE * whole.area:
        return whole, (), ()
    holds = tuple(b for b in seen.boxes if b.shared(area) == 0)
    return area, holds, tuple(m for m in seen.markers if m.shared(area) == 0)


def _look(
    work: Grey, places: Sequence[Box], seeds: Seeds, finder: TextFinder
) -> tuple[list[Box], list[Box]]:
    """Return the boxes to black out and the markers within some areas of the picture."""
    gone: list[Box] = []
    markers: list[Box] = []
    for place in places:
        for found in finder.find(work, place):
            verdict = judge(found, work.shape, seeds)
            if verdict == "marker":
                markers.append(found.box)
            elif verdict == "redact" and found.chain:
                if sum(box.area for box in found.chain) > 2 * MAX_BOX_SHARE * work.size:
                    raise TextBoxTooLarge(counts={"boxes": 1})
                gone += found.chain
            elif verdict == "redact":
                box = along_ink(work, found.box)
                gone += [box] if box.area <= MAX_BOX_SHARE * work.size else _halves(box, work.size)
    return gone, markers


def _halves(box: Box, size: int) -> list[Box]:
    """Return a line that is too large in two; what was legible as a whole goes as a whole.

    Raises:
        TextBoxTooLarge: even a half is too large.
    """
    across, down = (box.x0 + box.x1) // 2, (box.y0 + box.y1) // 2
    if box.width >= box.height:
        parts = [Box(box.x0, box.y0, across, box.y1), Box(across, box.y0, box.x1, box.y1)]
    else:
        parts = [Box(box.x0, box.y0, box.x1, down), Box(box.x0, down, box.x1, box.y1)]
    if any(part.area > MAX_BOX_SHARE * size for part in parts):
        raise TextBoxTooLarge(counts={"boxes": 1})
    return parts


def _padded(box: Box, shape: tuple[int, ...]) -> Box:
    low = min(box.height, box.width)
    along, over = max(3, round(0.5 * low)), max(2, round(_PAD_SHARE * low))
    is_upright = box.height > 1.5 * box.width
    return box.grown(over, along, shape) if is_upright else box.grown(along, over, shape)
