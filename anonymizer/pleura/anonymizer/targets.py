"""Targets: what a batch checks of the places it writes to, before it reads a file.

One output is one key, one profile with its options and one audit; a folder where no batch ever
wrote has to be empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from pleura.anonymizer.audit import AuditLog, cut_back
from pleura.anonymizer.errors import (
    KeysMixed,
    MappingsMixed,
    OutputForeign,
    OutputNotSeparate,
    ProfilesMixed,
)
from pleura.anonymizer.journal import Journal
from pleura.anonymizer.naming import read_name_map
from pleura.anonymizer.pseudonyms import Origin
from pleura.anonymizer.staging import STAGING, DeidJob
from pleura.anonymizer.writable import check_writable
from pleura.common.errors import PleuraError
from pleura.common.files import ensure_private_folder

_OF_A_VOLUME: Final = frozenset({"lost+found", STAGING})


def check_folders(
    source: Path, out: Path, quarantine: Path, told: Mapping[str, Path | None]
) -> None:
    """Refuse folders that overlap; the files of `told`, by option, lead back to people.

    Raises:
        OutputNotSeparate: IN overlaps with another folder, or a file lies in one of the three.
    """
    origin = source.resolve()
    for folder in (out.resolve(), quarantine.resolve()):
        if folder == origin or origin in folder.parents or folder in origin.parents:
            raise OutputNotSeparate("the input folder overlaps with another folder")
    folders = {"input": source, "output": out, "quarantine": quarantine}
    files = [(option, file) for option, file in told.items() if file is not None]
    for option, file in files:
        for name, folder in folders.items():
            if _lies_in(file, folder.resolve()):
                raise OutputNotSeparate(f"the file of {option} lies in the {name} folder")


def _lies_in(file: Path, folder: Path) -> bool:
    """Return whether a file is below a folder, as a link or as what the link leads to."""
    return folder in file.resolve().parents or folder in (file.parent.resolve() / "x").parents


def check_targets(
    out: Path, quarantine: Path, audit: Path, journal: Path, name_map: Path | None
) -> None:
    """Create the folders that are missing and try to write to each.

    A new output folder is taken back where one of them is refused.

    Raises:
        OutputNotSeparate: output and quarantine contain each other.
        WriteRefused: one of them cannot be written.
        StateInsecure: others may enter the quarantine folder.
        OutputForeign: the output holds files and has neither audit nor journal.
        NameMapDamaged: the name map is there and holds something else.
    """
    inside, outside = quarantine.resolve(), out.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise OutputNotSeparate("the quarantine folder and the output folder overlap")
    is_new = not out.exists()
    try:
        _try_targets(out, quarantine, audit, journal, name_map)
    except PleuraError:
        if is_new:
            with suppress(OSError):
                out.rmdir()
        raise


def _try_targets(
    out: Path, quarantine: Path, audit: Path, journal: Path, name_map: Path | None
) -> None:
    check_writable(out, "the output folder")
    check_writable(audit.parent, "the folder of the audit")
    check_writable(journal.parent, "the folder of the journal")
    is_new = not quarantine.exists()
    check_writable(quarantine, "the quarantine folder")
    ensure_private_folder(quarantine, "the quarantine folder")
    if is_new:
        quarantine.rmdir()  # it is there only if something is in it
    is_ours = audit.exists() or journal.exists()
    if not is_ours and {path.name for path in out.iterdir()} - _OF_A_VOLUME:
        raise OutputForeign("there are files that no batch wrote")
    if name_map is not None:
        check_writable(name_map.parent, "the folder of the name map")
        read_name_map(name_map)


def check_origin(mine: Origin, first: Origin) -> None:
    """Check that names come from where those of an output came from at first.

    Raises:
        KeysMixed, MappingsMixed: a patient would have two names there.
    """
    if mine.key_id != first.key_id:
        raise KeysMixed("the output was made with another key")
    if mine != first:
        raise MappingsMixed("the output was made with another mapping, or none")


def audit_of(book: Journal, audit: Path, job: DeidJob) -> AuditLog:
    """Return the output's audit, to the end the journal knows; where it was taken away, another.

    Raises:
        AuditBroken: its chain does not hold, or its end is missing.
        KeysMixed, ProfilesMixed: it tells of another key, profile or options.
    """
    if not audit.exists():
        book.begin_audit()
    cut_back(audit, book.audit_mark().size_bytes)
    log = AuditLog(audit, passes=book.audit_mark())
    if log.key_ids - {job.key.key_id}:
        raise KeysMixed("the output was made with another key")
    if log.profile_digests - {job.profile.digest}:
        raise ProfilesMixed("the output was made with another profile or other options")
    return log
