"""Policy: which frames of an object must be read for text, and where a face may be (DEID 7)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from pleura.anonymizer.errors import FaceInField
from pleura.anonymizer.header import Header

Mode = Literal["policy", "all", "off"]

_SECTIONAL: Final = frozenset({"CT", "MR", "PT"})
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_SECONDARY_CAPTURE: Final = f"{_STORAGE}7"
# Counts, masks and doses are no pictures; the storage class has to agree with the modality.
_COMPUTED: Final = {
    "NM": frozenset({f"{_STORAGE}20", f"{_STORAGE}5"}),
    "SEG": frozenset({f"{_STORAGE}66.4", f"{_STORAGE}66.7"}),
    "RTDOSE": frozenset({f"{_STORAGE}481.2"}),
}
_COUNTS_BITS: Final = 16  # fewer hold a picture of the counts
_HEAD: Final = frozenset({"HEAD", "BRAIN", "SKULL", "FACE", "HEADNECK", "NECK", "ORBIT", "SINUS",
                          "JAW", "MAXILLA", "MANDIBLE", "WHOLEBODY"})  # fmt: skip
_PET_CT: Final = frozenset({"CT", "PT"})
_SCOUT: Final = frozenset({"LOCALIZER", "SCOUT"})


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """Frames to read, in order; `is_sample` where a find makes all the others be read.

    `is_slice`: nothing is read of a slice by itself; whoever knows its series looks at some.
    """

    frames: tuple[int, ...] = ()
    is_sample: bool = False
    is_slice: bool = False

    @property
    def is_none(self) -> bool:
        """Whether nothing is read."""
        return not self.frames


def must_be_read(header: Header) -> bool:
    """Return whether the object's pixels may hold burned-in text nobody has looked for.

    Cross-sectional originals are clean by construction, and so are masks, doses and original
    counts of their own storage classes; projection images, secondary captures, colour,
    overlays drawn into unused pixel bits, counts derived or of fewer than 16 bits allocated,
    and anything of an unlisted modality are not. A `NO` in (0028,0301) is never believed, a
    `YES` is.
    """
    if not header.has_pixels:
        return False
    is_colour = header.samples > 1 or not header.photometric.startswith("MONOCHROME")
    is_capture = header.sop_class.startswith(_SECONDARY_CAPTURE) or bool(
        {"SECONDARY", "SCREEN SAVE"} & set(header.image_type)
    )
    unlisted = header.modality not in _SECTIONAL and not _is_computed(header)
    is_original = header.image_type[:2] == ("ORIGINAL", "PRIMARY")
    is_derived = header.modality in _SECTIONAL and not is_original
    if header.modality == "NM":
        is_derived = "DERIVED" in header.image_type or header.allocated < _COUNTS_BITS
    is_marked = header.says_burned_in or header.has_embedded_overlay
    return unlisted or is_capture or is_derived or is_colour or is_marked


def _is_computed(header: Header) -> bool:
    return header.sop_class in _COMPUTED.get(header.modality, ())


def plan_reading(header: Header, frames: int, mode: Mode) -> ReadingPlan:
    """Return the frames to read of an object with this many frames.

    Projection images, captures, colour and every unlisted modality: all frames. Slices of CT,
    MR and PET in one object: first, middle and last, and all as soon as one shows text. A
    single slice is not read, and then 113101 is not claimed: a batch looks at the first,
    middle and last one of its series (`sampling`).
    """
    if mode == "off" or not header.has_pixels:
        return ReadingPlan()
    every = ReadingPlan(tuple(range(frames)))
    if mode == "all" or must_be_read(header):
        return every
    if header.modality in _COMPUTED or frames == 1:
        return ReadingPlan(is_slice=header.modality in _SECTIONAL)
    chosen = sorted({0, frames // 2, frames - 1})
    return ReadingPlan(tuple(chosen), is_sample=len(chosen) < frames)


def check_face(header: Header, body_part: str) -> None:
    """Refuse a cross-sectional field that may show a face.

    Conservative, by header alone: a head or neck body part, a localizer of CT, MR or PET or a
    whole-body field. Nothing is cropped and 113102 is not claimed; a chest CT without these
    signs passes.

    Raises:
        FaceInField: the field may reach the face.
    """
    if not header.has_pixels or header.modality not in _SECTIONAL:
        return
    part = "".join(c for c in body_part.upper() if c.isalpha())
    types = {kind.upper() for kind in header.image_type}
    if part in _HEAD or types & _SCOUT:
        raise FaceInField()


def may_face(modality: str, study: Collection[str]) -> bool:
    """Return whether an object may show a face because of what else its study holds.

    CT beside PET reaches from the skull to the thighs as a rule, whatever its headers say.
    """
    return modality in _PET_CT and set(study) >= _PET_CT
