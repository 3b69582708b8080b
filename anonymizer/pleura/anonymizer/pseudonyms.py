"""Keyed pseudonyms: patient names, UIDs, date shifts and join keys.

One `ProjectKey` per site, project and version: projects cannot be linked without it, and the
same key gives the same result in every process. Nothing here keeps an original value.
`Pseudonyms` is what the engine asks for; `mapping.RandomMapping` is the other one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import unicodedata
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol, Self

from pleura.anonymizer.errors import (
    ProjectKeyExists,
    ProjectKeyInvalid,
    ProjectKeyUnreadable,
    WriteRefused,
)
from pleura.anonymizer.writable import asked_to_write
from pleura.common.errors import KeyFileInsecure
from pleura.common.files import write_atomic

_PREFIX: Final = b"pleura/deid/v1/"
_KEY_BYTES: Final = 32
_DAY_S: Final = 86_400
_LINE: Final = re.compile(rb"pleura-project-key v([1-9][0-9]{0,5}) ([0-9a-f]{64})\n?")


def clean_patient_id(value: str) -> str:
    """Return a PatientID without outer spaces and NULs; its case stays.

    Composed, and without letters nobody sees and empty values: one patient has one ID.
    """
    value = value.strip(" \0\t\r\n")
    if value.isascii() and value.isprintable() and "\\" not in value:
        return value
    seen = "".join(c for c in value if unicodedata.category(c) not in ("Cc", "Cf"))
    parts = (part.strip() for part in unicodedata.normalize("NFC", seen).split("\\"))
    return "\\".join(part for part in parts if part)


def patient_value(patient_id: str, study_uid: str) -> str:
    """Return what a patient is keyed by: the ID, or the study where there is none."""
    return clean_patient_id(patient_id) or f"study:{study_uid}"


def pseudonym_of(raw: bytes) -> str:
    """Return `P` + 16 base-32 letters of the first 10 bytes."""
    return "P" + base64.b32encode(raw[:10]).decode()


def uid_of(raw: bytes, version: Literal[4, 8]) -> str:
    """Return 16 bytes as a UUID of that version under `2.25.` (PS3.5 B.2)."""
    octets = bytearray(raw[:16])
    octets[6] = (octets[6] & 0x0F) | version << 4
    octets[8] = (octets[8] & 0x3F) | 0x80
    return f"2.25.{int.from_bytes(octets, 'big')}"


def shift_days_of(raw: bytes, n: int) -> int:
    """Return the days, 1 to n either way and never 0, that 8 bytes stand for."""
    drawn = int.from_bytes(raw[:8], "big") % (2 * n)
    return drawn - n if drawn < n else drawn - n + 1


def shift_seconds_of(raw: bytes) -> int:
    """Return the seconds, 1 to 86399, that 8 bytes stand for."""
    return int.from_bytes(raw[:8], "big") % (_DAY_S - 1) + 1


class Origin(NamedTuple):
    """Where names come from: a key, and the id of the mapping they are drawn in, if they are."""

    key_id: str
    mapping: str = ""


class Pseudonyms(Protocol):
    """Where the engine gets new names from; the same original always gets the same one.

    `kind` says how: `hmac` computes them from the key, `random` draws and remembers them.
    Implementations can be pickled for worker processes.
    """

    @property
    def key_id(self) -> str:
        """First 16 hex digits of a hash over the key."""

    @property
    def version(self) -> int:
        """Version of the key; versions never mix in a cohort."""

    @property
    def kind(self) -> Literal["hmac", "random"]:
        """How names are made."""

    @property
    def origin(self) -> Origin:
        """Where names come from: those of another origin call a patient otherwise."""

    def keyed(self, domain: str, value: str) -> str:
        """Return H(domain, value) as hex; keyed in both kinds, for joins and audit."""

    def patient(self, patient_id: str, study_uid: str) -> str:
        """Return the pseudonym `P` + 16 base-32 letters of a patient."""

    def uid(self, uid: str) -> str:
        """Return the replacement of a UID, under `2.25.`."""

    def date_shift_days(self, patient_value: str, n: int = 365) -> int:
        """Return the days, 1 to n either way and never 0, that a patient's dates move."""

    def time_shift_seconds(self, patient_value: str) -> int:
        """Return the seconds, 1 to 86399, that a patient's times move forward."""

    def tombstone(self, patient_id: str, study_uid: str) -> str:
        """Return the keyed mark (hex) that an erased patient leaves; makes no pseudonym."""

    def tombstone_of(self, pseudonym: str) -> str | None:
        """Return the mark of the patient behind a pseudonym, or None if nobody is."""

    def forget(self, pseudonym: str) -> int:
        """Delete what leads from a patient to the pseudonym; return how many rows went."""

    def session(self) -> AbstractContextManager[None]:
        """Wrap the work on one file: after it every name given out is durable."""

    def close(self) -> None:
        """Close what is open; the next question opens it again."""


