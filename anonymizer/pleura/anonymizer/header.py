"""What the engine must know about an object before the first rule runs.

Reads the parsed tree only; nothing is changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydicom._uid_dict import UID_dictionary

from pleura.anonymizer.errors import (
    MediaDirectory,
    NoSopUid,
    SopRefused,
    Truncated,
    Undecodable,
)
from pleura.anonymizer.pseudonyms import clean_patient_id
from pleura.anonymizer.text import decode_text
from pleura.anonymizer.wire import PIXEL_TAGS, DicomFile, Element

CHARACTER_SET: Final = 0x00080005
_DICOMDIR: Final = "1.2.840.10008.1.3.10"
_REFUSED: Final = {
    "1.2.840.10008.5.1.4.1.1.9.4.1",  # Basic Voice Audio
    "1.2.840.10008.5.1.4.1.1.9.4.2",  # General Audio
}
_REFUSED_PREFIX: Final = "1.2.840.10008.5.1.4.1.1.104."  # encapsulated documents
_NATIVE: Final = frozenset(f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".1.99"))
_UID: Final = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class Header:
    """Identity and image facts of one object, decoded."""

    sop_class: str
    sop_uid: str
    study_uid: str
    series_uid: str
    patient_id: str
    accession: str
    modality: str
    image_type: tuple[str, ...]
    photometric: str
    samples: int
    allocated: int
    has_pixels: bool
    says_burned_in: bool
    has_embedded_overlay: bool
    character_sets: tuple[str, ...]


def character_sets_of(elements: Sequence[Element]) -> tuple[str, ...] | None:
    """Return the terms of (0008,0005), or None if the attribute is absent."""
    for element in elements:
        if element.tag == CHARACTER_SET and element.items is None:
            text = bytes(element.value).decode("latin-1")
            return tuple(term.strip(" \0") for term in text.split("\\"))
    return None


class _Lookup:
    def __init__(self, elements: Sequence[Element], character_sets: tuple[str, ...]) -> None:
        self.by_tag = {e.tag: e for e in reversed(elements)}
        self.character_sets = character_sets

    def text(self, tag: int) -> str:
        element = self.by_tag.get(tag)
        if element is None or element.items is not None:
            return ""
        raw = bytes(element.value)
        text = decode_text(raw, self.character_sets, "LO")
        if text is None:
            # Undecodable bytes still name one patient: latin-1 maps every byte to one letter.
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:
                text = raw.decode("latin-1")
        return text.strip(" \0")

    def number(self, tag: int, *, big_endian: bool, default: int) -> int:
        element = self.by_tag.get(tag)
        if element is None or element.items is not None or len(element.value) < 2:
            return default
        return int.from_bytes(bytes(element.value)[:2], "big" if big_endian else "little")

    def frames(self) -> int:
        text = self.text(0x00280008)
        return int(text) if text.isdecimal() and text.isascii() else 1


def read_header(parsed: DicomFile) -> Header:
    """Return the facts of an object and refuse kinds that cannot be de-identified.

    Raises:
        MediaDirectory: a DICOMDIR.
        NoSopUid: SOP instance, series or study UID missing or no UID.
        SopRefused: unknown storage class, audio or an encapsulated document.
        Truncated: native pixel data is shorter than rows x columns x frames.
    """
    sets = character_sets_of(parsed.elements) or ()
    look = _Lookup(parsed.elements, sets)
    meta = _Lookup(parsed.meta, ())
    sop_class = look.text(0x00080016)
    if _DICOMDIR in (sop_class, meta.text(0x00020002)) or 0x00041220 in look.by_tag:
        raise MediaDirectory()
    uids = [look.text(tag) for tag in (0x00080018, 0x0020000D, 0x0020000E)]
    bad = sum(_UID.fullmatch(uid) is None or uid in UID_dictionary for uid in uids)
    if bad:
        raise NoSopUid(counts={"missing": bad})
    if not _is_storage_class(sop_class):
        raise SopRefused()
    header = Header(
        sop_class=sop_class,
        sop_uid=uids[0],
        study_uid=uids[1],
        series_uid=uids[2],
        patient_id=clean_patient_id(look.text(0x00100020)),
        accession=look.text(0x00080050),
        modality=look.text(0x00080060),
        image_type=tuple(part.strip() for part in look.text(0x00080008).split("\\")),
        photometric=look.text(0x00280004),
        samples=look.number(0x00280002, big_endian=parsed.syntax.big_endian, default=1),
        allocated=look.number(0x00280100, big_endian=parsed.syntax.big_endian, default=8),
        has_pixels=not PIXEL_TAGS.isdisjoint(look.by_tag),
        says_burned_in=look.text(0x00280301) == "YES",
        has_embedded_overlay=_has_embedded_overlay(look, parsed.syntax.big_endian),
        character_sets=sets,
    )
    _check_pixel_length(look, parsed, header)
    return header


def _is_storage_class(uid: str) -> bool:
    if uid in _REFUSED or uid.startswith(_REFUSED_PREFIX):
        return False
    known = UID_dictionary.get(uid)
    return known is not None and known[1] == "SOP Class" and "Storage" in known[0]


def _has_embedded_overlay(look: _Lookup, big_endian: bool) -> bool:
    """Return whether an overlay lies in the unused bits of the pixels (60xx,0102), retired."""
    positions = (group << 16 | 0x0102 for group in range(0x6000, 0x6100, 2))
    return any(look.number(tag, big_endian=big_endian, default=0) for tag in positions)


def _check_pixel_length(look: _Lookup, parsed: DicomFile, header: Header) -> None:
    pixels = look.by_tag.get(0x7FE00010)
    if pixels is None or pixels.items is not None:
        return
    if (parsed.transfer_syntax in _NATIVE) == pixels.is_encapsulated:
        raise Undecodable("pixel data is not encoded as its transfer syntax says")
    if pixels.is_encapsulated:
        return
    big = parsed.syntax.big_endian
    rows = look.number(0x00280010, big_endian=big, default=0)
    columns = look.number(0x00280011, big_endian=big, default=0)
    bits = look.number(0x00280100, big_endian=big, default=8)
    samples = rows * columns * look.frames() * header.samples
    if header.photometric == "YBR_FULL_422":
        samples = samples * 2 // 3
    if len(pixels.value) * 8 < samples * bits:
        raise Truncated("pixel data is shorter than the image")
