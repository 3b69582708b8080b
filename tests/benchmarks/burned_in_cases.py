"""Images with planted text whose place, contrast and height are known.

Real chest images of the shared folder, enlarged to the sizes of the modalities, with film
grain, invented names, numbers and dates drawn in several fonts at a chosen contrast, one side
marker each, and images without any text. Names are invented; nothing here is a patient.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

Split = Literal["dev", "held"]

CONTRASTS: Final = (12, 25, 50, 100)
MIN_HEIGHT_PX: Final = 12
STRINGS_PER_IMAGE: Final = 3
IMAGES: Final = 40
_JPEG_SHARE: Final = 4  # every fourth image was JPEG coded after the text was drawn

# Images a person looked at and found no letter in, by split.
CLEAN: Final[dict[Split, tuple[str, ...]]] = {
    "dev": ("tb0397", "tb0830", "tb0833", "tb0678", "tb0929", "tb1090", "tb0083", "tb0640",
            "tb0508", "tb0584"),
    "held": ("tb0306", "tb0029", "tb1032", "tb1072", "tb0463", "tb0409", "tb1124", "tb0301",
             "tb0680", "tb1098"),
}  # fmt: skip
_SIZES: Final = (512, 1024, 512, 1024, 1900)
_NAMES: Final[dict[Split, tuple[str, ...]]] = {
    "dev": ("QUILL", "MARROW", "TESSEL", "OSTRAVIK", "BRENNAGH", "DELACOUR", "Yvette", "Lindqor",
            "HOLLIS", "Varga", "NAKAMORI", "Petrovna", "WEXLER", "Imogen", "ABARA", "Kessler"),
    "held": ("THORNBY", "ESKELIN", "MULVANE", "ROSSETER", "GRIMALKIN", "FENWICKE", "Odalys",
             "Birkhoff", "PASCOE", "Juhasz", "TAKEMURA", "Sorokina", "UNDSET", "Clarice",
             "OKONJO", "Zeller"),
}  # fmt: skip
MARKERS: Final = ("L", "R", "AP", "PA", "LAT", "ERECT", "SUPINE", "UPRIGHT", "PORTABLE", "INSP",
                  "EXP", "RT", "LT", "AP PORTABLE", "AP SUPINE", "PA ERECT")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planted:
    """One string: what was drawn, and the box of its ink as (x0, y0, x1, y1)."""

    text: str
    box: tuple[int, int, int, int]
    contrast: int
    height_px: int
    font: str
    is_marker: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One image (rows x columns, uint8) and everything that was drawn into it."""

    name: str
    pixels: np.ndarray
    planted: tuple[Planted, ...]

    @property
    def strings(self) -> tuple[Planted, ...]:
        """What must go."""
        return tuple(p for p in self.planted if not p.is_marker)

    @property
    def markers(self) -> tuple[Planted, ...]:
        """What must stay."""
        return tuple(p for p in self.planted if p.is_marker)


def _fonts() -> tuple[tuple[str, Path | None], ...]:
    folder = Path(get_data_path()) / "fonts" / "ttf"
    names = ("DejaVuSans", "DejaVuSansMono", "DejaVuSans-Bold", "DejaVuSerif")
    return (*((name, folder / f"{name}.ttf") for name in names), ("pillow", None),
            ("hershey-simplex", None), ("hershey-complex", None))  # fmt: skip


def _invented(rng: random.Random, split: Split) -> str:
    first, last = rng.sample(_NAMES[split], 2)
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1931, 2019)
    number = rng.randint(10**6, 10**9 - 1)
    return rng.choice((
        f"{last} {first}", f"{last}, {first}", f"{last}^{first}", f"Name: {last}", f"{last}",
        f"ID {number}", f"{number}", f"MRN: {number}", f"DOB {day:02d}.{month:02d}.{year}",
        f"{year}-{month:02d}-{day:02d}", f"{day:02d}/{month:02d}/{year}", f"{last} {number}",
        f"Acc {number}", f"{last} {first} {day:02d}/{month:02d}/{year}",
    ))  # fmt: skip


