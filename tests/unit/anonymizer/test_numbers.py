"""Numeric values that are an identifier or a day of the header, however they are written."""

from __future__ import annotations

import struct
from datetime import date
from pathlib import Path

import pytest

from pleura.anonymizer.actions import Context, Tally, by_representation
from pleura.anonymizer.numbers import allows, is_lawful
from pleura.anonymizer.private import safe_private
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.text import Seeds
from pleura.anonymizer.wire import Element
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, cleaned
from tests.builders.identified import ct_dataset, project_key

FRAMES, TIME, DIMENSIONS, THICKNESS = 0x00081161, 0x001811BD, 0x00181149, 0x00180050
EXPOSURE, POSITION, PITCH = 0x00181150, 0x00200032, 0x00187044
INSTANCE, THICK_BODY = 0x00200013, 0x00109431


def seeds(*identifiers: str) -> Seeds:
    found = Seeds(terms=load_rules().defined_terms)
    found.add_date(date(1950, 12, 11))
    found.add_date(date(2012, 11, 10))
    for identifier in identifiers or ("55002917",):
        found.add_identifier(identifier)
    return found


def stays(tag: int, vr: str, value: bytes, *identifiers: str) -> bool:
    context = Context(
        rules=load_rules(),
        profile=GDPR,
        key=project_key(),
        seeds=seeds(*identifiers),
        shift_days=-18,
        tally=Tally(),
    )
    left = by_representation(Element(tag, vr, value), (), context, is_retained=False)
    assert context.tally.invalid_values == 0
    assert context.tally.actions["seed"] == (left is None)
    return left is not None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("tag", "vr", "code", "values"),
    [
        (FRAMES, "UL", "I", [55002917]),
        (FRAMES, "UL", "I", [19501211]),
        (FRAMES, "UL", "I", [*range(40), 11121950]),
        (TIME, "FD", "d", [55002917.0]),
        (TIME, "FD", "d", [19501211.5]),
        (TIME, "FD", "d", [1950.1211]),
        (THICK_BODY, "FL", "f", [19501211.0]),  # that is 19501212, for the type has 24 bits
        (THICK_BODY, "FL", "f", [1950.1211]),
        (0x00100028, "US", "H", [1950, 12, 11]),
        (0x00100028, "US", "H", [11, 12, 1950]),
        (0x0072007C, "SL", "i", [-55002917]),
        (0x0072007C, "SL", "i", [5500, 2917]),
    ],
)
def test_a_number_of_the_header_goes_from_binary_numbers(
    tag: int, vr: str, code: str, values: list[float], order: str
) -> None:
    raw = struct.pack(f"{order}{len(values)}{code}", *values)
    assert not stays(tag, vr, raw)
    other = struct.pack(f"{order}{len(values)}{code}", *[n + 7 for n in values])
    assert stays(tag, vr, other)


@pytest.mark.parametrize(
    "text",
    ["19501211", "1.9501211E7", "195012.11e+2", "19501211.5", "1950.1211", "0.19501211",
     "-19501211", "1950\\12\\11", "11\\12\\1950", "12\\11\\1950", "1950\\1211", "5500\\2917",
     "55002917.000", "0055002917", "550.02917", "1e0\\55002917",
     "5\\5\\0\\0\\2\\9\\1\\7", "1.95E3\\12\\11"],
)  # fmt: skip
def test_a_number_of_the_header_goes_from_numbers_in_text(text: str) -> None:
    assert not stays(DIMENSIONS, "DS", text.encode())


@pytest.mark.parametrize(
    "text",
    ["1950", "1950\\12\\12", "-111.250\\12.5\\40", "10\\11\\12", "1\\0\\0\\0\\1\\0", "19501212",
     "0.500000\\0.500000", "1950\\12.5\\11", "120", "", "\\", "1.5E-3", "1E400"],
)  # fmt: skip
def test_other_numbers_stay(text: str) -> None:
    assert stays(POSITION, "DS", text.encode(), "55002917", "100010", "500000500000")


