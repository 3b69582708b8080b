"""Small sound DICOM files with known identifiers, to be damaged by `mutations`."""

from __future__ import annotations

import io
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from pleura.anonymizer.pixels.encode import encode_frames
from tests.builders import identified
from tests.builders.identified import ct_dataset, item, write
from tests.builders.pixel_streams import END, facts_of, jpeg_12_bit, ramp, rle_literal
from tests.builders.tiny_dicom import TinyDicom, write_cr, write_ct

_DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"
_ENCODINGS: Final = ("utf-8", "latin-1", "utf-16-le", "iso2022_jp", "shift_jis", "gb18030")
LONG: Final = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()


@dataclass(frozen=True, slots=True)
class Sample:
    """A sound file, the values that may not leave, and where its elements begin.

    `body` is the offset of the data set; `heads` are offsets in the data set, inflated where
    it is deflated.
    """

    name: str
    data: bytes
    planted: tuple[str, ...]
    body: int
    heads: tuple[int, ...]
    is_implicit: bool = False
    is_big_endian: bool = False
    is_deflated: bool = False

    @property
    def order(self) -> str:
        return ">" if self.is_big_endian else "<"


@lru_cache(maxsize=256)
def patterns_of(planted: tuple[str, ...]) -> tuple[tuple[bytes, str], ...]:
    """Return planted values as the bytes, in lower case, that they are looked for by."""
    found = {}
    for value in planted:
        for encoding in _ENCODINGS:
            try:
                found[value.lower().encode(encoding)] = value
            except UnicodeEncodeError:
                continue
    return tuple(found.items())


def leaked(data: bytes, planted: tuple[str, ...]) -> set[str]:
    """Return the planted values that `data` holds in any case or encoding."""
    lowered = data.lower()
    return {value for pattern, value in patterns_of(planted) if pattern in lowered}


def sample_of(name: str, data: bytes, planted: Sequence[str]) -> Sample:
    """Return a sound file with the places of its elements."""
    ds = dcmread(io.BytesIO(data))
    syntax = UID(ds.file_meta.TransferSyntaxUID)
    body = _body(data)
    inner = data[body:]
    if syntax == DeflatedExplicitVRLittleEndian:
        inner = zlib.decompress(inner, -zlib.MAX_WBITS)
    is_big = syntax == ExplicitVRBigEndian
    order = ">" if is_big else "<"
    heads = set()
    for tag in {int(e.tag) for e in ds.iterall()}:
        packed = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
        at = inner.find(packed)
        while at >= 0:
            heads.add(at)
            at = inner.find(packed, at + 4)
    return Sample(
        name, data, tuple(planted), body, tuple(sorted(heads)), syntax == ImplicitVRLittleEndian,
        is_big, syntax == DeflatedExplicitVRLittleEndian,
    )  # fmt: skip


def _body(data: bytes) -> int:
    """Return where the data set begins, behind the last element of group 0002."""
    at = 132
    while data[at : at + 2] == b"\x02\0":
        is_long = data[at + 4 : at + 6] in LONG
        size = data[at + 8 : at + 12] if is_long else data[at + 6 : at + 8]
        at += (12 if is_long else 8) + int.from_bytes(size, "little")
    return at


# --- sound files ----------------------------------------------------------------

_WORDS: Final = (
    *(
        part
        for keyword, value in identified.PLANTED.items()
        for part in value.split("^")
        if len(part) > 5 and keyword not in ("StationName", "DeviceSerialNumber")  # may be kept
    ),
    identified.SOP, identified.STUDY, identified.SERIES, "19501211", "WENDELAE", "Quibbleworth",
)  # fmt: skip


