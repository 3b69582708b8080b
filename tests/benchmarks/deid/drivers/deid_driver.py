"""pydicom's deid with the recipe it ships, `deid.dicom`, as its documentation uses it.

Pixels first: a file that a rule of the recipe flags has its boxes blanked. Then the header,
private tags removed, with the four values that the recipe wants from its user: numbered
names, and dates moved by one drawn number of days. `--headers-only` leaves the pixels out.
"""

from __future__ import annotations

import os

os.environ["MESSAGELEVEL"] = "0"  # read when deid is imported: its warnings name values

import random
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from deid.config import DeidRecipe
from deid.dicom import replace_identifiers
from deid.dicom.pixels import DicomCleaner
from folder_run import Work, drive, parser
from pydicom import Dataset, dcmread

_WANTED = ["PatientID", "AccessionNumber", "PatientBirthDate", "StudyDate"]


class Names:
    """The values of one run: the same for the same patient or item."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._shift = timedelta(days=random.SystemRandom().randint(1, 365))

    def values(self, source: Path) -> dict[str, str]:
        """Return what the recipe's `var:` names stand for in this file."""
        ds = dcmread(source, specific_tags=_WANTED, stop_before_pixels=True)
        found = {
            "entity_id": self._number("entity", ds, "PatientID"),
            "item_id": self._number("item", ds, "AccessionNumber"),
        }
        for name, keyword in (("entity", "PatientBirthDate"), ("item", "StudyDate")):
            found[f"{name}_timestamp"] = self._moved(str(ds.get(keyword, "")))
        return found

    def _number(self, kind: str, ds: Dataset, keyword: str) -> str:
        key = (kind, str(ds.get(keyword, "")))
        return f"{kind}-{self._numbers.setdefault(key, len(self._numbers) + 1)}"

    def _moved(self, value: str) -> str:
        try:
            day = datetime.strptime(value, "%Y%m%d")
        except ValueError:
            return ""  # no date, none returned
        return f"{day - self._shift:%Y%m%d}"


def begin(headers_only: bool, scratch: Path) -> Work:
    """Return the work of one run."""
    recipe, names = DeidRecipe(), Names()

    def blanked(source: Path) -> Path:
        cleaner = DicomCleaner(output_folder=str(scratch), deid=recipe.deid)
        if not cleaner.detect(str(source))["flagged"]:
            return source
        cleaner.clean()
        return Path(cleaner.save_dicom())

    def deidentify(source: Path, out: Path) -> Path:
        ids = names.values(source)
        clean = source if headers_only else blanked(source)
        written = replace_identifiers(
            dicom_files=[str(clean)], ids={str(clean.resolve()): ids}, deid=recipe, save=True,
            output_folder=str(out), overwrite=True, remove_private=True,
        )  # fmt: skip
        return Path(written[0])

    return deidentify


if __name__ == "__main__":
    command = parser(__doc__)
    command.add_argument("--headers-only", action="store_true")
    given = command.parse_args()
    scratch = given.out.with_name(given.out.name + ".blanked")
    drive(given, partial(begin, given.headers_only, scratch))
