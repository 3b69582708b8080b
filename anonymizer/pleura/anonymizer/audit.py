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
from typing import BinaryIO, Final

from pydantic import BaseModel, Field, ValidationError

from pleura.anonymizer.errors import AuditBroken
from pleura.anonymizer.receipt import Hex16, Hex64, Receipt
from pleura.common.canonical import canonical_json
from pleura.common.clock import to_rfc3339
from pleura.common.files import raise_if_disk_full

GENESIS: Final = bytes(32)


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
    receipt: Receipt | None = None


def append(path: Path, entries: Sequence[AuditEntry], *, now: datetime) -> str:
    """Append entries durably; return the new head (hex).

    Raises:
        AuditBroken: the file's chain does not hold; nothing is added to it.
        DiskFull: no room; a line begun is taken back.
    """
    try:
        with _locked(path) as file:
            head = _head(file.read())
            start = file.tell()
            text = b""
            for entry in entries:
                line = AuditLine(prev=head.hex(), time=to_rfc3339(now), **dict(entry))
                encoded = canonical_json(line.model_dump(mode="json"))
                head = hashlib.sha256(head + encoded).digest()
                text += encoded + b"\n"
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), start)
                raise
            return head.hex()
    except OSError as exc:
        raise_if_disk_full(exc)
        raise


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
    return _head(path.read_bytes()).hex()


def _head(content: bytes) -> bytes:
    if content and not content.endswith(b"\n"):
        raise AuditBroken("the last line is cut")
    head = GENESIS
    for number, encoded in enumerate(content.splitlines(), start=1):
        try:
            line = AuditLine.model_validate_json(encoded)
        except ValidationError:
            raise AuditBroken(f"line {number}") from None
        if line.prev != head.hex() or canonical_json(line.model_dump(mode="json")) != encoded:
            raise AuditBroken(f"line {number}")
        head = hashlib.sha256(head + encoded).digest()
    return head