def _rich() -> Dataset:
    """Return a CT image with what is planted nested, private, in prose and in an overlay."""
    ds = ct_dataset()
    image = item(ReferencedSOPClassUID=identified.CT, ReferencedSOPInstanceUID=identified.SOP)
    inner = item(
        PersonName="Zweistein^Albrecht", InstitutionName="Saint Wendelin Hospital",
        TextValue="seen by Albrecht Zweistein", ReferencedSOPSequence=Items([image]),
    )  # fmt: skip
    outer = item(PatientID="MRN-7733", ContentSequence=Items([inner, item(PersonName="A")]))
    ds.RequestAttributesSequence = Items([outer])
    ds.AnatomicRegionSequence = Items([item(CodeValue="T-28000", CodeMeaning="Lung")])
    for level in (ds, inner):
        level.add_new(0x00290010, "LO", "ACME PRIVATE")
        level.add_new(0x00291001, "LO", "Quibbleworth MRN-7733")
        level.add_new(0x00291002, "OB", b"Birkenallee 7 \0\1")
        level.add_new(0x00291003, "SQ", Items([item(PatientName="Quibbleworth^Ludmilla")]))
    ds.ImageComments = "Quibbleworth, Ludmilla: nodule of 3 mm"
    ds.add_new(0x60000010, "US", 8)
    ds.add_new(0x60000011, "US", 8)
    ds.add_new(0x60003000, "OW", b"MRN-7733")
    ds.add_new(0x00080016, "UI", identified.CT)
    return ds


def _undefined(ds: Dataset) -> Dataset:
    for element in ds.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = True
            for inner in element.value:
                inner.is_undefined_length_sequence_item = True
    return ds


def _encapsulated(frames: Sequence[bytes], **facts: object) -> Dataset:
    ds = _rich()
    for keyword, value in facts.items():
        setattr(ds, keyword, value)
    ds.NumberOfFrames = len(frames)
    ds.PixelData = encapsulate(list(frames))
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return ds


def _rle() -> Dataset:
    grid = np.arange(64, dtype=">u2").view(np.uint8).reshape(-1, 2)
    frame = rle_literal([grid[:, 0].tobytes(), grid[:, 1].tobytes()])
    return _encapsulated([frame, frame])


def _jpeg_ls() -> Dataset:
    facts = facts_of(JPEGLSLossless, 16, 12, rows=8, columns=8, frames=2)
    with tempfile.TemporaryFile() as spool:
        encoded = encode_frames(facts, ramp(facts), spool)
        pixels = next(bytes(e.value) for e in encoded.elements if e.tag == 0x7FE00010)
    ds = _encapsulated([b"\0\0", b"\0\0"])
    ds.PixelData = pixels.removesuffix(END)  # the writer adds it
    return ds


def _jpeg_2000() -> Dataset:
    """Return a code stream with a comment (COM) in its main header."""
    encoder = get_encoder(JPEG2000Lossless)
    stream = encoder.encode(
        np.full((64, 64), 9, dtype="<u2"), rows=64, columns=64, samples_per_pixel=1,
        bits_allocated=16, bits_stored=12, pixel_representation=0, number_of_frames=1,
        photometric_interpretation="MONOCHROME2",
    )  # fmt: skip
    note = struct.pack(">HH", len(b"MRN-7733") + 4, 1) + b"MRN-7733"
    at = stream.index(b"\xff\x90")
    return _encapsulated([stream[:at] + b"\xff\x64" + note + stream[at:]], Rows=64, Columns=64)


def _jpeg() -> Dataset:
    stream = jpeg_12_bit(200)
    note = b"Quibbleworth MRN-7733 "
    return _encapsulated(
        [stream[:2] + b"\xff\xfe" + struct.pack(">H", len(note) + 2) + note + stream[2:]]
    )


def _deflated_frames() -> Dataset:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    frame = packer.compress(np.arange(64, dtype="<u2").tobytes()) + packer.flush()
    return _encapsulated([frame + bytes(len(frame) % 2)])


def _in(charset: str | list[str], name: str) -> Dataset:
    ds = _rich()
    ds.SpecificCharacterSet = charset
    ds.PatientName = name
    return ds


def _report() -> Dataset:
    ds = _rich()
    del ds.PixelData
    ds.SOPClassUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.88.33", "SR"
    words = item(ValueType="TEXT", TextValue="Quibbleworth seen by Zweistein")
    level = item(ValueType="CONTAINER", ContentSequence=Items([words]))
    for _ in range(6):
        level = item(ValueType="CONTAINER", ContentSequence=Items([level, words]))
    ds.ContentSequence = Items([level])
    return ds


