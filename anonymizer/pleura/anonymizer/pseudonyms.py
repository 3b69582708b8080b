"""Keyed pseudonyms: patient names, UIDs, date shifts and join keys.

One `ProjectKey` per site, project and version: projects cannot be linked without it, and the
same key gives the same result in every process. Nothing here keeps an original value.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pleura.anonymizer.errors import ProjectKeyExists, ProjectKeyInvalid
from pleura.common.errors import KeyFileInsecure, KeyUnreadable
from pleura.common.files import write_atomic

_PREFIX: Final = b"pleura/deid/v1/"
_KEY_BYTES: Final = 32
_LINE: Final = re.compile(rb"pleura-project-key v([1-9][0-9]{0,5}) ([0-9a-f]{64})\n?")


def clean_patient_id(value: str) -> str:
    """Return a PatientID without outer spaces and NULs; its case stays."""
    return value.strip(" \0\t\r\n")


def patient_value(patient_id: str, study_uid: str) -> str:
    """Return what a patient is keyed by: the ID, or the study where there is none."""
    return clean_patient_id(patient_id) or f"study:{study_uid}"


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
        """
        if path.exists():
            raise ProjectKeyExists
        key = cls(os.urandom(_KEY_BYTES), version)
        line = b"pleura-project-key v%d %s\n" % (version, key._secret.hex().encode())
        write_atomic(path, line, mode=0o600)
        return key

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file.

        Raises:
            KeyUnreadable: the file cannot be read.
            KeyFileInsecure: others than the owner may read it.
            ProjectKeyInvalid: it holds something else.
        """
        try:
            is_open = bool(path.stat().st_mode & 0o077)
            content = path.read_bytes()
        except OSError as exc:
            raise KeyUnreadable("the project key file cannot be read") from exc
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
        message = _PREFIX + domain.encode() + b"\0" + value.encode()
        return hmac.digest(self._secret, message, "sha256")

    def keyed(self, domain: str, value: str) -> str:
        """Return H(domain, value) as hex, e.g. to join labels by `accession`."""
        return self.digest(domain, value).hex()

    def patient(self, patient_id: str, study_uid: str) -> str:
        """Return the pseudonym `P` + 16 base-32 letters of a patient."""
        value = patient_value(patient_id, study_uid)
        return "P" + base64.b32encode(self.digest("patient", value)[:10]).decode()

    def uid(self, uid: str) -> str:
        """Return the replacement of a UID, a UUIDv8 under `2.25.` (PS3.5 B.2)."""
        raw = bytearray(self.digest("uid", uid)[:16])
        raw[6] = (raw[6] & 0x0F) | 0x80
        raw[8] = (raw[8] & 0x3F) | 0x80
        return f"2.25.{int.from_bytes(raw, 'big')}"

    def date_shift_days(self, patient_value: str, n: int = 365) -> int:
        """Return the days, 1 to n either way and never 0, that a patient's dates move."""
        drawn = int.from_bytes(self.digest("shift", patient_value)[:8], "big") % (2 * n)
        return drawn - n if drawn < n else drawn - n + 1
