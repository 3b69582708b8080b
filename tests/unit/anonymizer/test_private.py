"""Safe private elements: kept only if listed, with a creator, and clean."""

from __future__ import annotations

import struct
from importlib.resources import files
from typing import Final

import gdcm
import pytest
from pydicom._private_dict import private_dictionaries

from pleura.anonymizer import private
from pleura.anonymizer.errors import RulesDamaged
from pleura.anonymizer.private import SafePrivate, SafeRow, load_safe_rows, safe_private
from pleura.anonymizer.text import Seeds
from pleura.anonymizer.wire import Element

_CODES: Final = {"SS": "h", "US": "H", "SL": "i", "UL": "I", "FL": "f", "FD": "d"}

SIEMENS = Element(0x00190010, "LO", b"SIEMENS MR HEADER ")
PHILIPS = Element(0x20010011, "LO", b"Philips Imaging DD 001")


def seeds() -> Seeds:
    found = Seeds()
    found.add_name("Quibbleworth")
    found.add_identifier("998877")
    return found


def kept(*elements: Element) -> list[tuple[int, str, bytes]]:
    return [(e.tag, e.vr, bytes(e.value)) for e in safe_private(elements, seeds(), ())]


def test_a_listed_element_stays_with_its_creator_and_the_lists_vr() -> None:
    direction = struct.pack("<3d", 0.0, 1.0, 0.0)
    assert kept(
        SIEMENS, Element(0x0019100C, "UN", b"1000"), Element(0x0019100E, "UN", direction)
    ) == [
        (0x00190010, "LO", b"SIEMENS MR HEADER"),
        (0x0019100C, "IS", b"1000"),
        (0x0019100E, "FD", direction),
    ]


def test_the_block_of_the_creator_counts_not_its_number() -> None:
    value = struct.pack("<f", 800.0)
    assert kept(PHILIPS, Element(0x20011103, "FL", value))[1:] == [(0x20011103, "FL", value)]
    assert kept(PHILIPS, Element(0x20011003, "FL", value)) == []


@pytest.mark.parametrize(
    "element",
    [
        Element(0x00191008, "CS", b"IMAGE NUM 4"),  # not listed
        Element(0x0019100C, "LO", b"1000"),  # another VR
        Element(0x0019100C, "UN", b"a name"),  # does not parse
        Element(0x0019100C, "IS", b"1\\2"),  # too many values
        Element(0x0019100C, "IS", b"998877"),  # a number of this patient
        Element(0x0019100D, "CS", b"QUIBBLEWORTH"),  # a name of this patient
        Element(0x0019100E, "FD", bytes(23)),
        Element(0x0019100E, "FD", bytes(16)),
        Element(0x0019100C, "SQ", items=[[Element(0x00100010, "PN", b"Quibbleworth")]]),
    ],
)
def test_anything_else_goes_and_its_creator_too(element: Element) -> None:
    assert kept(SIEMENS, element) == []


def test_without_a_creator_or_with_two_nothing_stays() -> None:
    value = Element(0x0019100C, "IS", b"1000")
    assert kept(value) == []
    assert kept(SIEMENS, SIEMENS, value) == []
    assert kept(Element(0x00190010, "LO", b"ACME"), value) == []


def test_undecodable_text_goes() -> None:
    ratio = Element(0x00431027, "SH", b"\xff\xfe")
    creator = Element(0x00430010, "LO", b"GEMS_PARM_01")
    assert safe_private([creator, ratio], seeds(), ("ISO_IR 192",)) == []
    good = Element(0x00431027, "SH", b"0.984:1")
    assert len(safe_private([creator, good], seeds(), ("ISO_IR 192",))) == 2


def table() -> SafePrivate:
    raw = (files("pleura.anonymizer") / "tables" / "private_safe.json").read_bytes()
    return SafePrivate.model_validate_json(raw)


ROWS = table().rows
CREATORS = sorted({row.creator for row in ROWS})


def block(row: SafeRow, value: bytes, *, creator: str = "", vr: str = "") -> list[Element]:
    """Return a creator in block 10 and one element of the row."""
    group, number = int(row.group, 16) << 16, int(row.element, 16)
    return [
        Element(group | 0x10, "LO", (creator or row.creator).encode("ascii")),
        Element(group | 0x1000 | number, vr or row.vr, value),
    ]


def lawful(row: SafeRow) -> bytes:
    """Return a value that row's VR and multiplicity allow."""
    count = max(1, int(row.vm.partition("-")[0]))
    if row.vr in _CODES:
        return struct.pack(f"<{count}{_CODES[row.vr]}", *[1] * count)
    return b"\\".join([b"1"] * count)


