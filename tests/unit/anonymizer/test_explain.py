"""Which rule decides, and that values show only when asked for."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import get_args

import pytest
from pydicom.sequence import Sequence

from pleura.anonymizer.encoding import DicomFile, Element, syntax_of
from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.errors import NotDicom
from pleura.anonymizer.explain import (
    LEGEND,
    Explained,
    RuleSource,
    explain,
    explain_parsed,
    legend_of,
    refusal_of,
    rule_source,
)
from pleura.anonymizer.profile import Profile, load_profile
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.wire import parse_file
from tests.builders.identified import ct_dataset, item, project_key, write

EXPLICIT_LITTLE, EXPLICIT_BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
GDPR = load_profile("gdpr_pseudonymous")
RESEARCH = load_profile("research_dates")
HIPAA = load_profile("hipaa_safe_harbor")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    ds = ct_dataset()
    ds.PatientName, ds.StudyDate, ds.Manufacturer = "Quibbleworth^Ludmilla", "20200131", "ACME"
    ds.AnatomicRegionSequence = Sequence([item(CodeValue="T-28000", CodeMeaning="Lung")])
    ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    ds.add_new(0x0019100C, "IS", "1000")
    ds.add_new(0x00191008, "CS", "IMAGE NUM 4")
    return write(tmp_path / "a.dcm", ds)


def by_path(found: list[Explained]) -> dict[str, Explained]:
    return {one.path: one for one in found}


def test_each_element_is_named_with_its_rule_and_without_its_value(source: Path) -> None:
    found = list(explain(source, HIPAA))
    assert all(one.value is None for one in found)
    assert "Quibbleworth" not in repr(found)
    named = by_path(found)
    assert named["(0010,0010)"].action == "pseudonym"
    assert named["(0010,0010)"].source == "row 2024e"
    assert named["(0008,0070)"].source == "keep list"
    assert named["(0008,0018)"].action == "map UID"
    assert named["(0008,2218)"].action == "clean items"
    assert "(0008,2218)[0](0008,0104)" in named
    assert (named["(0019,100C)"].action, named["(0019,100C)"].source) == ("remove", "private")


def test_each_element_has_the_keyword_of_the_dictionary(source: Path) -> None:
    named = by_path(list(explain(source, HIPAA)))
    assert named["(0010,0010)"].keyword == "PatientName"
    assert named["(0008,2218)[0](0008,0104)"].keyword == "CodeMeaning"
    assert named["(0019,100C)"].keyword == named["(0019,0010)"].keyword == ""


def test_every_word_of_a_rule_is_told(source: Path) -> None:
    assert set(get_args(RuleSource)) <= set(LEGEND)
    for profile in (HIPAA, GDPR, RESEARCH):
        for one in explain(source, profile):
            words = legend_of([one])
            assert len(words) == 2, one
            assert all(line.strip() for line in words.values())
    found = legend_of(explain(source, RESEARCH))
    assert set(found) <= set(LEGEND)
    assert "rule of .." in found
    assert "minimal list" not in found  # only what was said


def test_an_option_that_changes_a_row_is_said(source: Path) -> None:
    named = by_path(list(explain(source, RESEARCH)))
    assert (named["(0008,0020)"].action, named["(0008,0020)"].source) == ("shift date", "option")
    assert named["(0019,100C)"].source == "safe private list"
    assert named["(0019,1008)"].source == "private"
    assert named["(0019,0010)"].action == "keep if clean"


def test_the_type_in_the_definition_decides_a_compound_code(source: Path) -> None:
    named = by_path(list(explain(source, HIPAA)))
    assert named["(0008,0020)"].action == "empty"  # type 2 in CT; the code alone would say so
    assert named["(0008,1030)"].action == "clean words"


@pytest.mark.parametrize("profile", [GDPR, RESEARCH], ids=lambda p: p.name)
def test_what_is_said_is_what_happens(source: Path, tmp_path: Path, profile: Profile) -> None:
    result = deidentify_file(source, tmp_path / "out", profile=profile, key=project_key())
    left = {e.tag: e for e in parse_file(FileSource(result.path)).elements}
    was = {e.tag: e for e in parse_file(FileSource(source)).elements}
    written = {0x00100010, 0x00100020, 0x00280303, 0x00120062, 0x00120063, 0x00120064}
    for one in explain(source, profile):
        if "[" in one.path:
            continue
        tag = int(one.path.replace(",", "")[1:9], 16)
        if tag in written:
            continue
        if one.action == "remove":
            assert tag not in left, one
        elif one.action == "empty":
            assert not left[tag].items and not len(left[tag].value), one
        elif one.action in ("map UID", "dummy"):
            assert bytes(left[tag].value) != bytes(was[tag].value), one
        elif one.action == "keep if clean" and tag in left:
            assert bytes(left[tag].value).strip() == bytes(was[tag].value).strip(), one


def test_values_show_when_asked_for_and_pixels_only_as_a_size(source: Path) -> None:
    named = by_path(list(explain(source, GDPR, show_values=True)))
    assert named["(0010,0010)"].value == "Quibbleworth^Ludmilla"
    assert named["(0008,2218)"].value == "1 items"
    assert str(named["(7FE0,0010)"].value).endswith("bytes")
    assert named["(0028,0010)"].value == str(ct_dataset().Rows)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("vr", "form", "numbers", "shown"),
    [
        ("US", "H", [512], "512"),
        ("SS", "h", [-2, 7], "-2\\7"),
        ("UL", "L", [4_000_000_000], "4000000000"),
        ("SL", "l", [-70_000], "-70000"),
        ("UV", "Q", [1 << 63], "9223372036854775808"),
        ("SV", "q", [-1], "-1"),
        ("FL", "f", [0.1, -2.5], "0.1\\-2.5"),
        ("FD", "d", [0.1, 1e-300], "0.1\\1e-300"),
        ("AT", "HH", [0x0010, 0x0020], "(0010,0020)"),
        ("US", "H", [], ""),
        ("US", "H", [10_000] * 40, "\\".join(["10000"] * 10)),  # whole numbers, up to the cut
    ],
)
def test_numbers_show_as_numbers_in_the_byte_order_of_the_file(
    order: str, vr: str, form: str, numbers: list[float], shown: str
) -> None:
    value = struct.pack(order + form * max(1, len(numbers) // len(form)), *numbers or [0])
    element = Element(0x00280010, vr, value if numbers else b"")
    syntax = EXPLICIT_BIG if order == ">" else EXPLICIT_LITTLE
    parsed = DicomFile([], [element], syntax, syntax_of(syntax))
    (one,) = explain_parsed(parsed, GDPR, show_values=True)
    assert one.value == shown


def test_bytes_that_are_no_whole_numbers_show_as_a_size() -> None:
    parsed = DicomFile([], [Element(0x00280010, "US", b"abc")], EXPLICIT_LITTLE)
    (one,) = explain_parsed(parsed, GDPR, show_values=True)
    assert one.value == "3 bytes"


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (0x00081301, "row 2026c"),
        (0x00100033, "house"),
        (0x00140023, "house group"),
        (0x60003000, "structure"),
        (0x00080000, "structure"),
        (0x00091001, "private"),
        (0x7776_0010, "no rule"),
    ],
)
def test_where_a_rule_stands(tag: int, expected: str) -> None:
    assert rule_source(load_rules(), HIPAA, tag, "LO") == expected


def test_the_minimal_list_is_named_where_it_removes_a_kept_attribute() -> None:
    rules = load_rules()
    cut = next(t for t in rules.kept if t >> 16 not in rules.minimal_groups)
    assert rule_source(rules, GDPR, cut, "LO") == "minimal list"
    assert rule_source(rules, HIPAA, cut, "LO") == "keep list"


def test_a_file_that_is_no_dicom_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(bytes(400))
    with pytest.raises(NotDicom):
        list(explain(path, GDPR))


def test_pixels_in_a_sequence_and_items_that_tell_of_a_person_are_said_to_go(
    tmp_path: Path,
) -> None:
    ds = ct_dataset()
    age = item(ConceptNameCodeSequence=Sequence([item(CodeValue="121033", CodeMeaning="Age")]))
    ds.ContentSequence = Sequence([item(TextValue="lung"), age])
    picture = item(Rows=1)
    picture.add_new(0x7FE00010, "OW", b"\1\2")
    ds.SourceImageSequence = Sequence([picture])
    named = by_path(list(explain(write(tmp_path / "b.dcm", ds), GDPR)))
    nested = named["(0008,2112)[0](7FE0,0010)"]
    assert (nested.action, nested.source) == ("remove", "misplaced")
    assert (named["(0040,A730)[1]"].action, named["(0040,A730)[1]"].source) == (
        "remove", "telling item",
    )  # fmt: skip
    assert not [path for path in named if path.startswith("(0040,A730)[1](")]


def test_what_is_written_anew_and_times_that_stay_are_called_so(source: Path) -> None:
    found = by_path(list(explain(source, GDPR)))
    assert {found[path].action for path in ("(0010,0010)", "(0010,0020)")} == {"pseudonym"}
    assert found["(0008,0020)"].action == "shift date"
    assert found["(0008,0030)"].action == "keep time"
    moved = GDPR.model_copy(update={"shift_time": True})
    assert by_path(list(explain(source, moved)))["(0008,0030)"].action == "shift date"


def test_a_file_that_would_be_refused_is_called_so(source: Path, tmp_path: Path) -> None:
    assert refusal_of(source) == ""
    head = write(tmp_path / "head.dcm", ct_dataset(BodyPartExamined="HEAD"))
    assert refusal_of(head) == "FACE_IN_FIELD"
    unnamed = write(tmp_path / "unnamed.dcm", ct_dataset(StudyInstanceUID=None))
    assert refusal_of(unnamed) == "NO_SOP_UID"
