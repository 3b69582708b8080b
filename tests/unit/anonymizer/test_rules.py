"""The committed rule tables and how a row is resolved."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import pytest

from pleura.anonymizer import rules as rules_module
from pleura.anonymizer.errors import RulesDamaged, UnknownProfile
from pleura.anonymizer.profile import PROFILE_NAMES, load_profile
from pleura.anonymizer.rules import load_rules

TABLES = files("pleura.anonymizer") / "tables"
PART15 = json.loads((TABLES / "part15.json").read_text())
ROWS = PART15["rows"]
GDPR, RESEARCH, HIPAA = map(
    load_profile, ("gdpr_pseudonymous", "research_dates", "hipaa_safe_harbor")
)


def _tool() -> ModuleType:
    path = Path(__file__).parents[3] / "tools" / "build_rules.py"
    spec = importlib.util.spec_from_file_location("build_rules", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_2024e_rows_have_the_published_counts() -> None:
    rows = [row for row in ROWS.values() if row["edition"] == "2024e"]
    assert len(rows) == 621
    assert Counter(row["basic"] for row in rows) == {
        "X": 384, "D": 92, "U": 54, "Z": 42, "X/D": 22, "X/Z": 11, "X/Z/D": 8, "Z/D": 6,
        "X/Z/U*": 2,
    }  # fmt: skip
    assert {k for k, row in ROWS.items() if row["basic"] == "X/Z/U*"} == {"00081140", "00082112"}


def test_the_2026c_rows_have_the_published_counts() -> None:
    rows = [row for row in ROWS.values() if row["edition"] != "house"]
    counts = Counter(row["basic"] for row in rows)
    assert len(rows) == 656
    assert (counts["X"], counts["D"], counts["U"], counts["X/D"]) == (416, 93, 55, 23)


def test_the_options_have_the_published_counts() -> None:
    published = [row for row in ROWS.values() if row["edition"] != "house"]
    counts = Counter((o, a) for row in published for o, a in row["options"].items())
    assert counts == {
        ("modified_dates", "C"): 165, ("full_dates", "K"): 165, ("descriptors", "C"): 125,
        ("uids", "K"): 59, ("device", "K"): 46, ("device", "C"): 11, ("institution", "K"): 10,
        ("patient_chars", "K"): 9, ("patient_chars", "C"): 4, ("structured", "C"): 3,
        ("graphics", "C"): 4, ("safe_private", "C"): 1,
    }  # fmt: skip


def test_masks_are_rows_and_house_rows_do_not_repeat_the_table() -> None:
    assert {"50XXXXXX", "60XX3000", "60XX4000", "PRIVATE"} <= set(ROWS)
    assert {"00181003", "300A0054", "00100033"} <= set(ROWS)
    keep = json.loads((TABLES / "keep.json").read_text())["keep"]
    kept = {group + member for group, members in keep.items() for member in members}
    assert not kept & set(ROWS)
    assert not {k for k in kept if k.startswith(("0014", "4010"))}


def test_the_tables_are_what_the_tool_builds(tmp_path: Path) -> None:
    from tests.builders.shared_data import shared_data

    source = shared_data("ps315_table_e1_1.json")
    tool = _tool()
    part15 = tool.build_part15(json.loads(source.read_text()))
    assert tool.render(part15) == (TABLES / "part15.json").read_text()
    assert tool.render(tool.build_keep(part15)) == (TABLES / "keep.json").read_text()


def test_the_tool_refuses_a_row_listed_twice() -> None:
    tool = _tool()
    row = {"tag": "(0008,1301)", "name": "n", "basic": "X"} | dict.fromkeys(tool.OPTION_COLUMNS, "")
    with pytest.raises(ValueError, match="twice"):
        tool.build_part15({"rows": [row], "source": "test"})


@pytest.mark.parametrize(
    ("tag", "vr", "action"),
    [
        (0x00080050, "SH", "Z"),
        (0x00181030, "LO", "C"),
        (0x00080018, "UI", "U"),
        (0x00081140, "SQ", "recurse"),
        (0x00080020, "DA", "shift"),
        (0x00080070, "LO", "vr"),
        (0x0040A730, "SQ", "recurse"),
        (0x00091001, "LO", "X"),
        (0x00080000, "UL", "X"),
        (0x00000002, "UI", "X"),
        (0x60000010, "US", "X"),
        (0x50003000, "OW", "X"),
        (0x00140023, "ST", "X"),
        (0x00080099, "LO", "X"),
        (0x00200052, "UI", "U"),
        (0x00321060, "LO", "C"),
        (0x00720002, "SH", "X"),
        (0x00280010, "US", "vr"),
        (0x52009229, "SQ", "recurse"),
    ],
)
def test_gdpr_resolves_a_tag_to_one_action(tag: int, vr: str, action: str) -> None:
    assert load_rules().resolve(tag, vr, GDPR) == action


def test_options_change_a_row_and_nothing_else() -> None:
    rules = load_rules()
    assert rules.resolve(0x00080020, "DA", HIPAA) == "Z"
    assert rules.resolve(0x0040A730, "SQ", HIPAA) == "D"
    assert rules.resolve(0x00101010, "AS", HIPAA) == "X"
    assert rules.resolve(0x00101010, "AS", RESEARCH) == "K"
    assert rules.resolve(0x00181000, "LO", RESEARCH) == "K"
    assert rules.resolve(0x00181200, "DA", RESEARCH) == "shift"  # a kept device's dates move
    assert rules.resolve(0x0018100A, "SQ", RESEARCH) == "recurse"
    assert rules.resolve(0x00102110, "LO", RESEARCH) == "C"  # Clean beats Retain
    assert rules.resolve(0x00080055, "AE", RESEARCH) == "X"
    assert rules.resolve(0x00720002, "SH", RESEARCH) == "vr"
    assert 0x00181000 in rules.retained(RESEARCH)
    assert not rules.retained(GDPR)


def test_a_sequence_cleaned_as_structure_is_emptied_if_it_is_no_sequence() -> None:
    assert load_rules().resolve(0x0040A730, "UN", GDPR) == "D"


def test_only_options_that_are_done_are_claimed() -> None:
    claimed = {name: load_profile(name).method_codes(pixels_read=False) for name in PROFILE_NAMES}
    assert claimed == {
        "hipaa_safe_harbor": ("113100", "113105"),
        "gdpr_pseudonymous": ("113100", "113103", "113104", "113105", "113107"),
        "research_dates": ("113100", "113105", "113107", "113108", "113109", "113111"),
    }


def test_a_task_may_declare_patient_characteristics() -> None:
    declared = GDPR.with_patient_characteristics()
    assert "113108" in declared.method_codes(pixels_read=False)
    assert load_rules().resolve(0x00100040, "CS", declared) == "K"
    assert declared.digest != GDPR.digest


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(UnknownProfile):
        load_profile("../../etc/passwd")


def test_a_damaged_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "_read", lambda name: b'{"rows": {}}')
    load_rules.cache_clear()
    try:
        with pytest.raises(RulesDamaged):
            load_rules()
    finally:
        load_rules.cache_clear()
