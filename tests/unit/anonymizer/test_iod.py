"""Types of attributes per object definition, and what an output must not have lost."""

from __future__ import annotations

import pytest

from pleura.anonymizer import iod
from pleura.anonymizer.errors import RulesDamaged
from pleura.anonymizer.iod import attribute_type, load_types, missing_required
from pleura.anonymizer.wire import Element

CT = "1.2.840.10008.5.1.4.1.1.2"
DIRECTORY = "1.2.840.10008.1.3.10"  # has no SOP instance
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
NAME, PATIENT_ID, MODALITY, TRIAL_ID = 0x00100010, 0x00100020, 0x00080060, 0x00120020
STUDIES, SOP_CLASS, SOP_UID = 0x00081110, 0x00081150, 0x00081155


@pytest.mark.parametrize(
    ("path", "tag", "expected"),
    [
        ((), NAME, "2"),
        ((), 0x00080018, "1"),
        ((), 0x0008103E, "3"),
        ((), 0x00180010, "2C"),  # contrast agent: type 2 of a conditional module
        ((), TRIAL_ID, "1C"),  # trial protocol: type 1 of an optional module
        ((), 0x00201040, "2"),  # position reference indicator
        ((STUDIES,), SOP_UID, "1"),
        ((), 0x00540081, "3"),  # number of slices: of PET, not of CT
        ((STUDIES,), NAME, "3"),
        ((NAME,), SOP_UID, None),  # not a sequence
    ],
)
def test_types_in_a_ct_image(path: tuple[int, ...], tag: int, expected: str | None) -> None:
    assert attribute_type(CT, path, tag) == expected


def test_items_of_functional_groups_are_known() -> None:
    assert attribute_type(ENHANCED_CT, (0x52009230, 0x00209111), 0x00189074) == "1C"


def test_an_unknown_class_has_no_types_and_misses_nothing() -> None:
    assert attribute_type("1.2.3", (), NAME) is None
    assert missing_required("1.2.3", [Element(NAME, "PN", b"A")], []) == []


def test_a_required_attribute_that_is_gone_or_emptied_is_named() -> None:
    before = [Element(NAME, "PN", b""), Element(MODALITY, "CS", b"CT")]
    assert missing_required(CT, before, before) == []
    assert missing_required(CT, before, [Element(MODALITY, "CS", b"CT")]) == [((), NAME)]
    assert missing_required(CT, before, before[:1]) == [((), MODALITY)]
    emptied = [before[0], Element(MODALITY, "CS", b"")]
    assert missing_required(CT, before, emptied) == [((), MODALITY)]


def test_a_conditional_attribute_may_go_but_not_be_emptied() -> None:
    sponsor_id = Element(TRIAL_ID, "LO", b"T1")
    assert missing_required(CT, [sponsor_id], []) == []
    assert missing_required(CT, [sponsor_id], [Element(TRIAL_ID, "LO")]) == [((), TRIAL_ID)]
    assert missing_required(CT, [Element(TRIAL_ID, "LO")], [Element(TRIAL_ID, "LO")]) == []


def test_what_the_input_lacked_is_not_missed() -> None:
    assert missing_required(CT, [Element(MODALITY, "CS", b"")], []) == []


def test_an_optional_module_may_go_whole_but_not_in_part() -> None:
    sponsor = 0x00120010
    before = [Element(sponsor, "LO", b"ACME"), Element(TRIAL_ID, "LO", b"T1")]
    assert missing_required(CT, before, []) == []
    assert missing_required(CT, before, before[:1]) == [((), TRIAL_ID)]


def test_items_are_compared_and_a_removed_sequence_is_not() -> None:
    whole = [Element(SOP_CLASS, "UI", CT.encode()), Element(SOP_UID, "UI", b"1.2")]
    before = [Element(STUDIES, "SQ", items=[whole, whole])]
    after = [Element(STUDIES, "SQ", items=[whole, whole[:1]])]
    assert missing_required(CT, before, after) == [((STUDIES,), SOP_UID)]
    assert missing_required(CT, before, []) == []
    assert missing_required(CT, before, [Element(STUDIES, "SQ", items=[])]) == []


def test_every_tree_of_the_table_is_reached_and_every_module_is_there() -> None:
    table = load_types()
    assert len(table.sop_classes) == 180
    assert set(table.sop_classes.values()) == set(table.iods)
    assert {m for modules in table.iods.values() for m in modules} == set(table.modules)
    inner = {int(p.partition(">")[2]) for t in table.trees for p in t.split() if ">" in p}
    assert inner | set(table.modules.values()) == set(range(len(table.trees)))
    for uid in set(table.sop_classes) - {DIRECTORY}:
        assert attribute_type(uid, (), 0x00080018) == "1"


def test_a_damaged_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    load_types.cache_clear()
    monkeypatch.setattr(iod, "json", type("Broken", (), {"loads": staticmethod(lambda _: {})}))
    try:
        with pytest.raises(RulesDamaged):
            load_types()
    finally:
        load_types.cache_clear()
