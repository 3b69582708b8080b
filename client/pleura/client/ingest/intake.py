"""Intake: which settled files make the next batch, and what is counted of a scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pleura.client.ingest.watcher import Found
from pleura.common.errors import DiskFull

MAX_BATCH_FILES: Final = 256
GB: Final = 10**9


def plan_batch(
    ready: Sequence[Found], *, free_bytes: int, reserve_bytes: int, limit: int = MAX_BATCH_FILES
) -> list[Found]:
    """Return the files of the next batch, in path order.

    A batch ends between two folders once it holds `limit` files, because exports
    keep a study in one folder. It never takes more bytes than are free above the
    reserve.

    Raises:
        DiskFull: free space is under the reserve, or not even one file fits above it.
    """
    room = free_bytes - reserve_bytes
    if room < 0:
        raise DiskFull("free space is under ingest.reserve_gb")
    batch: list[Found] = []
    for item in ready:
        if len(batch) >= limit and item.path.parent != batch[-1].path.parent:
            break
        room -= item.stamp.size_bytes
        if room < 0:
            break
        batch.append(item)
    if ready and not batch:
        raise DiskFull("the next file does not fit above ingest.reserve_gb")
    return batch


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far a scan is; sent after every object."""

    done: int
    total: int
    stored: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What one scan did. Every settled file is in exactly one of the counts."""

    found: int
    waiting: int  # still changing, or changed while it was read
    known: int  # taken in or refused by an earlier scan
    stored: int
    duplicates: int
    left_out: int  # no objects: text, programs, a DICOMDIR
    quarantined: Mapping[str, int]  # code -> objects


@dataclass(slots=True)
class Tally:
    """Running counts of one scan; the one mutable thing here."""

    found: int = 0
    waiting: int = 0
    known: int = 0
    total: int = 0
    done: int = 0
    stored: int = 0
    duplicates: int = 0
    left_out: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)

    def progress(self) -> IngestProgress:
        return IngestProgress(self.done, self.total, self.stored, self.quarantined.total())

    def summary(self) -> IngestSummary:
        return IngestSummary(
            found=self.found,
            waiting=self.waiting,
            known=self.known,
            stored=self.stored,
            duplicates=self.duplicates,
            left_out=self.left_out,
            quarantined=dict(sorted(self.quarantined.items())),
        )
