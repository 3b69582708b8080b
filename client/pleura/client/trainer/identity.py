"""Identity of code and data: digests that bind an answer to what made it.

The code digest covers every module that can influence an update or a metric.
The dataset commitment is keyed with a secret that never leaves the trainer, so
nobody can test whether a known study is in it, yet the site can open it later.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import importlib.metadata
import platform
import secrets
from pathlib import Path
from typing import Final

import pleura.anonymizer
import pleura.client
import pleura.common
from pleura.client.data.cohort import Cohort
from pleura.common.canonical import canonical_json
from pleura.common.errors import KeyFileInsecure, KeyUnreadable
from pleura.common.files import write_atomic

_SECRET_BYTES: Final = 32
_CLIENT_PARTS: Final = ("data", "nets", "privacy", "tasks", "training", "validation", "trainer")


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 over names and digests of the modules behind an answer."""
    common, anonymizer, client = (
        Path(package.__path__[0]) for package in (pleura.common, pleura.anonymizer, pleura.client)
    )
    folders = [common, anonymizer, *(client / part for part in _CLIENT_PARTS)]
    listed = {
        f"{folder.parent.name}/{folder.name}/{path.relative_to(folder).as_posix()}": (
            hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for folder in folders
        for path in folder.rglob("*.py")
    }
    return hashlib.sha256(canonical_json(listed)).hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions an answer names."""
    names = ("pleura", "torch", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {**found, "python": platform.python_version()}


def load_or_create_secret(path: Path) -> bytes:
    """Return the site's commitment secret, made on first use.

    Raises:
        KeyUnreadable: the file has another length.
        KeyFileInsecure: group or others can read it.
    """
    if not path.exists():
        write_atomic(path, secrets.token_bytes(_SECRET_BYTES))
    if path.stat().st_mode & 0o077:
        raise KeyFileInsecure(f"{path.name} is open to others")
    secret = path.read_bytes()
    if len(secret) != _SECRET_BYTES:
        raise KeyUnreadable(f"key file {path.name}")
    return secret


def dataset_commitment(cohort: Cohort, secret: bytes) -> str:
    """Return HMAC-SHA256 over task, split and the sorted sample keys, 64 hex digits."""
    keys = sorted(sample.key for sample in cohort.samples)
    message = canonical_json([cohort.task, cohort.split, keys])
    return hmac.new(secret, message, hashlib.sha256).hexdigest()
