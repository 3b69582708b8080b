"""Holdings: which files of an output belong to which patient, and deleting a patient there.

The index beside an output (`<out>.erasure.db`) is written while a batch settles. A batch that
was killed may have put files in place before their rows: the journal and the folder named
after the patient are therefore always looked through too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pleura.anonymizer.batch import BatchItem
from pleura.anonymizer.erasure import Erasure, ErasureIndex, erase, sweep_quarantine
from pleura.anonymizer.errors import ErasureRefused
from pleura.anonymizer.journal import forget_patient, no_batch, origin_of, places_of
from pleura.anonymizer.mapping import RandomMapping
from pleura.anonymizer.pseudonyms import Origin, ProjectKey, Pseudonyms
from pleura.anonymizer.quarantine import sweep_half_copies
from pleura.anonymizer.staging import drop_staged, staging_for
from pleura.anonymizer.targets import check_origin

PSEUDONYM: Final = re.compile(r"P[A-Z2-7]{16}")
_AT_ONCE: Final = 256


class Recorder:
    """Adds accepted files to the index, some hundred a transaction."""

    def __init__(self, index: ErasureIndex, out: Path) -> None:
        self._index, self._out = index, out.resolve()
        self._waiting: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()

    def note(self, item: BatchItem) -> None:
        """Take the fate of one file; only what was accepted is recorded."""
        if item.result is not None:
            path = item.result.path.relative_to(self._out).as_posix()
            self._waiting.append((path, item.result.patient))
        if len(self._waiting) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what waits, durably."""
        if self._waiting:
            files, self._waiting = self._waiting, []
            self._index.add_files(files)


class OutputRows:
    """The files of a patient: rows of index and journal, and what lies in the patient's folder."""

    def __init__(self, index: ErasureIndex, out: Path) -> None:
        self._index, self._out = index, out

    def files_of(self, pseudonym: str) -> Sequence[str]:
        """Return the paths of a patient's files, relative to the output."""
        found = {*self._index.files_of(pseudonym), *places_of(_journal_of(self._out), pseudonym)}
        if PSEUDONYM.fullmatch(pseudonym):
            folder = self._out / pseudonym
            found |= {
                path.relative_to(self._out).as_posix()
                for path in folder.rglob("*")
                if path.is_file() or path.is_symlink()
            }
        return sorted(found)

    def drop_files(self, pseudonym: str) -> None:
        """Forget the rows of a patient, those of the batches' journal too."""
        self._index.drop_files(pseudonym)
        forget_patient(_journal_of(self._out), pseudonym)


def erase_from(
    out: Path, quarantine: Path, key: ProjectKey, mapping: Path, pseudonym: str
) -> tuple[Erasure, int]:
    """Delete a patient from an output; return what went and how many quarantined copies.

    What a killed batch left in staging goes too. Copies are looked for in `quarantine` and in
    every folder that a run of this output had for them.

    Raises:
        KeysMixed, MappingsMixed: the output's names come from elsewhere; nothing was done.
        BatchRunning: a batch works on the output.
        ErasureRefused: nobody here has or had this pseudonym; nothing was done.
        MappingOfOtherKey: the mapping belongs to another key.
        OSError: a file cannot be deleted; call again, the patient is barred already.
    """
    if not PSEUDONYM.fullmatch(pseudonym):
        raise ErasureRefused("that is no pseudonym")
    out = out.resolve()  # a link has the same batches
    with (
        no_batch(_journal_of(out)),
        ErasureIndex(out.with_name(out.name + ".erasure.db")) as index,
    ):
        origin, folders = origin_of(_journal_of(out))
        names = _names_for(pseudonym, key, mapping, origin)
        staging = staging_for(out, None)
        try:
            done = erase(
                index, out, names, pseudonym, rows=OutputRows(index, out),
                is_known=any(staging.glob(f"*/{pseudonym}")),
            )  # fmt: skip
            done = replace(done, files=done.files + drop_staged(staging, pseudonym))
            swept = 0
            for folder in {quarantine.resolve(), *folders}:
                if folder.is_dir():
                    sweep_half_copies(folder)
                    swept += sweep_quarantine(folder, names, index.tombstones())
        finally:
            names.close()
    return done, swept


def _journal_of(out: Path) -> Path:
    return out.with_name(out.name + ".journal.db")


def _names_for(pseudonym: str, key: ProjectKey, mapping: Path, origin: Origin | None) -> Pseudonyms:
    """Return where an output's names come from: what its journal says, or who knows this one.

    Raises:
        KeysMixed, MappingsMixed: neither key nor mapping are those of the output.
    """
    is_computed = origin is not None and not origin.mapping
    if is_computed or not mapping.exists():
        names: Pseudonyms = key
    else:
        names = RandomMapping(mapping, key)
    try:
        if origin is not None:
            check_origin(names.origin, origin)
        elif names.tombstone_of(pseudonym) is None:
            names.close()
            return key
    except BaseException:
        names.close()
        raise
    return names
