"""One element at a time: dummies, mapped UIDs and the rules per VR."""

from __future__ import annotations

import pytest

from pleura.anonymizer.actions import BLANK_PDF, Context, Tally, by_representation, dummy
from pleura.anonymizer.cleaning import clean
from pleura.anonymizer.profile import Profile, load_profile
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.text import Seeds
from pleura.anonymizer.wire import Element
from tests.builders.identified import project_key

GDPR = load_profile("gdpr_pseudonymous")
RESEARCH = load_profile("research_dates")
HIPAA = load_profile("hipaa_safe_harbor")


def context(profile: Profile = GDPR) -> Context:
    seeds = Seeds(terms=load_rules().defined_terms)
    seeds.add_name("Quibbleworth")
    seeds.add_identifier("998877")
    return Context(
        rules=load_rules(),
        profile=profile,
        key=project_key(),
        seeds=seeds,
        shift_days=-18,
        tally=Tally(),
    )


@pytest.mark.parametrize(
    ("tag", "vr", "value", "left"),
    [
        (0x00080070, "LO", b"ACME", b"ACME"),
        (0x00080070, "LO", b"Quibbleworth", b""),
        (0x00080070, "LO", b"call 030 123 4567", b"call"),
        (0x00080070, "DS", b"1", None),
        (0x00080070, "ST", b"ACME", None),
        (0x00080100, "SH", b"113100", b"113100"),
        (0x00080100, "SH", b"998877", b""),
        (0x00080060, "CS", b"CT", b"CT"),
        (0x00180015, "CS", b"Chest", None),
        (0x00180015, "CS", b"QUIBBLEWORTH", None),
        (0x00180015, "LO", b"MRN-4711-0815", None),  # a code in the dictionary, whatever it says
        (0x00180015, "LO", b"CHEST", b"CHEST"),
        (0x00080070, "CS", b"ACME CALL 030 123 4567", b"ACME CALL"),  # and no code in it
        (0x00080070, "CS", b"ACME", b"ACME"),
        (0x00080008, "CS", b"ORIGINAL\\PRIMARY", b"ORIGINAL\\PRIMARY"),
        (0x00180050, "DS", b"1.25 ", b"1.25 "),
        (0x00180050, "DS", b"", b""),
        (0x00180050, "DS", b"+1.5e-3\\2", b"+1.5e-3\\2"),
        (0x00180050, "DS", b"thick", None),
        (0x00200013, "IS", b"998877", b"0"),
        (0x00181151, "IS", b"998877", None),
        (0x00280010, "US", b"\x08\x00", b"\x08\x00"),
        (0x00280009, "AT", b"\x18\x00\x63\x10", b"\x18\x00\x63\x10"),
        (0x00280010, "US", b"\x08\x00\x09", None),
        (0x00280002, "UL", b"\x01\x00", None),
        (0x00181271, "FD", bytes(12), None),
        (0x7FE00010, "OW", b"ab", b"ab"),
        (0x00282000, "OB", b"ab", None),
        (0x00020016, "AE", b"STORE", None),
        (0x00081190, "UR", b"http://x", None),
        (0x0040A160, "UT", b"Quibbleworth", b"ANONYMIZED"),
        (0x0040A160, "UT", b"seen by Quibbleworth", b"seen by"),
        (0x00620020, "UT", b"lesion of Quibbleworth", b"lesion of"),
        (0x00620020, "UT", b"Quibbleworth", b"ANONYMIZED"),
        (0x00189080, "ST", b"Quibbleworth", b"ANONYMIZED"),
        (0x00189424, "LT", b"Wimbrack", None),
        (0x00080106, "DT", b"20200131", b"20200113"),
        (0x00080005, "CS", b"ISO_IR 192", b"ISO_IR 192"),
        (0x00080005, "CS", b"QUIBBLEWORTH", None),
        (0x00101010, "AS", b"092Y", None),
        (0x00081155, "UI", b"1.2.3.4", b"2.25.72442358335597599881953726559594152245"),
        (0x00081150, "UI", b"1.2.840.10008.1.1\0", b"1.2.840.10008.1.1"),
    ],
)
def test_the_rule_of_a_representation(tag: int, vr: str, value: bytes, left: bytes | None) -> None:
    result = by_representation(Element(tag, vr, value), (), context(), is_retained=False)
    assert (None if result is None else bytes(result.value)) == left


def test_bytes_that_make_no_number_are_counted_as_invalid() -> None:
    for_one = context()
    assert (
        by_representation(Element(0x00280002, "UL", b"\1\0"), (), for_one, is_retained=False)
        is None
    )
    assert for_one.tally.invalid_values == 1


def test_a_character_set_sent_under_another_representation_is_written_as_its_own() -> None:
    sent = Element(0x00080005, "US", b"ISO_IR 192")
    assert by_representation(sent, (), context(), is_retained=False) == Element(
        0x00080005, "CS", b"ISO_IR 192"
    )
    unknown = Element(0x00080005, "US", b"QUIBBLEWORTH")
    assert by_representation(unknown, (), context(), is_retained=False) is None


