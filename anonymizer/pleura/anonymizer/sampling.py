"""Sampling: the slices of a series that are looked at for text, as a series shows what it has.

A slice of CT, MR or PET is clean by construction, and reading every one would take longer than
all the rest. So a batch looks at the first, the middle and the last slice of each series, and
has every slice read and cleaned where one of them shows text or cannot be read (DEID 7). The
look leaves no mark in the output: a file's bytes do not depend on what lies beside it, unless
there is text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pleura.anonymizer.burnedin.apply import unburn
from pleura.anonymizer.header import read_header
from pleura.anonymizer.opening import contained, opened
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.seeding import collect_seeds
from pleura.anonymizer.wire import parse_file


def sample_of(slices: Sequence[int]) -> list[int]:
    """Return the first, the middle and the last one."""
    return [slices[index] for index in sorted({0, len(slices) // 2, len(slices) - 1})]


def shows_text(path: Path, profile: Profile, folder: Path) -> bool:
    """Return whether the pixels of a file hold text, markers included; nothing is written.

    `folder` is where what is large is spooled.

    Raises:
        Quarantined: the pixels cannot be read, or their text could not be taken out.
        DiskFull: no room.
    """
    with contained(), opened(path) as source:
        parsed = parse_file(source, spool=folder)
        header = read_header(parsed)
        seeds = collect_seeds(parsed.elements, load_rules(), profile, parsed.meta)
        reading = unburn(parsed, header, seeds, "all", folder).reading
    return reading is not None and reading.boxes + reading.markers > 0
