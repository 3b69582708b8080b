"""Pleura file by file and without fsync, as the others write: for the speed table only."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from folder_run import Work, drive, parser

from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.mapping import open_pseudonyms
from pleura.anonymizer.profile import PROFILE_NAMES, load_profile
from pleura.anonymizer.pseudonyms import ProjectKey


def begin(profile_name: str, mapping: Path) -> Work:
    """Return the work of one run under a profile, with a key of its own."""
    profile = load_profile(profile_name)
    names = open_pseudonyms(profile, ProjectKey.from_bytes(bytes(range(32))), mapping)

    def deidentify(source: Path, out: Path) -> Path:
        return deidentify_file(source, out, profile=profile, key=names, fsync=False).path

    return deidentify


if __name__ == "__main__":
    command = parser(__doc__)
    command.add_argument("--profile", choices=PROFILE_NAMES, default="gdpr_pseudonymous")
    given = command.parse_args()
    mapping = given.out.with_name(given.out.name + ".map.db")
    drive(given, partial(begin, given.profile, mapping))