@pytest.mark.parametrize(
    ("tag", "vr", "value", "left"),
    [
        (0x00181000, "LO", b"1234567", b"1234567"),
        (0x00181000, "LO", b"Quibbleworth", b""),
        (0x00181002, "UI", b"1.2.3.4", b"1.2.3.4"),
        (0x00101010, "AS", b"092Y", b"090Y"),
        (0x00101010, "AS", b"", b""),
        (0x00101010, "AS", b"old", None),
        (0x00500020, "LO", b"pump no 12345", b"pump no 12345"),
    ],
)
def test_what_an_option_keeps_is_still_checked(
    tag: int, vr: str, value: bytes, left: bytes | None
) -> None:
    result = by_representation(Element(tag, vr, value), (), context(RESEARCH), is_retained=True)
    assert (None if result is None else bytes(result.value)) == left


def test_dates_without_a_row_go_where_dates_must_go() -> None:
    element = Element(0x00080106, "DT", b"20200131")
    assert by_representation(element, (), context(HIPAA), is_retained=False) is None


@pytest.mark.parametrize(
    ("tag", "vr", "expected"),
    [
        (0x00181030, "LO", b"ANONYMIZED"),
        (0x00080021, "DA", b"19000101"),
        (0x00080031, "TM", b"000000"),
        (0x0008002A, "DT", b"19000101000000"),
        (0x00101010, "AS", b"000Y"),
        (0x00280010, "US", bytes(2)),
        (0x00189087, "FD", bytes(8)),
        (0x00420011, "OB", BLANK_PDF),
        (0x00080018, "UI", b"2.25.72442358335597599881953726559594152245"),
        (0x00181030, "UN", b"ANONYMIZED"),
    ],
)
def test_a_dummy_has_the_form_of_its_representation(tag: int, vr: str, expected: bytes) -> None:
    assert dummy(Element(tag, vr, b"1.2.3.4"), context()).value == expected


def test_a_dummy_sequence_is_one_item_of_dummies() -> None:
    inside = [
        Element(0x00080104, "LO", b"Quibbleworth"),
        Element(0x00080100, "SH", b"Quibbleworth"),
        Element(0x00091001, "LO", b"Quibbleworth"),
        Element(0x00080099, "LO", b"Quibbleworth"),
        Element(0x0040A730, "SQ", items=[[Element(0x00080100, "SH", b"Quibbleworth")]]),
    ]
    made = dummy(Element(0x0040A730, "SQ", items=[inside, inside]), context())
    assert made.items is not None
    assert [e.tag for e in made.items[0]] == [0x00080100, 0x00080104, 0x0040A730]
    assert "Quibbleworth" not in repr(made)
    assert len(made.items) == 1
    assert dummy(Element(0x0040A730, "SQ", items=[]), context()).items == []


def test_a_dummy_of_a_report_item_stays_an_item_of_its_kind_but_holds_no_foreign_code() -> None:
    kept = [(0x0040A010, b"HAS CONCEPT MOD "), (0x0040A040, b"CODE"), (0x0040A050, b"SEPARATE")]
    first = [Element(tag, "CS", value) for tag, value in kept]
    made = dummy(Element(0x0040A730, "SQ", items=[first]), context())
    assert made.items == [first]
    odd = [Element(tag, "CS", b"QUIBBLEWORTH") for tag, _ in kept]
    other = dummy(Element(0x0040A730, "SQ", items=[odd]), context())
    assert other.items is not None
    assert {bytes(e.value) for e in other.items[0]} == {b"ANONYMIZED"}
    assert bytes(dummy(Element(0x00100040, "CS", b"F "), context()).value) == b"ANONYMIZED"


def test_a_tag_stays_once_and_in_order() -> None:
    elements = [
        Element(0x00080070, "LO", b"ACME"),
        Element(0x00080060, "CS", b"CT"),
        Element(0x00080070, "LO", b"Quibbleworth Inc"),
    ]
    assert [(e.tag, e.value) for e in clean(elements, context())] == [
        (0x00080060, b"CT"),
        (0x00080070, b"ACME"),
    ]


def test_a_sequence_under_a_value_tag_is_removed() -> None:
    hidden = [[Element(0x00100010, "PN", b"Quibbleworth")]]
    for tag in (0x00080070, 0x00200052, 0x00081090, 0x00101010):
        elements = [Element(tag, "SQ", items=hidden)]
        assert clean(elements, context(RESEARCH)) == []


def test_an_emptied_sequence_has_no_items() -> None:
    made = clean([Element(0x00081110, "SQ", items=[[Element(0x00080100, "SH", b"x")]])], context())
    assert all(e.items == [] for e in made)
