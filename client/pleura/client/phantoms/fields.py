"""Precomputed random fields: soft-tissue texture and lung vessels, made once per site.

Drawing a vessel tree or a correlated texture for every image would cost more
than the image itself, so a bank of each is made from the site's seed and every
image takes a random member, flipped, shifted and mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

_TEXTURES = 12
_TREES = 10
_ROOTS_PER_LUNG = 9


@dataclass(frozen=True, slots=True)
class FieldBank:
    """Zero-mean unit-variance periodic textures and vessel images scaled to 0..1."""

    textures: Field
    trees: Field

    def texture(self, rng: np.random.Generator) -> Field:
        """Return a random mix of two textures, shifted by a random offset."""
        first, second = rng.integers(0, len(self.textures), 2)
        size = self.textures.shape[1]
        rows, columns = rng.integers(0, size, 2)
        moved = np.roll(self.textures[first], (int(rows), int(columns)), axis=(0, 1))
        if rng.integers(2):
            moved = moved[:, ::-1]
        mixed: Field = moved + np.float32(0.6) * self.textures[second]
        return mixed

    def tree(self, rng: np.random.Generator) -> Field:
        """Return one vessel image, moved by a few pixels."""
        size = self.trees.shape[1]
        reach = max(1, size // 40)
        rows, columns = rng.integers(-reach, reach + 1, 2)
        picked = self.trees[int(rng.integers(len(self.trees)))]
        return np.roll(picked, (int(rows), int(columns)), axis=(0, 1))


def _frequencies(size: int) -> NDArray[np.float64]:
    radius: NDArray[np.float64] = np.hypot(
        np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    )
    return radius


def power_law_textures(
    rng: np.random.Generator, count: int, size: int, exponent: float, cutoff: float = 0.008
) -> Field:
    """Return `count` periodic fields with amplitude ~ 1 / f**exponent, mean 0, deviation 1."""
    white = np.fft.rfft2(rng.standard_normal((count, size, size)))
    shaped = white / np.maximum(_frequencies(size), cutoff) ** exponent
    shaped[:, 0, 0] = 0.0
    fields = np.fft.irfft2(shaped, s=(size, size))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    return np.asarray(fields, dtype=np.float32)


def gaussian_blur(fields: NDArray[np.float64], sigma_px: float) -> NDArray[np.float64]:
    """Return `fields` blurred over the last two axes (periodic, through the spectrum)."""
    size = fields.shape[-1]
    transfer = np.exp(-2.0 * (np.pi * sigma_px * _frequencies(size)) ** 2)
    return np.fft.irfft2(np.fft.rfft2(fields) * transfer, s=(size, size))


def _walk_tree(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Return [3, size, size] hit counts of branching walks, by thick, medium, thin width."""
    hits = np.zeros((3, size, size))
    side = np.repeat((-1.0, 1.0), _ROOTS_PER_LUNG)
    column, row = 0.16 * side, rng.uniform(-0.12, 0.1, side.size)
    fan = np.tile(np.linspace(-1.35, 1.25, _ROOTS_PER_LUNG), 2) + rng.normal(0, 0.12, side.size)
    angle = np.where(side > 0, fan, np.pi - fan)
    width = rng.uniform(0.7, 1.0, side.size)
    step = 1.6 / size
    for _ in range(int(0.62 / step)):
        angle = angle + rng.normal(0, 0.06, angle.size)
        column, row = column + step * np.cos(angle), row + step * np.sin(angle)
        width = width * (1.0 - 0.9 * step)
        tier = np.clip(((1.0 - width) * 4.5).astype(int), 0, 2)
        at_row = np.clip(((row + 1) * size / 2).astype(int), 0, size - 1)
        at_column = np.clip(((column + 1) * size / 2).astype(int), 0, size - 1)
        np.add.at(hits, (tier, at_row, at_column), width)
        forks = np.flatnonzero(rng.random(width.size) < 2.2 * step)
        if forks.size and width.size < 160:
            turn = rng.uniform(0.35, 0.8, forks.size) * rng.choice((-1.0, 1.0), forks.size)
            column = np.append(column, column[forks])
            row = np.append(row, row[forks])
            angle = np.append(angle, angle[forks] + turn)
            width = np.append(width, width[forks] * 0.7)
    return hits


def _draw_tree(rng: np.random.Generator, size: int) -> Field:
    hits = _walk_tree(rng, size)
    sigmas = np.array((0.0085, 0.0055, 0.0035)) * size
    weights = (1.0, 0.75, 0.55)
    image = np.zeros((size, size))
    for layer, sigma, weight in zip(hits, sigmas, weights, strict=True):
        # a line of unit hits keeps its height when the blur widens
        image += weight * gaussian_blur(layer, float(sigma)) * sigma * 2.5
    top = float(np.quantile(image, 0.998))
    return np.asarray(np.clip(image / top, 0.0, 1.2), dtype=np.float32)


def make_bank(rng: np.random.Generator, size: int) -> FieldBank:
    """Return the textures and vessel trees of one site for square images of `size` px."""
    textures = power_law_textures(rng, _TEXTURES, size, exponent=1.5)
    trees = np.stack([_draw_tree(rng, size) for _ in range(_TREES)])
    return FieldBank(textures=textures, trees=trees)