_SOURCES: Final[dict[str, tuple[Callable[[], Dataset], str, tuple[str, ...]]]] = {
    "explicit": (_rich, ExplicitVRLittleEndian, ()),
    "implicit": (_rich, ImplicitVRLittleEndian, ()),
    "big": (_rich, ExplicitVRBigEndian, ()),
    "deflated": (_rich, DeflatedExplicitVRLittleEndian, ()),
    "undefined": (lambda: _undefined(_rich()), ExplicitVRLittleEndian, ()),
    "undefined_implicit": (lambda: _undefined(_rich()), ImplicitVRLittleEndian, ()),
    "rle": (_rle, RLELossless, ()),
    "jpeg": (_jpeg, JPEGExtended12Bit, ()),
    "jpeg_ls": (_jpeg_ls, JPEGLSLossless, ()),
    "jpeg_2000": (_jpeg_2000, JPEG2000Lossless, ()),
    "deflated_frames": (_deflated_frames, _DEFLATED_FRAMES, ()),
    "japanese": (
        lambda: _in(["", "ISO 2022 IR 87"], "Quibbleworth^Ludmilla=鷲尾^小夜子=わしお^さよこ"),
        ExplicitVRLittleEndian, ("小夜子", "わしお", "さよこ"),
    ),
    "chinese": (
        lambda: _in("GB18030", "Quibbleworth^Ludmilla=司马^镇远候"),
        ExplicitVRLittleEndian, ("镇远候",),
    ),
    "utf8": (
        lambda: _in("ISO_IR 192", "Quibbleworth^Ludmilla=Щукин^Вавила"),
        ImplicitVRLittleEndian, ("Щукин", "Вавила"),
    ),
    "report": (_report, ExplicitVRLittleEndian, ()),
}  # fmt: skip


def generated_samples(folder: Path) -> list[Sample]:
    """Write the small sound files into a folder and return them."""
    samples = []
    for name, (build, syntax, more) in _SOURCES.items():
        known = RLELossless if syntax == _DEFLATED_FRAMES else syntax
        data = write(folder / f"{name}.dcm", build(), syntax=known).read_bytes()
        if known != syntax:  # pydicom does not know it
            data = with_meta(data, syntax.encode())
        samples.append(sample_of(name, data, (*_WORDS, *more)))
    tiny = TinyDicom()
    for name, make in {"ct": write_ct, "cr": write_cr}.items():
        data = make(folder / f"tiny_{name}.dcm", tiny).read_bytes()
        samples.append(sample_of(f"tiny_{name}", data, tiny.identifiers))
    return samples


_PERSONAL: Final = (
    "PatientID", "PatientName", "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID",
    "SOPInstanceUID", "InstitutionName", "ReferringPhysicianName", "PatientBirthDate",
)  # fmt: skip


def real_samples(root: Path, *, largest: int = 60_000) -> list[Sample]:
    """Return the small real files that can be read, each with its own identifiers."""
    samples = []
    for path in sorted(p for p in root.rglob("*.dcm") if p.stat().st_size <= largest):
        data = path.read_bytes()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ds = dcmread(io.BytesIO(data), stop_before_pixels=True)
                planted = [str(ds.get(keyword) or "") for keyword in _PERSONAL]
                parts = {part for value in planted for part in value.replace("=", "^").split("^")}
                samples.append(
                    sample_of(str(path.relative_to(root)), data, sorted(filter(_is_telling, parts)))
                )
        except Exception:  # noqa: BLE001  what pydicom cannot read is no sound file
            continue
    return [s for s in samples if s.planted and s.heads]


def _is_telling(value: str) -> bool:
    """Return whether finding a value means that it was left, not that it is a common word."""
    return len(value) >= 8 and any(c.isdigit() for c in value)


def with_meta(data: bytes, syntax: bytes) -> bytes:
    """Return the file under another transfer syntax, its group length corrected."""
    at = data.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    value = syntax + bytes(len(syntax) % 2)
    head = data[: at + 6]
    if head[132:136] == b"\x02\0\0\0":
        total = int.from_bytes(head[140:144], "little") + len(value) - length
        head = head[:140] + struct.pack("<L", total) + head[144:]
    return head + struct.pack("<H", len(value)) + value + data[at + 8 + length :]
