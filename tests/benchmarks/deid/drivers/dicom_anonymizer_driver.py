"""dicom-anonymizer as its command line runs it: private tags deleted, no rules of one's own.

`--rules` names the edition of the standard whose rules apply; the command line's is 2023, the
newest that the package holds is 2026c.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from dicomanonymizer.simpledicomanonymizer import anonymize_dicom_file, initialize_actions
from folder_run import Work, drive, parser


def begin(edition: str) -> Work:
    """Return the work under the rules of `edition`."""
    rules = partial(initialize_actions, f"dicomfields_{edition}")

    def deidentify(source: Path, out: Path) -> Path:
        target = out / source.name
        anonymize_dicom_file(str(source), str(target), {}, True, base_rules_gen=rules)
        return target

    return deidentify


if __name__ == "__main__":
    command = parser(__doc__)
    command.add_argument("--rules", choices=("2023", "2024b", "2026c"), default="2023")
    given = command.parse_args()
    drive(given, partial(begin, given.rules))
