"""Text drawn into pixels, as scanners and scan converters burn it in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.benchmarks.deid.manifest import PixelText

_CONTRAST = 0.1  # share of the range of stored values from which on a glyph can be seen


def plant_text(ds: Dataset, texts: tuple[str, ...]) -> tuple[PixelText, ...]:
    """Draw each text in a corner of every frame, at full contrast; pixels become uncompressed.

    The data set must hold an image of at least 256 rows in grey or RGB. White on white is
    there and cannot be seen: only glyph pixels that stand out of the first frame are noted.
    """
    if ds.file_meta.TransferSyntaxUID.is_encapsulated:
        ds.decompress(generate_instance_uid=False)
    pixels = np.array(ds.pixel_array)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    drawn = []
    for index, text in enumerate(texts):
        found = _glyphs(text, max(16, ds.Rows // 30))
        height, width = found.shape
        top, left = (8 if index == 0 else ds.Rows - height - 8), 8
        frames = pixels.reshape(-1, ds.Rows, ds.Columns, ds.SamplesPerPixel)
        width = min(width, ds.Columns - left)
        found = found[:, :width]
        behind = frames[0, top : top + height, left : left + width].astype(float)
        visible = found & (np.abs(behind - _white(ds)).max(axis=-1) > _CONTRAST * _span(ds))
        for frame in frames:
            frame[top : top + height, left : left + width][found] = _white(ds)
        drawn.append(PixelText(text, (top, left, top + height, left + width), visible))
    ds.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"
    ds["PixelData"].is_undefined_length = False
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = 0
        ds.PhotometricInterpretation = "RGB"
    return tuple(drawn)


def _span(ds: Dataset) -> int:
    return int(2**ds.BitsStored - 1)


def _white(ds: Dataset) -> int:
    if ds.PhotometricInterpretation == "MONOCHROME1":
        return -(2 ** (ds.BitsStored - 1)) if ds.PixelRepresentation else 0
    stored = ds.BitsStored - (1 if ds.PixelRepresentation else 0)
    return int(2**stored - 1)


def _glyphs(text: str, size_px: int) -> NDArray[np.bool_]:
    font = ImageFont.load_default(size_px)
    left, top, right, bottom = (round(v) for v in font.getbbox(text))
    image = Image.new("L", (right - left + 2, bottom - top + 2), 0)
    ImageDraw.Draw(image).text((1 - left, 1 - top), text, fill=255, font=font)
    return np.asarray(image) > 127