def _ink(text: str, font: str, path: Path | None, height_px: int) -> np.ndarray:
    """Return coverage 0..1 of a text whose capital letters are height_px high."""
    if font.startswith("hershey"):
        face = cv2.FONT_HERSHEY_SIMPLEX if font.endswith("simplex") else cv2.FONT_HERSHEY_COMPLEX
        scale = height_px / 21.0
        thickness = max(1, round(height_px / 12))
        (width, height), base = cv2.getTextSize(text, face, scale, thickness)
        canvas = np.zeros((height + base + 12, width + 12), np.uint8)
        kind = cv2.LINE_8 if height_px % 2 else cv2.LINE_AA
        cv2.putText(canvas, text, (6, height + 6), face, scale, 255, thickness, kind)
    else:
        size, cap = height_px, 0
        while cap < height_px:
            size += 1
            face = ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)
            _left, top, _right, bottom = face.getbbox("H")
            cap = bottom - top
        box = face.getbbox(text)
        image = Image.new("L", (int(box[2]) + 12, int(box[3]) + 12))
        ImageDraw.Draw(image).text((4, 4), text, fill=255, font=face)
        canvas = np.asarray(image)
    rows, columns = np.nonzero(canvas > 40)
    cut = canvas[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return cut.astype(np.float32) / 255.0


def _draw(pixels: np.ndarray, ink: np.ndarray, x: int, y: int, contrast: int) -> None:
    """Draw ink in one constant grey, `contrast` percent of the range away from what is there."""
    part = pixels[y : y + ink.shape[0], x : x + ink.shape[1]]
    ground = float(np.median(part))
    step = 255.0 * contrast / 100.0
    grey = ground + step if ground + step <= 255 or ground < 128 else ground - step
    grey = float(np.clip(grey, 0, 255))
    part[:] = np.round(part * (1 - ink) + grey * ink).astype(np.uint8)


def _place(
    rng: random.Random, shape: tuple[int, int], ink: np.ndarray, taken: Sequence[tuple[int, ...]]
) -> tuple[int, int, int, int] | None:
    rows, columns = shape
    height, width = ink.shape
    for _ in range(200):
        if width + 8 > columns:
            return None
        x, y = rng.randint(4, columns - width - 4), rng.randint(4, rows - height - 4)
        if rng.random() < 0.5:  # half of all text sits near the border
            y = rng.choice((rng.randint(4, 14), rows - height - rng.randint(4, 14)))
        box = (x, y, x + width, y + height)
        if all(box[0] - 30 > t[2] or box[2] + 30 < t[0] or box[1] - 30 > t[3] or box[3] + 30 < t[1]
               for t in taken):  # fmt: skip
            return box
    return None


def _base(path: Path, longest: int, seed: int) -> np.ndarray:
    grey = np.asarray(Image.open(path).convert("L"))
    scale = longest / max(grey.shape)
    large = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(seed).normal(0, 2.0, large.shape)
    return np.clip(large + grain, 0, 255).astype(np.uint8)


def _grounds(shared: Path, split: Split) -> list[Path]:
    """Return the images to draw on: half of the files by name order for each split."""
    found: list[Path] = []
    for pattern in ("cxr_multisite/images/nih/*.jpg", "cxr_multisite/images/guangzhou/*.jpg",
                    "tb_tbx11k/images/*.jpg"):  # fmt: skip
        paths = sorted(shared.glob(pattern))
        paths = [p for p in paths if p.stem not in CLEAN["dev"] + CLEAN["held"]]
        found += paths[0 if split == "dev" else 1 :: 2][:400:9]
    random.Random(f"grounds {split}").shuffle(found)
    return found[:IMAGES]


def planted_cases(shared: Path, split: Split, images: int = IMAGES) -> Iterator[Case]:
    """Yield images with three strings and one marker each."""
    rng = random.Random(f"planted {split} 1")
    fonts = _fonts()
    for number, path in enumerate(_grounds(shared, split)[:images]):
        pixels = _base(path, _SIZES[number % len(_SIZES)], number)
        planted: list[Planted] = []
        largest = max(18, min(40, pixels.shape[0] // 32))
        for index in range(STRINGS_PER_IMAGE + 1):
            is_marker = index == STRINGS_PER_IMAGE
            for _ in range(50):
                font, face = rng.choice(fonts)
                text = rng.choice(MARKERS) if is_marker else _invented(rng, split)
                low = 18 if is_marker else MIN_HEIGHT_PX
                height = rng.randint(low, largest + (8 if is_marker else 0))
                contrast = CONTRASTS[(number * STRINGS_PER_IMAGE + index) % 4]
                contrast = rng.choice((50, 100)) if is_marker else contrast
                ink = _ink(text, font, face, height)
                box = _place(rng, pixels.shape, ink, [p.box for p in planted])
                if box is not None:
                    break
            else:
                raise RuntimeError("no room for the planted text")
            _draw(pixels, ink, box[0], box[1], contrast)
            planted.append(Planted(text, box, contrast, height, font, is_marker))
        if number % _JPEG_SHARE == 0:
            coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
            pixels = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
        yield Case(path.stem, pixels, tuple(planted))


def clean_cases(shared: Path, split: Split) -> Iterator[Case]:
    """Yield images without any text."""
    for number, stem in enumerate(CLEAN[split]):
        path = shared / "tb_tbx11k" / "images" / f"{stem}.jpg"
        yield Case(stem, _base(path, _SIZES[number % len(_SIZES)], 1000 + number), ())
