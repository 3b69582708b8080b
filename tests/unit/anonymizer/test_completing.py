"""Completing: what the definition wants is there again, and says nothing."""

from __future__ import annotations

import pytest

from pleura.anonymizer.actions import Context, Tally
from pleura.anonymizer.completing import complete
from pleura.anonymizer.errors import IodBroken
from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.text import Seeds
from pleura.anonymizer.wire import Element
from tests.builders.identified import CT, project_key

SECONDARY = "1.2.840.10008.5.1.4.1.1.7.2"


def context() -> Context:
    return Context(
        rules=load_rules(),
        profile=load_profile("gdpr_pseudonymous"),
        key=project_key(),
        seeds=Seeds(),
        shift_days=3,
        tally=Tally(),
    )


def test_a_complete_object_is_left_as_it_is() -> None:
    elements = [Element(0x00080060, "CS", b"CT")]
    assert complete(CT, elements, elements, context()) == elements
    assert complete("1.2.3", elements, [], context()) == []


def test_type_two_comes_back_empty_and_type_one_as_a_dummy() -> None:
    before = [
        Element(0x00080008, "CS", b"ORIGINAL\\QUIBBLE"),
        Element(0x00080060, "CS", b"CT"),
        Element(0x00180060, "DS", b"120 "),
        Element(0x00200011, "IS", b"7 "),
    ]
    work = context()
    after = complete(CT, before, [Element(0x00080060, "CS", b"CT")], work)
    assert {e.tag: bytes(e.value) for e in after} == {
        0x00080008: b"ANONYMIZED",
        0x00080060: b"CT",
        0x00180060: b"",
        0x00200011: b"",
    }
    assert [e.tag for e in after] == sorted(e.tag for e in after)
    assert work.tally.actions == {"dummy": 1, "emptied": 2}


def test_text_nobody_looked_for_may_be_there() -> None:
    before = [Element(0x00280301, "CS", b"NO"), Element(0x00280008, "IS", b"1 ")]
    after = complete(SECONDARY, before, before[1:], context())
    assert [bytes(e.value) for e in after if e.tag == 0x00280301] == [b"YES"]


@pytest.mark.parametrize("tag", [0x00280010, 0x00080018])
def test_an_object_without_its_essentials_is_refused(tag: int) -> None:
    with pytest.raises(IodBroken):
        complete(CT, [Element(tag, "US", b"\1\0")], [], context())


def test_a_number_is_never_invented() -> None:
    with pytest.raises(IodBroken):
        complete(CT, [Element(0x00281052, "DS", b"-1024 ")], [], context())


def test_items_are_completed_one_by_one() -> None:
    code = [Element(0x00080100, "SH", b"T-1 "), Element(0x00080104, "LO", b"Quibble ")]
    before = [Element(0x00082218, "SQ", items=[code, code])]
    left = [[code[0], Element(0x00080104, "LO", b"")], code, []]
    after = complete(CT, before, [Element(0x00082218, "SQ", items=left)], context())
    assert after[0].items is not None
    assert [[bytes(e.value) for e in item] for item in after[0].items] == [
        [b"T-1 ", b"ANONYMIZED"],
        [b"T-1 ", b"Quibble "],
        [],
    ]


def test_a_sequence_that_was_none_cannot_be_completed() -> None:
    before = [Element(0x52009229, "UN", b"ab")]
    with pytest.raises(IodBroken, match=r"\(5200,9229\)"):
        complete("1.2.840.10008.5.1.4.1.1.2.1", before, [], context())


def test_what_the_definition_does_not_want_back_stays_away() -> None:
    before = [Element(0x00104000, "LT", b"note"), Element(0x00080060, "CS", b"CT")]
    assert complete(CT, before, before[1:], context()) == before[1:]
