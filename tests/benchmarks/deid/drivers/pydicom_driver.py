"""Reads and saves every file with pydicom and changes nothing: the yardstick of the speed table."""

from __future__ import annotations

from pathlib import Path

from folder_run import drive, parser
from pydicom import dcmread


def read_and_save(source: Path, out: Path) -> Path:
    """Read a file and write it again under its own name."""
    target = out / source.name
    dcmread(source).save_as(target)
    return target


if __name__ == "__main__":
    drive(parser(__doc__).parse_args(), lambda: read_and_save)
