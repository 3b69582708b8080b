"""Safe private elements: kept only if listed, with a creator, and clean."""

from __future__ import annotations

import struct

import pytest
from pydicom._private_dict import private_dictionaries

from pleura.anonymizer import private
from pleura.anonymizer.errors import RulesDamaged
from pleura.anonymizer.private import load_safe_rows, safe_private
from pleura.anonymizer.text import Seeds
from pleura.anonymizer.wire import Element

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


def test_every_row_agrees_with_the_private_dictionary() -> None:
    rows = load_safe_rows()
    assert len(rows) == 21
    for row in rows.values():
        known = private_dictionaries[row.creator][f"{row.group}xx{row.element}"]
        assert known[:2] == (row.vr, row.vm)


def test_a_damaged_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    load_safe_rows.cache_clear()
    monkeypatch.setattr(private, "json", type("Broken", (), {"loads": staticmethod(lambda _: {})}))
    try:
        with pytest.raises(RulesDamaged):
            load_safe_rows()
    finally:
        load_safe_rows.cache_clear()
