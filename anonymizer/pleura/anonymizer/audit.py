"""The audit file: one RFC 8785 line a file, each chained to the one before.

h_0 is 32 zero bytes and h_i = SHA-256(h_{i-1} || line_i), and a line names h_{i-1} as `prev`:
a line changed, taken out or put in breaks every head after it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from pleura.anonymizer.errors import AuditBroken
from pleura.anonymizer.receipt import Hex16, Hex64, Receipt
from pleura.common.canonical import canonical_json
from pleura.common.clock import to_rfc3339
from pleura.common.files import fsync_folder, raise_if_disk_full

GENESIS: Final = bytes(32)
_BACK_BYTES: Final = 1 << 16
_BEGIN: Final = b'{"code":"'


class Mark(NamedTuple):
    """A place between two lines: the bytes before it and the head of the chain there (hex)."""

    size_bytes: int = 0
    head: str = GENESIS.hex()


class AuditLine(BaseModel, frozen=True, extra="forbid"):
    """One file's fate: accepted with its receipt, or a code."""

    prev: Hex64
    time: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")
    code: str = Field(pattern=r"^[A-Z][A-Z0-9_-]{1,39}$")
    key_id: Hex16
    input_digest: Hex64
    receipt: Receipt | None = None


class AuditEntry(BaseModel, frozen=True, extra="forbid"):
    """What the caller knows of one file; time and chain are added on writing."""

    code: str
    key_id: Hex16
    input_digest: Hex64
    receipt: bytes = b""  # RFC 8785, as `Receipt.to_json` gives it


class AuditLog:
    """An audit file open for writing: its chain is checked once, later only what was added."""

    def __init__(self, path: Path, *, passes: Mark = Mark()) -> None:
        """Check the chain of the file, if there is one.

        `passes`: what somebody keeps of it; the chain has to come by there.

        Raises:
            AuditBroken: the chain does not hold, or its end is missing.
        """
        self._path = path
        self._mark = Mark()
        self.key_ids: set[str] = set()
        self.profile_digests: set[str] = set()
        if path.exists():
            with path.open("rb") as file:
                self._follow(file, passes)
        if self._mark.size_bytes < passes.size_bytes:
            raise AuditBroken("lines are missing at its end")

    @property
    def head(self) -> str:
        """The head of the chain (hex)."""
        return self._mark.head

    @property
    def mark(self) -> Mark:
        """The end of the file as far as its chain is checked."""
        return self._mark

    def append(self, entries: Sequence[AuditEntry], *, now: datetime) -> str:
        """Append entries durably; return the new head (hex).

        Raises:
            AuditBroken: the file got shorter, or what others added does not hold.
            DiskFull: no room; a line begun is taken back.
        """
        try:
            with _locked(self._path) as file:
                self._follow(file)
                text, end = _chained(entries, self._mark, now)
                try:
                    _write_whole(file, text)
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), self._mark.size_bytes)
                    raise
                if self._mark == Mark():
                    fsync_folder(self._path.parent)
                self._mark = end
                return self.head
        except OSError as exc:
            raise_if_disk_full(exc)
            raise

    def lines_after(self, offset: int) -> Iterator[AuditLine]:
        """Yield the checked lines from a byte offset on."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(offset)
            for encoded in file:
                yield AuditLine.model_validate_json(encoded)

    def _follow(self, file: BinaryIO, passes: Mark = Mark()) -> None:
        if os.fstat(file.fileno()).st_size < self._mark.size_bytes:
            raise AuditBroken("the file got shorter")
        file.seek(self._mark.size_bytes)
        for line, mark in _chain(file, self._mark):
            if self._mark.size_bytes < passes.size_bytes <= mark.size_bytes and mark != passes:
                raise AuditBroken("it is not the one that was written here")
            self._mark = mark
            self.key_ids.add(line.key_id)
            if line.receipt is not None:
                self.profile_digests.add(line.receipt.profile_digest)


def append(path: Path, entries: Sequence[AuditEntry], *, now: datetime) -> str:
    """Check a file's chain, append entries durably and return the new head (hex).

    Raises:
        AuditBroken: the file's chain does not hold; nothing is added to it.
        DiskFull: no room; a line begun is taken back.
    """
    return AuditLog(path).append(entries, now=now)


def _chained(entries: Sequence[AuditEntry], mark: Mark, now: datetime) -> tuple[bytes, Mark]:
    text, time = [], to_rfc3339(now)
    for entry in entries:
        encoded = _encoded(entry, mark.head, time)
        mark = _after(mark, encoded)
        text.append(encoded + b"\n")
    return b"".join(text), mark


def _after(mark: Mark, encoded: bytes) -> Mark:
    head = hashlib.sha256(bytes.fromhex(mark.head) + encoded).hexdigest()
    return Mark(mark.size_bytes + len(encoded) + 1, head)


def _encoded(entry: AuditEntry, prev: str, time: str) -> bytes:
    """Return the RFC 8785 bytes of a line: keys in order, and no value needs an escape."""
    line = AuditLine(
        prev=prev, time=time, code=entry.code, key_id=entry.key_id, input_digest=entry.input_digest
    )
    receipt = (entry.receipt or b"null").decode("ascii")
    return (
        f'{{"code":"{line.code}","input_digest":"{line.input_digest}","key_id":"{line.key_id}",'
        f'"prev":"{line.prev}","receipt":{receipt},"time":"{line.time}"}}'
    ).encode("ascii")


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def verify_audit(path: Path) -> str:
    """Return the head (hex) of an audit file whose chain holds.

    Raises:
        AuditBroken: a line was changed, removed, added or cut; the message has its number.
    """
    with path.open("rb") as file:
        head = Mark().head
        for _, end in _chain(file, Mark()):
            head = end.head
        return head


def cut_back(path: Path, acknowledged_bytes: int) -> None:
    """Take a last line without its end off an audit file: a kill or a full disk left it.

    Nobody acknowledged such a line if it begins at `acknowledged_bytes` or later, and as lines
    do; any other break stays for `AuditLog` to find.
    """
    if not path.exists():
        return
    with path.open("r+b") as file:
        start = file.seek(0, os.SEEK_END)
        while start > acknowledged_bytes:
            back = min(_BACK_BYTES, start - acknowledged_bytes)
            file.seek(start - back)
            end = file.read(back).rfind(b"\n")
            start -= back
            if end >= 0:
                start += end + 1
                break
        file.seek(start)
        if _BEGIN.startswith(file.read(len(_BEGIN))):
            file.truncate(start)
            os.fsync(file.fileno())


def _write_whole(file: BinaryIO, text: bytes) -> None:
    """Write all of it; a raw file may take less, for instance the last bytes of a disk."""
    view = memoryview(text)
    while view:
        view = view[file.write(view) :]


def _chain(file: BinaryIO, mark: Mark) -> Iterator[tuple[AuditLine, Mark]]:
    """Follow the chain from `mark`, where the file stands; yield each line and where it ends.

    Raises:
        AuditBroken: a line is not the one its neighbours name, or has no end.
    """
    for number, content in enumerate(file, start=1):
        if not content.endswith(b"\n"):
            raise AuditBroken("the last line is cut")
        encoded = content[:-1]
        try:
            line = AuditLine.model_validate_json(encoded)
        except ValidationError:
            raise AuditBroken(f"line {number}") from None
        if line.prev != mark.head or canonical_json(line.model_dump(mode="json")) != encoded:
            raise AuditBroken(f"line {number}")
        mark = _after(mark, encoded)
        yield line, mark