@pytest.mark.parametrize(
    ("tag", "vr", "text", "identifier", "is_kept"),
    [
        (THICKNESS, "DS", "47113", "47113", False),
        (EXPOSURE, "IS", "4711", "4711", False),
        (EXPOSURE, "IS", "4711", "04711", False),
        (PITCH, "DS", "4711.0", "4711", False),
        (EXPOSURE, "IS", "4712", "4711", True),
        (EXPOSURE, "IS", "1000", "1000", True),  # what devices are set to
        (EXPOSURE, "IS", "2048", "2048", True),
        (EXPOSURE, "IS", "47110", "47110", False),
        (EXPOSURE, "IS", "471", "471", True),
        (INSTANCE, "IS", "1007", "1007", True),  # slices are counted
        (0x00081160, "IS", "1007", "1007", True),
    ],
)
def test_a_short_identifier_goes_where_it_is_no_setting_and_no_count(
    tag: int, vr: str, text: str, identifier: str, is_kept: bool
) -> None:
    assert stays(tag, vr, text.encode(), identifier) == is_kept


def test_a_short_identifier_goes_from_binary_numbers_but_not_from_sizes_of_pixels() -> None:
    value = struct.pack("<H", 4711)
    assert not stays(0x00189219, "SS", value, "4711")
    assert stays(0x00280107, "US", value, "4711")
    assert stays(0x00283006, "US", struct.pack("<300H", *range(4500, 4800)), "4711")
    assert not stays(TIME, "FD", struct.pack("<d", 4711.0), "4711")


def test_numbers_of_safe_private_elements_are_held_to_the_same() -> None:
    creator = Element(0x00190010, "LO", b"SIEMENS MR HEADER ")

    def kept(tag: int, vr: str, value: bytes) -> int:
        return len(safe_private([creator, Element(tag, vr, value)], seeds(), ()))

    assert kept(0x0019100C, "IS", b"1000") == 2
    assert kept(0x0019100C, "IS", b"19501211") == 0
    assert kept(0x0019100E, "FD", struct.pack("<3d", 1950.0, 12.0, 11.0)) == 0
    assert kept(0x0019100E, "FD", struct.pack("<3d", 0.0, 1.0, 0.0)) == 2


@pytest.mark.parametrize("profile", [GDPR, HIPAA, RESEARCH], ids=lambda p: p.name)
def test_none_survives_in_a_file(tmp_path: Path, profile: Profile) -> None:
    ds = ct_dataset(
        PatientID="55002917",
        SimpleFrameList=[55002917],
        XAAcquisitionDuration=19501211.0,
        SliceThickness="1.9501211E7",
        FieldOfViewDimensions=["5500", "2917"],
        KVP="120",
    )
    left = cleaned(tmp_path, ds, profile=profile)
    assert "SimpleFrameList" not in left
    assert "XAAcquisitionDuration" not in left
    assert not left.get("SliceThickness")
    assert "FieldOfViewDimensions" not in left
    assert left.KVP == 120


@pytest.mark.parametrize(
    ("tag", "count", "expected"),
    [
        (0x00280010, 1, True), (0x00280010, 2, False), (0x00280010, 0, True),
        (0x00081161, 900, True), (0x00081162, 6, True), (0x00081162, 7, False),
        (0x00181149, 2, True), (0x00181149, 3, False), (0x00200037, 6, True),
        (0x00289503, 4, True), (0x00289503, 3, False), (0x00090010, 7, True),
    ],
)  # fmt: skip
def test_the_dictionary_says_how_many_values_there_may_be(
    tag: int, count: int, expected: bool
) -> None:
    assert allows(tag, count) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b"", True), (b"1", True), (b" 1.5 \\+2.E-3\\.5", True), (b"\\", True), (b"1\\\\2", True),
     (b"1.2.3", False), (b"thick", False), (b"1 2", False), (b"1E", False), (b"\t", False),
     (b"1" * 60_000 + b"x", False)],
)  # fmt: skip
def test_a_text_of_numbers_has_nothing_else(raw: bytes, expected: bool) -> None:
    assert is_lawful(raw) == expected
