"""Augmentation: small changes of one picture that leave its label true.

Every change is drawn from the generator of the caller and applied to one image
alone, so it adds nothing to what a patient contributes (PRIVACY.md section 2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]


def shift(picture: Picture, rows: int, columns: int) -> Picture:
    """Return the picture moved by whole pixels; the border is repeated."""
    if rows == 0 and columns == 0:
        return picture
    height, width = picture.shape[-2:]
    row_index = np.clip(np.arange(height) - rows, 0, height - 1)
    column_index = np.clip(np.arange(width) - columns, 0, width - 1)
    return picture[..., row_index[:, None], column_index[None, :]]


def augment_radiograph(picture: Picture, rng: np.random.Generator) -> Picture:
    """Return a radiograph [1, H, W] shifted by up to 6 % and mirrored half of the time."""
    reach = max(1, round(0.06 * picture.shape[-1]))
    rows, columns = (int(v) for v in rng.integers(-reach, reach + 1, size=2))
    mirrored = picture[..., ::-1] if rng.random() < 0.5 else picture
    return shift(mirrored, rows, columns)


def augment_nodule(picture: Picture, rng: np.random.Generator) -> Picture:
    """Return a nodule stack [D, H, W] flipped, transposed and shifted by up to two pixels.

    A nodule has no preferred direction, so every axis may be flipped and the two
    in-plane axes exchanged. Nothing is interpolated and grey values stay: in
    Hounsfield units they carry meaning.
    """
    flips = rng.random(4) < 0.5
    if flips[0]:
        picture = picture[::-1]
    if flips[1]:
        picture = picture[:, ::-1]
    if flips[2]:
        picture = picture[:, :, ::-1]
    if flips[3] and picture.shape[1] == picture.shape[2]:
        picture = picture.transpose(0, 2, 1)
    rows, columns = (int(v) for v in rng.integers(-2, 3, size=2))
    return shift(picture, rows, columns)
