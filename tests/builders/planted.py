"""A small planted corpus: one invented CT a patient, and a table of a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.deid.manifest import Corpus
from tests.benchmarks.deid.planting import Case, Planter
from tests.benchmarks.deid.table import Row
from tests.benchmarks.deid.tokens import Tokens
from tests.builders.identified import ct_dataset, write

_MOVED = {"rtn_long_modif_dates": "C", "rtn_long_full_dates": "K"}
ROWS = (
    Row(0x00080014, "UI", "U", {"rtn_uids": "K"}),
    Row(0x00080018, "UI", "U", {"rtn_uids": "K"}),
    Row(0x00080020, "DA", "Z", _MOVED),
    Row(0x00080022, "DA", "X/Z", _MOVED),
    Row(0x00080030, "TM", "Z", _MOVED),
    Row(0x00080050, "SH", "Z"),
    Row(0x00080090, "PN", "Z"),
    Row(0x00081030, "LO", "X", {"clean_desc": "C"}),
    Row(0x0008103E, "LO", "X", {"clean_desc": "C"}),
    Row(0x00081110, "SQ", "X/Z"),
    Row(0x00082111, "ST", "X", {"clean_desc": "C"}),
    Row(0x00100010, "PN", "Z"),
    Row(0x00100020, "LO", "Z"),
    Row(0x00100030, "DA", "Z"),
    Row(0x00101010, "AS", "X", {"rtn_pat_chars": "K"}),
    Row(0x001021B0, "LT", "X", {"clean_desc": "C"}),
    Row(0x00104000, "LT", "X", {"clean_desc": "C"}),
    Row(0x00181000, "LO", "X/D", {"rtn_dev_id": "K"}),
    Row(0x00181030, "LO", "X/D", {"clean_desc": "C"}),
    Row(0x0020000D, "UI", "U", {"rtn_uids": "K"}),
    Row(0x0020000E, "UI", "U", {"rtn_uids": "K"}),
    Row(0x00204000, "LT", "X", {"clean_desc": "C"}),
    Row(0x00321060, "LO", "X", {"clean_desc": "C"}),
    Row(0x0040A123, "PN", "D"),
    Row(0x0040A160, "UT", "D", {"clean_struct_cont": "C"}),
)


def plant_corpus(
    folder: Path,
    studies: Sequence[str] = ("1.2.3.1",),
    *,
    text: bool = False,
    seed: int = 7,
    extra: Sequence[Row] = (),
) -> Corpus:
    """Plant one file for each study UID below `folder`; equal studies are one patient.

    `text` draws the patient into the pixels; `extra` are more rows of the table.
    """
    source = folder / "source"
    source.mkdir(parents=True)
    for number, study in enumerate(studies):
        ds = ct_dataset(
            StudyInstanceUID=study, SOPInstanceUID=f"{study}.{number}", PatientID="",
            Rows=256, Columns=256,
        )  # fmt: skip
        pixels = np.arange(256 * 256, dtype="<u2") % (1 << int(ds.BitsStored)) // 4
        ds.PixelData = pixels.tobytes()
        write(source / f"{number}.dcm", ds)
    cases = [Case(f"{number}.dcm", text=text) for number in range(len(studies))]
    return Planter((*ROWS, *extra), Tokens(seed)).plant_all(source, cases, folder / "in")
