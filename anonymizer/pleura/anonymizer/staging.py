"""Staging: where de-identified files wait, beside the output, until their studies are judged.

Every worker writes into one tree, so that a study lies together and can be moved as a whole.
Two inputs with one SOP instance may meet there: the journal knows both, and if their bytes
differ neither is accepted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pleura.anonymizer.burnedin.finder import has_finder
from pleura.anonymizer.burnedin.policy import Mode
from pleura.anonymizer.engine import Deidentified, deidentify_file
from pleura.anonymizer.errors import DuplicateDiffers, NotDicom, Quarantined, StagingForeign
from pleura.anonymizer.journal import Row
from pleura.anonymizer.marking import VERSION
from pleura.anonymizer.members import UNPACKED, count_members, extracted, is_archive
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.pseudonyms import Pseudonyms
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.sampling import shows_text
from pleura.anonymizer.workers import Outcome, Task
from pleura.common.canonical import canonical_json
from pleura.common.files import PART, begin_writeback, fsync_folder

STAGING: Final = ".staging"
TREE: Final = "tree"
READY: Final = "ready"
OWNER: Final = ".pleura-staging"  # what lies beside an output without it is somebody else's


@dataclass(frozen=True, slots=True)
class DeidJob:
    """What a worker needs to de-identify any file of the batch."""

    profile: Profile
    key: Pseudonyms
    staging: Path
    allow_unread_text: bool = False
    tombstones: frozenset[str] = frozenset()
    follow_archives: bool = False
    ocr: Mode = "policy"

    def run(self, task: Task) -> Outcome:
        """De-identify one file into the staging folder, or look at it for text."""
        try:
            if task.member is not None:
                with extracted(task.path, task.member, self.staging) as path:
                    return self._done(task, path)
            if self.follow_archives and is_archive(task.path):
                count = count_members(task.path)
                return Outcome(members=count) if count else Outcome(NotDicom.code)
            return self._done(task, task.path)
        except Quarantined as exc:
            return Outcome(exc.code, exc.counts)

    @property
    def looks_at_series(self) -> bool:
        """Whether slices of a series are looked at for text; without the extra `ocr` nobody can."""
        return self.ocr == "policy" and not self.allow_unread_text and has_finder()

    def _done(self, task: Task, path: Path) -> Outcome:
        if task.purpose == "look":
            return Outcome(shows_text=shows_text(path, self.profile, self.staging))
        ocr = "all" if task.purpose == "read" else self.ocr
        try:
            result = self._deidentify(path, self.staging / TREE, ocr)
        except DuplicateDiffers:  # of one before it; the batch judges both
            result = self._deidentify(path, self.staging / f"s{task.seq}", ocr)
        begin_writeback(result.path)
        ocr_counts = result.receipt.ocr
        return Outcome(
            staged=Row(
                task.name, task.stamp, seq=task.seq, state="staged", code="ACCEPTED",
                patient=result.patient, study=result.study_uid, series=result.series_uid,
                sop=result.sop_uid, modality=result.modality, slice_number=result.slice_number,
                looked=None if ocr_counts is None else int(ocr_counts.shows_text),
                input_digest=result.receipt.input_digest, sha256=result.sha256,
                size_bytes=result.size_bytes, staged=str(result.path.relative_to(self.staging)),
                accession_key=result.accession_key, sop_key=result.sop_key,
                receipt=result.receipt.to_json(),
            )
        )  # fmt: skip

    def _deidentify(self, path: Path, folder: Path, ocr: Mode) -> Deidentified:
        return deidentify_file(
            path, folder, profile=self.profile, key=self.key, tombstones=self.tombstones,
            ocr=ocr, allow_unread_text=self.allow_unread_text, fsync=False,
        )  # fmt: skip

    def bars(self, patient: str) -> bool:
        """Return whether the patient behind a pseudonym was erased."""
        return bool(self.tombstones) and self.key.tombstone_of(patient) in self.tombstones

    @property
    def settings(self) -> str:
        """SHA-256 (hex) of all that decides about the bytes of an output."""
        parts = [VERSION, self.profile.digest, load_rules().digest, self.key.key_id, self.key.kind]
        parts += [str(self.key.version), str(self.allow_unread_text), self.ocr]
        return hashlib.sha256(canonical_json(parts)).hexdigest()


def staging_for(out: Path, journal: Path | None) -> Path:
    """Return where unfinished files lie: beside the output, so that nobody reads them there.

    An output that is a volume of its own holds them itself, or studies could not be renamed.
    """
    if journal is not None:
        return journal.with_name(STAGING)
    is_volume = out.stat().st_dev != out.resolve().parent.stat().st_dev
    return out / STAGING if is_volume else out.with_name(out.name + STAGING)


def claim(staging: Path) -> None:
    """Create the staging folder, or check that it is one.

    Raises:
        StagingForeign: somebody else's files are there, or a link.
    """
    if staging.is_symlink():
        raise StagingForeign("a link")
    staging.mkdir(exist_ok=True, mode=0o700)
    if not (staging / OWNER).exists() and any(staging.iterdir()):
        raise StagingForeign("not made by a batch")
    (staging / OWNER).touch(mode=0o600)


def sweep(staging: Path, is_known: Callable[[str], bool]) -> None:
    """Delete what a killed batch left in staging, but for the files `is_known` answers for."""
    if not (staging / OWNER).exists():
        return
    shutil.rmtree(staging / READY, ignore_errors=True)
    for folder, _, names in os.walk(staging):
        for name in names:
            path = Path(folder, name)
            if name != OWNER and not is_known(str(path.relative_to(staging))):
                path.unlink()


def drop_staged(staging: Path, patient: str) -> int:
    """Delete a patient's files and all unfinished ones from staging; return how many were theirs.

    No batch may be running.
    """
    if not (staging / OWNER).exists():
        return 0
    folders = list(staging.glob(f"*/{patient}"))
    count = sum(path.is_file() for folder in folders for path in folder.rglob("*"))
    for folder in folders:
        shutil.rmtree(folder)
        fsync_folder(folder.parent)
    for left in (*staging.glob(f"{UNPACKED}*"), *staging.rglob(f"*{PART}")):  # whose, nobody knows
        left.unlink(missing_ok=True)
    return count
