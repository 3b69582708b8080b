"""dicognito as its command line runs it: one Anonymizer for the folder, no seed."""

from __future__ import annotations

from pathlib import Path

from dicognito.anonymizer import Anonymizer
from folder_run import Work, drive, parser
from pydicom import dcmread


def begin() -> Work:
    """Return the work of one run; all files share its pseudonyms."""
    anonymizer = Anonymizer()

    def deidentify(source: Path, out: Path) -> Path:
        target = out / source.name
        with dcmread(source, force=False) as ds:
            anonymizer.anonymize(ds)
            ds.save_as(target, enforce_file_format=True)
        return target

    return deidentify


if __name__ == "__main__":
    drive(parser(__doc__).parse_args(), begin)
