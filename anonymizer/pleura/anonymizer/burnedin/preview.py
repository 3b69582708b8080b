"""Preview: one picture, before and after, with the boxes drawn; for the operator at the site.

A band over each half says which half it is and what the colours mean. The letters are Pillow's
own; no font file is looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from pleura.anonymizer.burnedin.boxes import Box
from pleura.anonymizer.burnedin.clean import Frames, Reading
from pleura.anonymizer.burnedin.view import grey_view
from pleura.common.files import write_atomic

Colour = tuple[int, int, int]

TEXT: Final[Colour] = (255, 80, 80)
BLANK: Final[Colour] = (90, 170, 255)
KEPT: Final[Colour] = (80, 220, 100)
GAP_PX: Final = 6
_BAND: Final[Colour] = (40, 40, 40)
_WORDS: Final[Colour] = (255, 255, 255)
_BETWEEN: Final[Colour] = (160, 160, 160)
_BEFORE: Final[tuple[tuple[str, Colour | None], ...]] = (
    ("BEFORE: must not leave the site", None),
    ("red: text, goes black", TEXT),
    ("blue: known area, goes black", BLANK),
    ("green: side marker, stays", KEPT),
)
_AFTER: Final[tuple[tuple[str, Colour | None], ...]] = (
    ("AFTER: as it would be written", None),
    ("no colours here: what was red", None),
    ("or blue is filled with black", None),
)
_SMALLEST_PX: Final = 13
_LARGEST_PX: Final = 36
_WIDTH_PER_LETTER: Final = 44  # of a half: a larger picture is looked at from further away


def write_preview(
    frames: Frames, photometric: str, reading: Reading, path: Path, *, index: int = 0
) -> None:
    """Write frame `index` before (boxes in colours) and after as one PNG of mode 0600.

    The left half shows what is burned in: the file must not leave the site.

    Raises:
        DiskFull: no room.
        OSError: the picture cannot be written.
    """
    before = grey_view(frames.frame(index), photometric)
    gone, kept = reading.redact.get(index, ()), reading.kept.get(index, ())
    after = before.copy()
    for box in gone:
        after[box.slices()] = 0
    left, right = (Image.fromarray(half).convert("RGB") for half in (before, after))
    known = len(reading.blank)
    for boxes, colour in ((gone[:known], BLANK), (kept, KEPT), (gone[known:], TEXT)):
        _outline(left, boxes, colour)
    png = BytesIO()
    _side_by_side(left, right).save(png, "PNG")
    write_atomic(path, png.getvalue(), mode=0o600)


def _outline(picture: Image.Image, boxes: Sequence[Box], colour: Colour) -> None:
    pen, wide = ImageDraw.Draw(picture), max(1, picture.width // 700)
    for box in boxes:
        pen.rectangle((box.x0, box.y0, box.x1 - 1, box.y1 - 1), outline=colour, width=wide)


def _side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    size = min(max(left.width // _WIDTH_PER_LETTER, _SMALLEST_PX), _LARGEST_PX)
    font = ImageFont.load_default(size)
    line, edge = round(1.5 * size), size // 2
    longest = max(font.getlength(words) for words, _ in (*_BEFORE, *_AFTER))
    half = max(left.width, round(longest) + 3 * edge + size)
    band = line * max(len(_BEFORE), len(_AFTER)) + edge
    whole = Image.new("RGB", (2 * half + GAP_PX, band + left.height), _BAND)
    pen = ImageDraw.Draw(whole)
    pen.rectangle((half, 0, half + GAP_PX - 1, whole.height), fill=_BETWEEN)
    for picture, lines, x in ((left, _BEFORE, 0), (right, _AFTER, half + GAP_PX)):
        whole.paste(picture, (x, band))
        for number, (words, colour) in enumerate(lines):
            top, start = number * line + edge, x + edge
            if colour is not None:
                pen.rectangle((start, top, start + size, top + size), outline=colour, width=3)
                start += size + edge
            pen.text((start, top), words, fill=_WORDS, font=font)
    return whole
