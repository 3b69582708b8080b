"""Chest radiograph phantom: attenuation of a thorax projected on a square detector.

`draw_anatomy` invents one patient's proportions and findings, `RadiographPainter`
projects them with one scanner's look. Coordinates run from -1 to 1, x to the
image right (the patient's left), y downwards. Attenuation is in arbitrary units
where 0 is air and about 1 is the mediastinum; grey rises with attenuation and
MONOCHROME1 is left to the object writer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pleura.client.phantoms.fields import Field, FieldBank, make_bank
from pleura.client.phantoms.looks import RadiographLook

_RIB_TABLE_SIZE = 512
_STRONGEST_LESION = 0.7
_BODY_Y = (-1.0, -0.90, -0.80, -0.70, -0.55, -0.30, 0.20, 1.0)
_BODY_W = (0.30, 0.34, 0.54, 0.88, 1.06, 1.04, 0.98, 0.98)
_LUNG_Y = (-0.84, -0.74, -0.62, -0.40, -0.10, 0.30, 0.60, 0.85)
_LUNG_LATERAL = (0.36, 0.46, 0.55, 0.655, 0.735, 0.80, 0.82, 0.815)
_LUNG_MEDIAL = (0.14, 0.10, 0.085, 0.08, 0.09, 0.10, 0.11, 0.12)


@dataclass(frozen=True, slots=True)
class Lesion:
    """One opacity: a soft round nodule, or a textured consolidation patch."""

    x: float
    y: float
    radius: float
    strength: float
    is_patch: bool


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One patient's proportions, in the coordinates of the module."""

    width: float
    height: float
    midline: float
    tilt: float
    apex_y: float
    diaphragm_y: float
    dome: float
    rib_spacing: float
    rib_phase: float
    rib_strength: float
    heart_radius: float
    vessel_strength: float
    habitus: float
    stomach_gas: float
    lesions: tuple[Lesion, ...]


def _draw_lesions(
    rng: np.random.Generator, diaphragm_y: float, conspicuity: float
) -> tuple[Lesion, ...]:
    is_patch = rng.random() < 0.7
    count = rng.choice((1, 2, 3), p=(0.3, 0.4, 0.3)) if is_patch else rng.integers(2, 6)
    lesions = []
    for _ in range(int(count)):
        side = float(rng.choice((-1.0, 1.0)))
        # the left heart border hides the medial left base; stay lateral to it there
        y = float(rng.uniform(-0.50, diaphragm_y - 0.22))
        medial = 0.48 if side > 0 and y > 0.05 else 0.26
        x = side * float(rng.uniform(medial, 0.60))
        radius = float(rng.uniform(0.22, 0.42) if is_patch else rng.uniform(0.07, 0.14))
        strength = float(rng.uniform(0.24, 0.60) if is_patch else rng.uniform(0.25, 0.60))
        strength = min(_STRONGEST_LESION, strength * conspicuity)
        lesions.append(Lesion(x, y, radius, strength, is_patch))
    return tuple(lesions)


def draw_anatomy(
    rng: np.random.Generator, *, is_abnormal: bool, conspicuity: float = 1.0
) -> Anatomy:
    """Return one patient; only an abnormal one has lesions.

    Args:
        conspicuity: factor on the attenuation of the lesions, up to a solid mass.
    """
    diaphragm_y = float(rng.normal(0.70, 0.05))
    return Anatomy(
        width=float(rng.normal(1.0, 0.045)),
        height=float(rng.normal(1.0, 0.03)),
        midline=float(rng.normal(0.0, 0.02)),
        tilt=float(rng.normal(0.0, 0.02)),
        apex_y=float(rng.normal(-0.80, 0.025)),
        diaphragm_y=diaphragm_y,
        dome=float(rng.uniform(0.12, 0.22)),
        rib_spacing=float(rng.normal(0.172, 0.008)),
        rib_phase=float(rng.uniform(0.0, 1.0)),
        rib_strength=float(rng.uniform(0.10, 0.15)),
        heart_radius=float(rng.normal(0.40, 0.03)),
        vessel_strength=float(rng.uniform(0.30, 0.42)),
        habitus=float(rng.normal(1.0, 0.05)),
        stomach_gas=float(rng.uniform(0.0, 0.12)),
        lesions=_draw_lesions(rng, diaphragm_y, conspicuity) if is_abnormal else (),
    )


