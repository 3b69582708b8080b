"""Quarantine: where an object goes that may not leave, named by code and keyed digest.

The folder holds original patient data: mode 0700, outside the accepted tree. File names are
identifying too and are never written; the note beside a file holds its code and counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from pydantic import BaseModel, Field

from pleura.anonymizer.errors import Erased, MediaDirectory, NotDicom, Unreadable
from pleura.anonymizer.pseudonyms import Pseudonyms
from pleura.anonymizer.source import FileSource
from pleura.common import events
from pleura.common.canonical import canonical_json
from pleura.common.files import PART, atomic_writer, ensure_private_folder, write_atomic

_CHUNK_BYTES = 1 << 20
_NOT_COPIED = frozenset({Erased.code, NotDicom.code, MediaDirectory.code})


class Note(BaseModel, frozen=True, extra="forbid"):
    """The JSON beside a quarantined file: a code and numbers, nothing else."""

    format: int = 1
    code: str = Field(pattern=r"^[A-Z][A-Z0-9_-]{1,39}$")
    input_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)
    is_copied: bool
    counts: dict[str, int]


def quarantine_file(
    source: Path,
    folder: Path,
    code: str,
    *,
    key: Pseudonyms,
    profile: str,
    counts: Mapping[str, int] | None = None,
) -> Path:
    """Copy `source` to `folder/<code>/<H("input")>.dcm` with its note; return the note's path.

    A source that cannot be read gets a note under H("name", path) and no copy; a source of an
    erased patient, a file that is no DICOM object and a DICOMDIR get no copy either.

    Raises:
        DiskFull: no room; nothing was left behind.
        StateInsecure: others may enter the quarantine folder.
    """
    ensure_private_folder(folder, "the quarantine folder")
    shelf = ensure_private_folder(folder / code, "a folder of the quarantine")
    with ExitStack() as stack:
        try:
            original = stack.enter_context(FileSource(source))
            name, size = key.keyed("input", _digest(original)), original.size
        except (OSError, Unreadable):
            name, size, is_copied = key.keyed("name", str(source)), 0, False
        else:
            is_copied = code not in _NOT_COPIED and _copy(original, shelf / f"{name}.dcm")
    note = Note(
        code=code,
        input_digest=name,
        size_bytes=size,
        is_copied=is_copied,
        counts=dict(counts or {}),
    )
    path = shelf / f"{name}.json"
    write_atomic(path, canonical_json(note.model_dump(mode="json")) + b"\n", mode=0o600)
    events.emit("object.quarantined", digest=name[:12], code=code, profile=profile)
    return path


def _digest(original: FileSource) -> str:
    digest = hashlib.sha256()
    for start in range(0, original.size, _CHUNK_BYTES):
        digest.update(original.read(start, _CHUNK_BYTES))
    return digest.hexdigest()


def _copy(original: FileSource, target: Path) -> bool:
    """Copy a file; return whether it could be read to its end."""
    try:
        with atomic_writer(target, mode=0o600) as copy:
            for start in range(0, original.size, _CHUNK_BYTES):
                copy.write(original.read(start, _CHUNK_BYTES))
    except Unreadable:
        return False
    return True


def sweep_half_copies(folder: Path) -> None:
    """Delete what a kill left of copies that were being made."""
    for part in folder.glob(f"*/*.dcm{PART}"):
        part.unlink(missing_ok=True)
