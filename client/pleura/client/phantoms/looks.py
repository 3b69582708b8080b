"""Scanner looks: what one maker's images have in common, and how they differ from another's.

A look is a closed set of numbers and header words. Makers and models are
invented. Two sites with different looks show the same anatomy in different
grey values, noise, spacing and encoding, as real hospitals do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LookName = Literal["aurora", "borealis", "cirrus"]


@dataclass(frozen=True, slots=True)
class RadiographLook:
    """Tone, noise and encoding of one radiography system; lengths in millimetres."""

    manufacturer: str
    model: str
    modality: Literal["CR", "DX"]
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    bits_stored: int
    field_mm: float
    gain: float
    midpoint: float
    gamma: float
    noise: float
    blur_px: int
    ap_share: float
    collimation: float


@dataclass(frozen=True, slots=True)
class CtLook:
    """Kernel, noise and geometry of one CT system; noise in HU, lengths in millimetres."""

    manufacturer: str
    model: str
    kernel: str
    slice_thickness_mm: float
    kvp: int
    smooth_passes: int
    sharpen: float
    noise_hu: float
    is_signed: bool


RADIOGRAPH_LOOKS: dict[LookName, RadiographLook] = {
    "aurora": RadiographLook(
        "Aurora Imaging", "DX-7", "DX", "MONOCHROME2", 12, 360.0, 4.2, 0.52, 1.0, 0.012, 0, 0.2, 0.0
    ),
    "borealis": RadiographLook(
        "Borealis Medical", "CR 45 P", "CR", "MONOCHROME1", 12, 430.0, 3.4, 0.52, 1.1, 0.018, 1,
        0.6, 0.05,
    ),
    "cirrus": RadiographLook(
        "Cirrus Health", "Mobile-2", "DX", "MONOCHROME2", 12, 350.0, 5.0, 0.56, 0.8, 0.024, 0, 0.9,
        0.02,
    ),
}  # fmt: skip

CT_LOOKS: dict[LookName, CtLook] = {
    "aurora": CtLook("Aurora Imaging", "Helix 64", "STANDARD", 1.25, 120, 1, 0.0, 22.0, False),
    "borealis": CtLook("Borealis Medical", "Volume Pro", "B30f", 2.0, 130, 2, 0.0, 12.0, True),
    "cirrus": CtLook("Cirrus Health", "Turn-16", "LUNG", 2.5, 120, 1, 0.7, 38.0, False),
}