def _ramp(distance: Field, width: float) -> Field:
    """Return 0 to 1 over `width`, smooth at both ends."""
    t = np.clip(distance * np.float32(1.0 / width), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def _tube(distance: NDArray[np.floating], half_width: float) -> Field:
    """Return the profile of a bone: filled, with brighter cortical edges; 0 outside."""
    t = np.abs(distance) / half_width
    body = np.sqrt(np.maximum(0.0, 1.0 - t * t))
    edge = np.exp(-(((t - 0.86) / 0.16) ** 2))
    return np.asarray(0.62 * body + 0.50 * edge, dtype=np.float32)


def _gauss(values: NDArray[np.floating], centre: float, width: float) -> Field:
    return np.asarray(np.exp(-(((values - centre) / width) ** 2)), dtype=np.float32)


class RadiographPainter:
    """Paints radiographs of `size` x `size` pixels in one scanner's look.

    The grids and random fields are made once from `rng`; `paint` is pure given
    its own generator.
    """

    def __init__(self, look: RadiographLook, size: int, rng: np.random.Generator) -> None:
        if size < 48:
            raise ValueError("a radiograph phantom needs at least 48 pixels a side")
        self._look = look
        self._size = size
        self._bank: FieldBank = make_bank(rng, size)
        axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
        self._x, self._y = axis[None, :], axis[:, None]
        phase = np.arange(_RIB_TABLE_SIZE) / _RIB_TABLE_SIZE - 0.5
        self._posterior = _tube(phase, 0.27)
        self._anterior = _tube(phase, 0.33)

    def paint(
        self, anatomy: Anatomy, rng: np.random.Generator, *, is_ap: bool
    ) -> NDArray[np.uint16]:
        """Return one exposure: [size, size], 0 (air) to 2**bits_stored - 1 (bone).

        Args:
            anatomy: the patient; each call moves them by a small random step.
            is_ap: an AP film magnifies the heart and raises the diaphragm.
        """
        shift_x, shift_y = rng.normal(0.0, 0.012, 2)
        x = self._x - np.float32(anatomy.midline + shift_x)
        y = (self._y - np.float32(shift_y)) / np.float32(anatomy.height)
        side = np.abs(x) / np.float32(anatomy.width)
        lung, wall = self._lungs(anatomy, side, y, raised=0.05 if is_ap else 0.0)
        mu = self._body(anatomy, side, y, wall)
        mu += self._ribs(anatomy, x, side, y, wall)
        mu[: self._size // 2] += self._clavicles(side, y[: self._size // 2])
        air = self._lung_air(anatomy, lung, rng)
        mu -= air
        mu += self._mediastinum(anatomy, x, y, 1.12 if is_ap else 1.0)
        self._add_lesions(mu, lung, anatomy, x, y, rng)
        return self._expose(mu, rng)

    def _lungs(self, a: Anatomy, side: Field, y: Field, raised: float) -> tuple[Field, Field]:
        """Return (lung depth 0..1, signed distance inside the lateral chest wall)."""
        rows = y[:, 0]
        lateral = np.interp(rows, _LUNG_Y, _LUNG_LATERAL).astype(np.float32)[:, None]
        medial = np.interp(rows, _LUNG_Y, _LUNG_MEDIAL).astype(np.float32)[:, None]
        wall = lateral - side
        columns = side[0]
        apex = a.apex_y + 1.7 * (columns - 0.32) ** 2 + 2.6 * np.maximum(0.0, columns - 0.44) ** 2
        dome = a.dome * (1.0 - ((columns - 0.36) / 0.36) ** 2)
        base = a.diaphragm_y - raised - dome
        depth = _ramp(wall, 0.16) * _ramp(side - medial, 0.10)
        depth *= _ramp(y - apex.astype(np.float32)[None, :], 0.22)
        depth *= _ramp(base.astype(np.float32)[None, :] - y, 0.05)
        return depth, wall

    def _body(self, a: Anatomy, side: Field, y: Field, wall: Field) -> Field:
        """Return soft tissue: torso with rounded flanks, chest wall line, abdomen."""
        half_width = np.interp(y[:, 0], _BODY_Y, _BODY_W).astype(np.float32)[:, None]
        t = side / half_width
        mu = np.float32(0.70 * a.habitus) * np.sqrt(np.maximum(0.0, 1.0 - t * t * t * t))
        mu += np.float32(0.12) * _ramp(y - np.float32(a.diaphragm_y - 0.25), 0.4)
        mu *= _ramp(half_width - side, 0.05)
        inner = np.float32(0.07) * np.exp(-(((wall + np.float32(0.015)) / 0.025) ** 2))
        return np.asarray(mu + inner * _ramp(y + np.float32(0.6), 0.3), dtype=np.float32)

    def _ribs(self, a: Anatomy, x: Field, side: Field, y: Field, wall: Field) -> Field:
        """Return posterior ribs (down and outwards) and fainter anterior ribs (down, inwards)."""
        columns = side[0]
        tilt = np.float32(a.tilt) * x[0]
        fall = 0.06 * columns + 1.5 * np.maximum(0.0, columns - 0.30) ** 2 + tilt
        # ribs lie closer together at the apex than at the base
        warped = y + np.float32(0.10) * y * y
        scale = np.float32(1.0 / a.rib_spacing)
        phase = (warped - fall.astype(np.float32)[None, :]) * scale + np.float32(a.rib_phase)
        ribs = self._look_up(self._posterior, phase)
        ribs *= _ramp(wall + np.float32(0.05), 0.03) * _ramp(side - np.float32(0.05), 0.06)
        rise = -0.85 * (0.76 - columns) + 0.9 * np.maximum(0.0, columns - 0.58) ** 2 + tilt
        front = (warped + rise.astype(np.float32)[None, :]) * (scale * np.float32(0.9))
        front = self._look_up(self._anterior, front + np.float32(a.rib_phase + 0.3))
        front *= _ramp(wall + np.float32(0.03), 0.03) * _ramp(side - np.float32(0.20), 0.15)
        front *= np.float32(0.45) * _ramp(y + np.float32(0.5), 0.2)
        ribs += front
        ribs *= _ramp(y - np.float32(a.apex_y - 0.02), 0.08)
        ribs *= np.float32(a.rib_strength) * (
            1.0 - np.float32(0.7) * _ramp(y - np.float32(a.diaphragm_y - 0.1), 0.2)
        )
        return np.asarray(ribs, dtype=np.float32)

    @staticmethod
    def _look_up(table: Field, phase: Field) -> Field:
        index = (phase * np.float32(_RIB_TABLE_SIZE)).astype(np.int32) & (_RIB_TABLE_SIZE - 1)
        return np.take(table, index)

    @staticmethod
    def _clavicles(side: Field, y: Field) -> Field:
        columns = side[0]
        course = -0.56 - 0.26 * (columns - 0.08) + 0.035 * np.sin(8.0 * (columns - 0.08))
        bone = _tube(y - course[None, :], 0.036)
        ends = _ramp(columns - np.float32(0.07), 0.05) * _ramp(np.float32(0.86) - columns, 0.1)
        return np.float32(0.15) * bone * ends[None, :]

    def _lung_air(self, a: Anatomy, lung: Field, rng: np.random.Generator) -> Field:
        """Return how much attenuation the lungs take away, less where vessels run."""
        markings = np.float32(a.vessel_strength) * self._bank.tree(rng)
        markings += np.float32(0.025) * self._bank.texture(rng)
        return np.float32(0.46) * lung * (1.0 - markings)

    def _mediastinum(self, a: Anatomy, x: Field, y: Field, magnified: float) -> Field:
        """Return spine, heart, aortic knob, hila, trachea and stomach gas."""
        rows, columns = y[:, 0], x[0]
        discs = 0.82 + 0.18 * np.cos(2.0 * np.pi * rows / 0.135)
        spine = 0.11 * _tube(columns, 0.10)[None, :] * discs.astype(np.float32)[:, None]
        vessels = _gauss(columns, 0.01, 0.16)[None, :] * np.float32(0.22)
        r = a.heart_radius * magnified
        along = 0.80 * (x - np.float32(0.17)) + 0.45 * (y - np.float32(a.diaphragm_y - 0.28))
        across = -0.45 * (x - np.float32(0.17)) + 0.80 * (y - np.float32(a.diaphragm_y - 0.28))
        inside = 1.0 - (along / np.float32(r)) ** 2 - (across / np.float32(r * 0.78)) ** 2
        heart = np.float32(0.42) * np.clip(inside, 0.0, 1.0) ** 0.45
        # below the diaphragm the heart is lost in the abdomen, not a second shadow
        heart *= _ramp(np.float32(a.diaphragm_y + 0.06) - y, 0.30)
        mu = spine + np.maximum(vessels, heart)
        knob = 1.0 - ((x - 0.11) / 0.085) ** 2 - ((y + 0.28) / 0.11) ** 2
        mu += np.float32(0.15) * np.sqrt(np.clip(knob, 0.0, 1.0))
        hila = _gauss(np.abs(columns), 0.17, 0.07)[None, :] * _gauss(rows, -0.03, 0.13)[:, None]
        mu += np.float32(0.13) * hila
        mu -= np.float32(0.13) * (
            _gauss(columns, -0.01, 0.04)[None, :] * _ramp(-0.22 - rows, 0.1)[:, None]
        )
        gas = (
            _gauss(columns, 0.40, 0.16)[None, :] * _gauss(rows, a.diaphragm_y + 0.06, 0.06)[:, None]
        )
        mu -= np.float32(a.stomach_gas) * gas
        return np.asarray(mu, dtype=np.float32)

    def _add_lesions(
        self, mu: Field, lung: Field, a: Anatomy, x: Field, y: Field, rng: np.random.Generator
    ) -> None:
        """Add the opacities to `mu`; a lung full of fluid is as dense as soft tissue, no more."""
        if not a.lesions:
            return
        opacity = np.zeros_like(mu)
        for lesion in a.lesions:
            reach = np.float32(lesion.radius * (2.2 if lesion.is_patch else 1.3))
            columns = np.flatnonzero(np.abs(x[0] - lesion.x) < reach)
            rows = np.flatnonzero(np.abs(y[:, 0] - lesion.y) < reach)
            window = np.ix_(rows, columns)
            square = (x[:, columns] - lesion.x) ** 2 + (y[rows] - lesion.y) ** 2
            t = square / np.float32(lesion.radius**2)
            if lesion.is_patch:
                cloud = np.clip(0.75 + 0.45 * self._bank.texture(rng)[window], 0.0, 1.6)
                shape = np.exp(-t) * cloud
            else:
                shape = np.maximum(0.0, 1.0 - t / 1.6) ** 1.2
            opacity[window] += np.float32(lesion.strength) * shape * np.sqrt(lung[window])
        mu += np.minimum(opacity, np.float32(0.48) * np.sqrt(lung))

    def _expose(self, mu: Field, rng: np.random.Generator) -> NDArray[np.uint16]:
        """Return detector values: blur, tone curve, noise, collimation, rounding."""
        look = self._look
        mu += np.float32(0.018) * self._bank.texture(rng) * (mu > 0.1)
        for _ in range(look.blur_px):
            mu[1:-1] = 0.25 * mu[:-2] + 0.5 * mu[1:-1] + 0.25 * mu[2:]
            mu[:, 1:-1] = 0.25 * mu[:, :-2] + 0.5 * mu[:, 1:-1] + 0.25 * mu[:, 2:]
        gain = np.float32(look.gain * rng.normal(1.0, 0.04))
        middle = np.float32(look.midpoint + rng.normal(0.0, 0.02))
        grey = 1.0 / (1.0 + np.exp(-gain * (mu - middle)))
        floor = 1.0 / (1.0 + np.exp(gain * middle))
        grey = np.maximum(0.0, (grey - floor) / (1.0 - floor))
        if look.gamma != 1.0:
            grey **= np.float32(look.gamma)
        noise = rng.standard_normal(mu.shape, dtype=np.float32)
        grey += np.float32(look.noise) * noise * (1.15 - grey)
        edge = int(look.collimation * self._size * rng.uniform(0.5, 1.0))
        if edge:
            grey[:edge] = grey[-edge:] = 0.0
            grey[:, :edge] = grey[:, -edge:] = 0.0
        top = (1 << look.bits_stored) - 1
        return np.asarray(np.clip(grey * top + 0.5, 0, top), dtype=np.uint16)
