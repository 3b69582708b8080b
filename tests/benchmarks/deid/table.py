"""Table E.1-1 of PS3.15 as the bench reads it: straight from the standard's extract.

Edition 2024e comes from a JSON extract; the 35 attributes that editions up to 2026c add are
listed here with their VRs, since dictionaries lag behind. Nothing is read from the rule
tables of the de-identifier under test: a row that it lost must show up as a leak.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.datadict import DicomDictionary

OPTIONS = (
    "rtn_safe_priv", "rtn_uids", "rtn_dev_id", "rtn_inst_id", "rtn_pat_chars",
    "rtn_long_full_dates", "rtn_long_modif_dates", "clean_desc", "clean_struct_cont",
    "clean_graph",
)  # fmt: skip

# tag, VR, basic action; none of them has an option
ADDED_2026C = """
00081301 SQ X, 00081302 SQ X, 00081303 SQ X, 00081304 SQ X, 00100011 SQ X, 00100012 LT X,
00100013 LT X, 00100014 SQ X, 00100015 SQ X, 00100016 LT X, 00100041 SQ X, 00100042 LT X,
00100043 SQ X, 00100044 SQ X, 00100045 LT X, 00100046 SQ X, 00100047 UR X, 00102161 SQ X,
00102162 UC X, 00181010 LO X, 00181011 LO X, 003A0020 SH X, 003A0203 SH X, 003A020C ST X,
00400556 ST X, 0040A034 DT X, 0040A035 DT X, 0040B020 SQ X/D, 0040B034 DT X, 0040B036 DT X,
0040B03B SH X, 0040B03F SH X, 0040E012 UR X, 00700006 ST D, 300A0054 UI U
"""
_TAG = re.compile(r"\(([0-9A-F]{4}),([0-9A-F]{4})\)")


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute; `options` maps an option column to C (clean) or K (keep)."""

    tag: int
    vr: str
    basic: str
    options: Mapping[str, str] = field(default_factory=dict)

    def is_kept_by(self, active: frozenset[str]) -> bool:
        """Return whether the active options keep the value as it is; Clean beats Retain."""
        codes = {self.options[name] for name in active if name in self.options}
        return "K" in codes and "C" not in codes

    def is_cleaned_by(self, active: frozenset[str]) -> bool:
        """Return whether an active option cleans the value instead of the basic action."""
        return any(self.options.get(name) == "C" for name in active)


def added_rows() -> tuple[Row, ...]:
    """Return the rows that editions after 2024e added."""
    fields = (entry.split() for entry in ADDED_2026C.replace("\n", " ").split(","))
    return tuple(Row(int(tag, 16), vr, basic) for tag, vr, basic in fields)


def read_table(path: Path) -> tuple[Row, ...]:
    """Return every row with a tag of its own, ascending, masks and private left out.

    Groups below 0008 are left out too: they belong to file meta, directories and commands.

    Raises:
        ValueError: the file does not hold the 621 rows of edition 2024e.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["edition"] != "2024e" or len(record["rows"]) != 621:
        raise ValueError("not the table of edition 2024e")
    rows = []
    for entry in record["rows"]:
        match = _TAG.fullmatch(entry["tag"])
        if match is None or match[1] < "0008":
            continue
        tag = int(match[1] + match[2], 16)
        vr = DicomDictionary[tag][0].split(" or ")[0]
        options = {name: entry[name] for name in OPTIONS if entry[name]}
        rows.append(Row(tag, vr, entry["basic"], options))
    return tuple(sorted((*rows, *added_rows()), key=lambda row: row.tag))
