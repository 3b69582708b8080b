"""Colour profiles: the colours stay as they are, what names a device, a maker or a day goes."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from pydicom import Dataset, dcmread

from pleura.anonymizer.colour import clean_profile
from tests.builders.deidentified import GDPR, cleaned
from tests.builders.identified import ct_dataset, item
from tests.builders.shared_data import shared_data

SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
SECRETS = (b"Quibble", b"QBLE", b"Wendelin", "Quibble".encode("utf-16-be"))


def profile_of(tags: dict[bytes, bytes], *, version: int = 2, space: bytes = b"RGB ") -> bytes:
    """Return a profile that names people and devices wherever its header has room."""
    header = bytearray(128)
    header[4:8], header[8], header[12:24] = b"QBLE", version, b"mntr" + space + b"XYZ "
    header[24:36] = struct.pack(">6H", 2020, 1, 31, 10, 15, 0)
    header[36:40], header[48:56], header[80:84] = b"acsp", b"QBLEQBLE", b"QBLE"
    header[84:128] = b"Wendelin Hospital".ljust(44, b"\0")
    table, body = b"", b""
    start = 132 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    raw = bytes(header) + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(raw)) + raw[4:]


def xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))


def colour_tags() -> dict[bytes, bytes]:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(1.8 * 256))
    return {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 8) + b"Quibble\0" + bytes(78),
        b"cprt": b"text\0\0\0\0Quibble\0",
        b"dmnd": b"mluc\0\0\0\0" + struct.pack(">2I2s2s2I", 1, 12, b"en", b"US", 14, 28)
        + "Quibble".encode("utf-16-be"),
        b"calt": b"dtim\0\0\0\0" + struct.pack(">6H", 2020, 1, 31, 10, 15, 0),
        b"QBLE": b"text\0\0\0\0Wendelin\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.4361, 0.2225, 0.0139),
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        b"rTRC": curve + b"Quibble\0", b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip


def shown(raw: bytes) -> np.ndarray:
    """Return a ramp of colours as a colour management system shows it."""
    ramp = np.stack(np.meshgrid(*[np.arange(0, 256, 51, dtype=np.uint8)] * 3), -1).reshape(1, -1, 3)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
    to_lab = ImageCms.buildTransform(profile, ImageCms.createProfile("LAB"), "RGB", "LAB")
    return np.asarray(ImageCms.applyTransform(Image.fromarray(ramp), to_lab))


@pytest.mark.parametrize("version", [2, 4])
def test_the_colours_stay_and_every_name_and_day_goes(version: int) -> None:
    raw = profile_of(colour_tags(), version=version)
    assert all(secret in raw for secret in SECRETS)
    clean = clean_profile(raw)
    assert clean is not None
    assert not [secret for secret in SECRETS if secret in clean]
    assert struct.pack(">3H", 2020, 1, 31) not in clean
    assert struct.unpack(">I", clean[:4]) == (len(clean),)
    np.testing.assert_array_equal(shown(raw), shown(clean))
    assert ImageCms.getProfileDescription(io.BytesIO(clean)).strip() == "ANONYMIZED"
    assert clean_profile(clean) == clean


def test_equal_tables_are_written_once() -> None:
    tags = colour_tags()
    tags[b"rTRC"] = tags[b"gTRC"]
    clean = clean_profile(profile_of(tags))
    assert clean is not None
    assert clean.count(b"curv") == 1


def _table(kind: bytes, *, grid: int = 2) -> bytes:
    """Return a table of 3 inputs and 3 outputs (ICC.1 10.10, 10.11) with a name after its end."""
    head = kind + bytes(4) + bytes([3, 3, grid, 0]) + bytes(36)
    cells = grid**3 * 3
    if kind == b"mft1":
        return head + bytes(256 * 6 + cells) + b"Quibble"
    return head + struct.pack(">2H", 2, 2) + bytes(2 * (2 * 6 + cells)) + b"Quibble"


@pytest.mark.parametrize("kind", [b"mft1", b"mft2"])
def test_tables_of_colours_are_cut_to_what_they_say_they_hold(kind: bytes) -> None:
    clean = clean_profile(profile_of({b"A2B0": _table(kind)}))
    assert clean is not None
    assert _table(kind)[: -len(b"Quibble")] in clean
    assert b"Quibble" not in clean
    assert clean_profile(profile_of({b"A2B0": _table(kind)[:-40]})) is None
    assert clean_profile(profile_of({b"A2B0": _table(kind)[:20]})) is None


def _loose(kind: bytes, *, depth: int = 2) -> bytes:
    """Return a table of all five parts (ICC.1 10.12) with a name in every gap."""
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    parts = [
        curve * 3, bytes(48), (b"para" + bytes(12)) * 3,
        bytes([2, 2, 2]).ljust(16, b"\0") + bytes([depth, 0, 0, 0]) + bytes(range(24)) * depth,
        curve * 3,
    ]  # fmt: skip
    places, body = [], b""
    for part in parts:
        body += b"Quibble\0"
        places.append(32 + len(body))
        body += part
    return kind + bytes(4) + bytes([3, 3, 0, 0]) + struct.pack(">5I", *places) + body


@pytest.mark.parametrize("kind", [b"mAB ", b"mBA "])
def test_a_table_of_loose_parts_is_laid_anew_without_its_gaps(kind: bytes) -> None:
    clean = clean_profile(profile_of({b"A2B0": _loose(kind)}, version=4))
    assert clean is not None
    assert b"Quibble" not in clean
    assert bytes(range(24)) * 2 in clean
    assert clean_profile(clean) == clean
    for broken in (_loose(kind)[:-8], _loose(kind, depth=200)[:300], kind + bytes(5)):
        assert clean_profile(profile_of({b"A2B0": broken}, version=4)) is None
    odd = _loose(kind).replace(b"curv", b"QBLE")
    assert clean_profile(profile_of({b"A2B0": odd}, version=4)) is None


def test_a_curve_by_formula_has_the_parameters_of_its_function_only() -> None:
    def curves(function: int) -> dict[bytes, bytes]:
        curve = b"para\0\0\0\0" + struct.pack(">HH", function, 0) + bytes(28)
        return {name: curve if b"TRC" in name else data for name, data in colour_tags().items()}

    clean = clean_profile(profile_of(curves(3), version=4))
    assert clean is not None
    assert clean.count(b"para") == 1
    assert clean_profile(profile_of(curves(5), version=4)) is None


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8), st.data())
def test_a_damaged_profile_is_refused_or_made_anew_but_never_an_error(
    changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    whole = {**colour_tags(), b"A2B0": _loose(b"mAB "), b"A2B1": _table(b"mft2")}
    raw = bytearray(profile_of(whole, version=4))
    for at, value in changes:
        raw[at % len(raw)] = value
    clean = clean_profile(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    assert clean is None or clean_profile(clean) == clean


def _without(tag: bytes) -> dict[bytes, bytes]:
    return {name: data for name, data in colour_tags().items() if name != tag}


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"ab", bytes(200), profile_of({}), profile_of(_without(b"gTRC")),
        profile_of(colour_tags())[:-60], profile_of(colour_tags(), version=9),
        profile_of(colour_tags(), space=b"QBLE"),
        profile_of({**colour_tags(), b"gXYZ": b"text\0\0\0\0Quibble\0"}),
        profile_of({**colour_tags(), b"gTRC": b"curv\0\0\0\0" + struct.pack(">I", 1 << 30)}),
        profile_of(colour_tags())[:128] + struct.pack(">I", 1 << 30),
    ],
)  # fmt: skip
def test_what_is_no_profile_of_colours_is_refused(raw: bytes) -> None:
    assert clean_profile(raw) is None


def test_a_slide_keeps_its_colours_without_their_makers_words(tmp_path: Path) -> None:
    def slide(raw: bytes) -> Dataset:
        path = item(OpticalPathIdentifier="1", ICCProfile=raw)
        return ct_dataset(SOPClassUID=SLIDE, Modality="SM", OpticalPathSequence=[path])

    raw = profile_of(colour_tags())
    after = cleaned(tmp_path, slide(raw), profile=GDPR).OpticalPathSequence[0].ICCProfile
    assert bytes(after) == clean_profile(raw)
    odd = cleaned(tmp_path / "odd", slide(b"Quibbleworth"), profile=GDPR)
    assert "ICCProfile" not in odd.OpticalPathSequence[0]


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name",
    ["test_files_sm_image.dcm", "test_files_seg_image_sm_control_labelmap_palette_color.dcm"],
)
def test_the_profile_of_a_real_file_shows_the_same_colours(name: str) -> None:
    path = next(shared_data("dicom").rglob(name))
    (raw,) = {bytes(e.value) for e in dcmread(path).iterall() if e.keyword == "ICCProfile"}
    clean = clean_profile(raw)
    assert clean is not None
    assert b"Hewlett" not in clean
    assert "Copyright".encode("utf-16-be") not in clean
    np.testing.assert_array_equal(shown(raw), shown(clean))