@dataclass(frozen=True, slots=True)
class ProjectKey:
    """32 secret bytes and their version; only the key id may be shown."""

    _secret: bytes = field(repr=False)
    version: int = 1

    def __post_init__(self) -> None:
        if len(self._secret) != _KEY_BYTES:
            raise ProjectKeyInvalid("the key does not hold 32 bytes")

    @classmethod
    def from_bytes(cls, secret: bytes, version: int = 1) -> Self:
        """Return a key over exactly 32 bytes.

        Raises:
            ProjectKeyInvalid: another length.
        """
        return cls(bytes(secret), version)

    @classmethod
    def create(cls, path: Path, version: int = 1) -> Self:
        """Draw a new key from the system's generator and write it, mode 0600.

        Raises:
            ProjectKeyExists: `path` exists; a key is never overwritten.
            WriteRefused: it cannot be written.
        """
        if path.is_dir():
            raise WriteRefused("the key file: that is a folder")
        if path.exists():
            raise ProjectKeyExists
        key = cls(os.urandom(_KEY_BYTES), version)
        line = b"pleura-project-key v%d %s\n" % (version, key._secret.hex().encode())
        with asked_to_write("the key file"):
            write_atomic(path, line, mode=0o600)
        return key

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file.

        Raises:
            ProjectKeyUnreadable: the file cannot be read.
            KeyFileInsecure: others than the owner may read it.
            ProjectKeyInvalid: it holds something else.
        """
        try:
            is_open = bool(path.stat().st_mode & 0o077)
            content = path.read_bytes()
        except OSError as exc:
            raise ProjectKeyUnreadable(os.strerror(exc.errno or 0)) from None
        if is_open:
            raise KeyFileInsecure("the project key file is readable by others")
        match = _LINE.fullmatch(content)
        if match is None:
            raise ProjectKeyInvalid("the file does not hold a project key")
        return cls(bytes.fromhex(match[2].decode()), int(match[1]))

    @property
    def key_id(self) -> str:
        """First 16 hex digits of a hash over the key: names it without giving it away."""
        return hashlib.sha256(_PREFIX + b"keyid\0" + self._secret).hexdigest()[:16]

    def digest(self, domain: str, value: str) -> bytes:
        """Return H(domain, value): 32 bytes of HMAC-SHA-256."""
        message = _PREFIX + domain.encode() + b"\0" + value.encode("utf-8", "surrogateescape")
        return hmac.digest(self._secret, message, "sha256")

    def keyed(self, domain: str, value: str) -> str:
        """Return H(domain, value) as hex, e.g. to join labels by `accession`."""
        return self.digest(domain, value).hex()

    @property
    def kind(self) -> Literal["hmac", "random"]:
        """How names are made: computed from the key."""
        return "hmac"

    @property
    def origin(self) -> Origin:
        """The key alone: the same key always computes the same names."""
        return Origin(self.key_id)

    def patient(self, patient_id: str, study_uid: str) -> str:
        """Return the pseudonym `P` + 16 base-32 letters of a patient."""
        return pseudonym_of(self.digest("patient", patient_value(patient_id, study_uid)))

    def uid(self, uid: str) -> str:
        """Return the replacement of a UID, a UUIDv8 under `2.25.` (PS3.5 B.2)."""
        return uid_of(self.digest("uid", uid), 8)

    def date_shift_days(self, patient_value: str, n: int = 365) -> int:
        """Return the days, 1 to n either way and never 0, that a patient's dates move."""
        return shift_days_of(self.digest("shift", patient_value), n)

    def time_shift_seconds(self, patient_value: str) -> int:
        """Return the seconds, 1 to 86399, that a patient's times move forward."""
        return shift_seconds_of(self.digest("shift-time", patient_value))

    def tombstone(self, patient_id: str, study_uid: str) -> str:
        """Return the keyed mark (hex) that an erased patient leaves."""
        return self.keyed("erased", self.patient(patient_id, study_uid))

    def tombstone_of(self, pseudonym: str) -> str | None:
        """Return the mark of the patient behind a pseudonym."""
        return self.keyed("erased", pseudonym)

    def forget(self, pseudonym: str) -> int:
        """Return 0: a computed pseudonym has no row that could be deleted."""
        return 0

    def session(self) -> AbstractContextManager[None]:
        """Return a context that does nothing: a computed name is always durable."""
        return nullcontext()

    def close(self) -> None:
        """Do nothing: a key holds nothing open."""