def test_the_table_is_whole_sorted_and_each_row_once() -> None:
    keys = [(row.creator, row.group, row.element) for row in ROWS]
    assert len(keys) == 381
    assert keys == sorted(set(keys))
    assert len(load_safe_rows()) == len(keys)
    assert "PS3.15 2026d Table E.3.10-1" in table().source
    assert all(name == name.strip() and name.isascii() for name in CREATORS)


def test_no_row_needs_a_shift_a_map_or_a_walk() -> None:
    assert {row.vr for row in ROWS} == {
        "DS", "IS", "CS", "SH", "LO", "SS", "US", "SL", "UL", "FL", "FD",
    }  # fmt: skip


def test_every_row_is_in_the_list_another_library_has_of_the_standard() -> None:
    is_loud = gdcm.Trace.GetErrorFlag()
    cleaner = gdcm.Cleaner()  # refuses a rule of its caller for what PS3.15 E.3.10 lists
    try:
        gdcm.Trace.ErrorOff()
        listed = [
            not cleaner.Remove(
                gdcm.PrivateTag(int(row.group, 16), int(row.element, 16), row.creator)
            )
            for row in ROWS
        ]
        assert cleaner.Remove(gdcm.PrivateTag(0x0019, 0x08, "SIEMENS MR HEADER"))  # not listed
    finally:
        gdcm.Trace.SetError(is_loud)
    assert all(listed)


def test_the_rows_differ_from_the_private_dictionary_only_where_the_standard_does() -> None:
    differing = set()
    known = 0
    for row in ROWS:
        entry = private_dictionaries.get(row.creator, {}).get(f"{row.group}xx{row.element}")
        known += entry is not None
        if entry is not None and entry[:2] != (row.vr, row.vm):
            differing.add((row.creator, row.element, row.vr, row.vm))
    philips = "Philips Imaging DD 001"
    assert known == 183
    assert differing == {
        ("HOLOGIC, Inc.", "02", "SH", "1"),
        (philips, "1A", "FL", "3"), (philips, "32", "FL", "1"), (philips, "33", "CS", "1"),
        (philips, "35", "SS", "1"), (philips, "36", "CS", "1"), (philips, "55", "UL", "1"),
        (philips, "F1", "FL", "6"), (philips, "F2", "FL", "1-n"),
    }  # fmt: skip


def test_every_row_keeps_what_its_vr_allows_and_no_more() -> None:
    for row in ROWS:
        value = lawful(row)
        expected = [element.tag for element in block(row, value)]
        for vr in (row.vr, "UN"):
            assert [tag for tag, _, _ in kept(*block(row, value, vr=vr))] == expected, row
        assert kept(*block(row, value, vr="LO" if row.vr in _CODES else "FD")) == [], row
        assert kept(*block(row, b"Quibbleworth^Ada ", vr="UN")) == [], row


@pytest.mark.parametrize("value", [b"QUIBBLEWORTH", b"COIL 998877", b"Dr Quixote", b"20240131"])
def test_a_text_row_with_a_name_a_number_or_a_date_goes(value: bytes) -> None:
    texts = [row for row in ROWS if row.vr in ("LO", "SH", "CS")]
    assert len(texts) == 101
    assert [row for row in texts if kept(*block(row, value))] == []


def test_text_that_poses_as_numbers_goes() -> None:
    found = Seeds()
    found.add_name("Quib")
    long_ones = [row for row in ROWS if row.vr in _CODES and len(lawful(row)) % 4 == 0]
    assert {row.vr for row in long_ones} == {"US", "SL", "UL", "FL", "FD"}
    for row in long_ones:
        size = len(lawful(row))
        hidden, harmless = (b"quib" * size)[:size], (b"quiz" * size)[:size]
        assert safe_private(block(row, hidden), found, ()) == [], row
        assert safe_private(block(row, harmless), found, ()) != [], row


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_long_integer_that_is_a_number_of_the_patient_goes(order: str) -> None:
    row = next(r for r in ROWS if r.vr == "UL" and r.vm == "1")
    assert kept(*block(row, struct.pack(f"{order}I", 998877))) == []
    assert kept(*block(row, struct.pack(f"{order}I", 998878)))


@pytest.mark.parametrize("creator", CREATORS)
def test_a_creator_in_another_spelling_keeps_nothing(creator: str) -> None:
    row = next(r for r in ROWS if r.creator == creator)
    assert kept(*block(row, lawful(row)))
    spellings = {creator.swapcase(), creator + ".", creator[:-1], f"{creator[:3]} {creator[3:]}"}
    for spelling in spellings - {creator}:
        assert kept(*block(row, lawful(row), creator=spelling)) == []


def test_a_damaged_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    load_safe_rows.cache_clear()
    monkeypatch.setattr(private, "json", type("Broken", (), {"loads": staticmethod(lambda _: {})}))
    try:
        with pytest.raises(RulesDamaged):
            load_safe_rows()
    finally:
        load_safe_rows.cache_clear()
