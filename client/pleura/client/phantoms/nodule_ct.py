"""CT nodule phantom: eight axial slices round one lung nodule, in Hounsfield units.

`draw_nodule` invents one nodule and its neighbourhood, `NodulePainter` makes the
[8, 48, 48] volume with one scanner's kernel and noise. Malignant nodules tend to
be larger, spiculated and part-solid, benign ones small, smooth and calcified;
the two overlap on purpose, so that neither size nor texture alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pleura.client.phantoms.fields import Field, power_law_textures
from pleura.client.phantoms.looks import CtLook

SLICES = 8
SIDE_PX = 48
PIXEL_MM = 0.7
LUNG_HU = -870.0
_TEXTURES = 16
_TEXTURE_SIZE = 64

Texture = Literal["solid", "part-solid", "ground-glass", "calcified"]
_TEXTURES_OF: dict[bool, tuple[tuple[Texture, ...], tuple[float, ...]]] = {
    True: (("solid", "part-solid", "ground-glass", "calcified"), (0.58, 0.30, 0.08, 0.04)),
    False: (("solid", "part-solid", "ground-glass", "calcified"), (0.58, 0.06, 0.08, 0.28)),
}


@dataclass(frozen=True, slots=True)
class Nodule:
    """One nodule and what surrounds it; lengths in millimetres."""

    diameter_mm: float
    elongation: tuple[float, float, float]
    lobulation: float
    spicules: int
    edge_mm: float
    texture: Texture
    density_hu: float
    vessels: int
    pleura_distance_mm: float | None
    pleura_angle: float
    has_rib: bool


def draw_nodule(rng: np.random.Generator, *, is_malignant: bool) -> Nodule:
    """Return one nodule; the class shifts the distributions but never decides a feature."""
    middle, low, high = (13.0, 5.0, 27.0) if is_malignant else (7.5, 3.5, 24.0)
    diameter = float(np.clip(middle * np.exp(rng.normal(0.0, 0.42)), low, high))
    roughness = float(rng.beta(2.6, 2.0) if is_malignant else rng.beta(1.3, 3.6))
    textures, shares = _TEXTURES_OF[is_malignant]
    elongation = 1.0 + rng.uniform(-0.15, 0.22, 3)
    near_pleura = rng.random() < 0.4
    return Nodule(
        diameter_mm=diameter,
        elongation=(float(elongation[0]), float(elongation[1]), float(elongation[2])),
        lobulation=0.04 + 0.16 * roughness * float(rng.uniform(0.5, 1.0)),
        spicules=int(rng.binomial(14, max(0.0, roughness - 0.25))),
        edge_mm=0.5 + 1.3 * float(rng.uniform(0.3, 1.0)) * (0.4 + roughness),
        texture=textures[int(rng.choice(len(textures), p=shares))],
        density_hu=float(rng.normal(35.0, 22.0)),
        vessels=int(rng.integers(9, 19)),
        pleura_distance_mm=float(rng.uniform(0.35, 0.9) * 16.0) if near_pleura else None,
        pleura_angle=float(rng.uniform(0.0, 2.0 * np.pi)),
        has_rib=bool(near_pleura and rng.random() < 0.6),
    )


def _ramp(distance: NDArray[np.floating], width: float) -> Field:
    t = np.clip(distance / width + 0.5, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def _blend(volume: Field, cover: Field, hu: float | Field) -> None:
    volume += cover * (hu - volume)


class NodulePainter:
    """Paints nodule volumes in one scanner's look; the grids and textures are made once."""

    def __init__(self, look: CtLook, rng: np.random.Generator) -> None:
        self._look = look
        plane = ((np.arange(SIDE_PX) - (SIDE_PX - 1) / 2) * PIXEL_MM).astype(np.float32)
        depth = (np.arange(SLICES) - (SLICES - 1) / 2) * look.slice_thickness_mm
        z, y, x = np.meshgrid(depth.astype(np.float32), plane, plane, indexing="ij")
        self._grid = np.stack((z, y, x))
        self._reach_mm = float(plane[-1])
        self._textures = power_law_textures(rng, _TEXTURES, _TEXTURE_SIZE, 1.2, cutoff=0.03)
        grain = power_law_textures(rng, _TEXTURES, _TEXTURE_SIZE, -0.4)
        self._grain = grain if look.sharpen else self._textures * 0.5 + grain * 0.8

    def paint(self, nodule: Nodule, rng: np.random.Generator) -> NDArray[np.int16]:
        """Return HU [8, 48, 48], slices from feet to head, the nodule in the centre."""
        shape = self._grid.shape[1:]
        volume = np.full(shape, LUNG_HU + rng.normal(0.0, 20.0), dtype=np.float32)
        volume += 28.0 * self._stack(self._textures, rng)
        self._add_vessels(volume, nodule, rng)
        self._add_chest_wall(volume, nodule)
        self._add_nodule(volume, nodule, rng)
        volume = self._reconstruct(volume, rng)
        return np.asarray(np.clip(np.rint(volume), -1024, 3071), dtype=np.int16)

    @staticmethod
    def _stack(bank: Field, rng: np.random.Generator) -> Field:
        picks = rng.integers(0, len(bank), SLICES)
        row, column = rng.integers(0, _TEXTURE_SIZE - SIDE_PX, 2)
        return bank[picks, row : row + SIDE_PX, column : column + SIDE_PX]

    def _add_vessels(self, volume: Field, nodule: Nodule, rng: np.random.Generator) -> None:
        """Tubes that run through the field; about one in five feeds the nodule."""
        reach = self._reach_mm
        grid = self._grid
        for _ in range(nodule.vessels):
            direction = rng.standard_normal(3).astype(np.float32)
            direction /= np.float32(np.linalg.norm(direction))
            away = rng.uniform(-reach, reach, 3).astype(np.float32)
            if rng.random() < 0.2:
                away *= np.float32(0.12)
            radius = float(rng.uniform(0.35, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.7))
            length = float(rng.uniform(8.0, 30.0))
            offset = grid - away[:, None, None, None]
            along = np.tensordot(direction, offset, axes=1)
            square = np.einsum("czyx,czyx->zyx", offset, offset) - along * along
            tube = _ramp(radius - np.sqrt(np.maximum(square, 0.0)), 0.9)
            tube *= np.abs(along) < length
            _blend(volume, tube, 20.0)

    def _add_chest_wall(self, volume: Field, nodule: Nodule) -> None:
        """Pleura with muscle behind it, and a rib in the muscle."""
        if nodule.pleura_distance_mm is None:
            return
        z, y, x = self._grid
        cos, sin = np.float32(np.cos(nodule.pleura_angle)), np.float32(np.sin(nodule.pleura_angle))
        outward = cos * x + sin * y + np.float32(0.08) * z
        along = cos * y - sin * x
        depth = outward - np.float32(nodule.pleura_distance_mm) + along * along / np.float32(70.0)
        _blend(volume, _ramp(depth, 0.9), 35.0)
        _blend(volume, _ramp(1.4 - np.abs(depth - 3.2), 1.2), -70.0)
        if nodule.has_rib:
            rib = 1.0 - ((depth - 7.0) / 4.2) ** 2 - ((along - 0.5 * z) / 8.0) ** 2
            _blend(volume, _ramp(rib, 0.3), 520.0)
            _blend(volume, _ramp(rib - 0.5, 0.3), 160.0)

    def _add_nodule(self, volume: Field, nodule: Nodule, rng: np.random.Generator) -> None:
        stretch = np.array(nodule.elongation, dtype=np.float32)[:, None, None, None]
        centre = rng.normal(0.0, 0.7, 3).astype(np.float32)[:, None, None, None]
        offset = (self._grid - centre) / stretch
        distance = np.sqrt(np.einsum("czyx,czyx->zyx", offset, offset)) + np.float32(1e-3)
        unit = offset / distance
        radius = nodule.diameter_mm / 2
        bumps = np.zeros(distance.shape, dtype=np.float32)
        for frequency in (2.0, 3.0, 4.5, 6.0):
            axis = rng.standard_normal(3).astype(np.float32)
            bumps += np.sin(
                np.float32(frequency / np.linalg.norm(axis)) * np.tensordot(axis, unit, axes=1)
                + np.float32(rng.uniform(0.0, 6.3))
            )
        surface = np.float32(radius) * (1.0 + np.float32(0.5 * nodule.lobulation) * bumps)
        inside = surface - distance
        cover = _ramp(inside, nodule.edge_mm)
        self._fill(volume, nodule, cover, inside)
        for _ in range(nodule.spicules):
            spine = rng.standard_normal(3).astype(np.float32)
            spine[0] *= np.float32(0.5)
            spine /= np.float32(np.linalg.norm(spine))
            cosine = np.tensordot(spine, unit, axes=1)
            sideways = distance * np.sqrt(np.maximum(0.0, 1.0 - cosine * cosine))
            reach = radius * float(rng.uniform(1.3, 1.9)) + 1.0
            taper = np.clip((reach - distance) / (reach - 0.6 * radius), 0.0, 1.0)
            ray = _ramp(0.75 * taper - sideways, 0.8) * (cosine > 0) * (taper > 0)
            _blend(volume, np.float32(0.75) * ray, min(nodule.density_hu, 20.0))

    @staticmethod
    def _fill(volume: Field, nodule: Nodule, cover: Field, inside: Field) -> None:
        if nodule.texture == "solid":
            _blend(volume, cover, nodule.density_hu)
        elif nodule.texture == "ground-glass":
            _blend(volume, cover, -520.0 + nodule.density_hu)
        elif nodule.texture == "part-solid":
            _blend(volume, cover, -480.0 + nodule.density_hu)
            core = inside - np.float32(0.22 * nodule.diameter_mm)
            _blend(volume, _ramp(core, nodule.edge_mm), nodule.density_hu)
        else:
            _blend(volume, cover, nodule.density_hu)
            core = inside - np.float32(0.18 * nodule.diameter_mm)
            _blend(volume, _ramp(core, 1.0), 420.0 + 4.0 * nodule.density_hu)

    def _reconstruct(self, volume: Field, rng: np.random.Generator) -> Field:
        """Apply the kernel (smoothing or sharpening) and its noise."""
        look = self._look
        for _ in range(look.smooth_passes):
            volume = self._smooth(volume)
        if look.sharpen:
            volume = volume + np.float32(look.sharpen) * (volume - self._smooth(volume))
        return volume + np.float32(look.noise_hu) * self._stack(self._grain, rng)

    @staticmethod
    def _smooth(volume: Field) -> Field:
        padded = np.pad(volume, ((0, 0), (1, 1), (1, 1)), mode="edge")
        rows = 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
        out = 0.25 * rows[:, :, :-2] + 0.5 * rows[:, :, 1:-1] + 0.25 * rows[:, :, 2:]
        return np.asarray(out, dtype=np.float32)
