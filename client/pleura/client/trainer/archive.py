"""Archive: orders this site took and the answers it gave, durable before they are sent.

Layout: `runs/<run>/<round>-<attempt>-<kind>-<digest>/` with `order.json` (taken),
`update.bin` (the packed update) and `answer.json`, written last. A folder without
an answer is unfinished work and may be done again; one with an answer never is.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pleura.client.errors import ArchiveDamaged
from pleura.client.trainer.policy import OpenedOrder, RunHistory, TakenOrder, split_of_order
from pleura.common.canonical import canonical_json, parse_json
from pleura.common.errors import EnvelopeMalformed
from pleura.common.files import ensure_private_folder, fsync_folder, sweep_parts, write_atomic
from pleura.common.ids import RunId, Sha256Field, short
from pleura.common.orders import BlobRef

UPDATE: Final = "update.bin"
KEEP_UPDATES: Final = timedelta(days=30)
_ORDER: Final = "order.json"
_ANSWER: Final = "answer.json"
_MAX_BYTES: Final = 4 * 2**20


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


R = TypeVar("R", bound=_Record)


class _OrderRecord(_Record):
    order_digest: Sha256Field
    plan_hash: Sha256Field
    kind: Literal["train", "evaluate"]
    split: Literal["train", "test", "external"]
    round: int
    attempt: int
    base_digest: Sha256Field
    taken_at: datetime


class _AnswerRecord(_Record):
    envelope: str
    blob_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    blob_size: int


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A signed answer; `blob_sha256` is empty if it has no blob."""

    envelope: bytes
    blob_sha256: str = ""
    blob_size: int = 0


class Archive:
    """The folder `trainer/runs`; the trainer process is its only writer."""

    def __init__(self, root: Path) -> None:
        self._root = ensure_private_folder(root)
        sweep_parts(root)

    def folder(self, opened: OpenedOrder) -> Path:
        """Return the folder of one order; ids are safe in paths by their type."""
        order = opened.order
        name = f"{order.round}-{order.attempt}-{order.kind}-{short(opened.digest)}"
        return self._root / order.run_id / name

    def take(self, opened: OpenedOrder, now: datetime) -> datetime:
        """Record an accepted order once; return when it was first taken.

        Raises:
            DiskFull: the volume has no room; the order is not taken.
        """
        folder = self.folder(opened)
        path = folder / _ORDER
        if path.is_file():
            return _read(path, _OrderRecord).taken_at
        order = opened.order
        record = _OrderRecord(
            order_digest=opened.digest,
            plan_hash=order.plan_hash,
            kind=order.kind,
            split=split_of_order(order),
            round=order.round,
            attempt=order.attempt,
            base_digest=order.base.tensor_digest,
            taken_at=now,
        )
        self._make(folder)
        write_atomic(path, canonical_json(record.model_dump(mode="json")))
        return now

    def history(self, run_id: RunId) -> RunHistory:
        """Return every order of a run this site took, by round and attempt.

        Raises:
            ArchiveDamaged: a record cannot be read; the run goes on only after a restore.
        """
        taken = [
            _taken(path.parent, _read(path, _OrderRecord))
            for path in (self._root / run_id).glob(f"*/{_ORDER}")
        ]
        return RunHistory(tuple(sorted(taken, key=lambda t: (t.round, t.attempt, t.order_digest))))

    def answer(self, opened: OpenedOrder) -> StoredAnswer | None:
        """Return the stored answer of an order, if it has one.

        Raises:
            ArchiveDamaged: it cannot be read.
        """
        path = self.folder(opened) / _ANSWER
        if not path.is_file():
            return None
        record = _read(path, _AnswerRecord)
        return StoredAnswer(base64.b64decode(record.envelope), record.blob_sha256, record.blob_size)

    def store(self, opened: OpenedOrder, envelope: bytes, blob: BlobRef | None) -> StoredAnswer:
        """Make an answer durable; a blob is in the folder as `update.bin` already.

        Raises:
            DiskFull: the volume has no room; there is no answer then.
        """
        record = _AnswerRecord(
            envelope=base64.b64encode(envelope).decode("ascii"),
            blob_sha256=blob.blob_sha256 if blob else "",
            blob_size=blob.size_bytes if blob else 0,
        )
        folder = self.folder(opened)
        self._make(folder)
        write_atomic(folder / _ANSWER, canonical_json(record.model_dump(mode="json")))
        return StoredAnswer(envelope, record.blob_sha256, record.blob_size)

    def _make(self, folder: Path) -> None:
        """Make an order's folder durable: what is written into it counts as kept."""
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fsync_folder(folder.parent)
            fsync_folder(self._root)

    def drop_old_updates(self, now: datetime) -> int:
        """Delete update files of answers taken more than 30 days ago; return how many.

        The answers stay, so their orders are still never done again.

        Raises:
            ArchiveDamaged: a record cannot be read.
        """
        count = 0
        for update in self._root.glob(f"*/*/{UPDATE}"):
            folder = update.parent
            if not (folder / _ANSWER).is_file():
                continue
            if _read(folder / _ORDER, _OrderRecord).taken_at < now - KEEP_UPDATES:
                update.unlink()
                count += 1
        return count

    def update_file(self, sha256: str) -> Path | None:
        """Return the file of an answered update blob, or None if no answer offers it."""
        for path in self._root.glob(f"*/*/{_ANSWER}"):
            if _read(path, _AnswerRecord).blob_sha256 == sha256 != "":
                update = path.with_name(UPDATE)
                return update if update.is_file() else None
        return None


def _taken(folder: Path, record: _OrderRecord) -> TakenOrder:
    return TakenOrder(
        order_digest=record.order_digest,
        plan_hash=record.plan_hash,
        kind=record.kind,
        split=record.split,
        round=record.round,
        attempt=record.attempt,
        base_digest=record.base_digest,
        is_answered=(folder / _ANSWER).is_file(),
    )


def _read(path: Path, model: type[R]) -> R:
    try:
        return model.model_validate(parse_json(path.read_bytes(), max_bytes=_MAX_BYTES))
    except (OSError, EnvelopeMalformed, ValidationError) as exc:
        raise ArchiveDamaged(model.__name__.strip("_")) from exc
