"""Invented pictures with and without text in them, as pixel data of a data set."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

ROWS, COLUMNS = 240, 320


def ground(seed: int = 0) -> np.ndarray:
    """Return a soft picture without text (0..200)."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    soft = 70 + 40 * np.sin(x / 60 + seed) + 30 * np.cos(y / 45)
    return (soft + np.random.default_rng(seed).normal(0, 2, soft.shape)).clip(0, 200)


def ink(text: str, x: int, y: int, size: int = 18) -> np.ndarray:
    """Return where the letters of a text lie."""
    image = Image.new("L", (COLUMNS, ROWS))
    ImageDraw.Draw(image).text((x, y), text, fill=255, font=ImageFont.load_default(size))
    return np.asarray(image) > 0


def picture(ds: Dataset, frames: np.ndarray, photometric: str, planar: int = 0) -> Dataset:
    """Put frames (frames x rows x columns [x samples]) into a data set."""
    ds.Rows, ds.Columns, ds.PhotometricInterpretation = ROWS, COLUMNS, photometric
    ds.NumberOfFrames = str(len(frames))
    bits = frames.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    if frames.ndim == 4:
        ds.SamplesPerPixel, ds.PlanarConfiguration = 3, planar
        frames = frames.transpose(0, 3, 1, 2) if planar else frames
    ds.PixelData = np.ascontiguousarray(frames).tobytes()
    return ds
