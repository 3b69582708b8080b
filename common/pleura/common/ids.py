"""Identifiers: what each looks like, and how new ones are made.

Each is a `str` at run time and a distinct type for the checker. All are safe
in file names, URLs, SQL and logs by construction.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated, NewType

from pydantic import StringConstraints

from pleura.common.errors import InvalidId

SITE_PATTERN = r"^[a-z0-9][a-z0-9-]{1,39}$"
RUN_PATTERN = r"^[a-z0-9][a-z0-9-]{1,39}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"

SiteId = NewType("SiteId", str)
RunId = NewType("RunId", str)
FederationId = NewType("FederationId", str)
KeyId = NewType("KeyId", str)

SiteIdField = Annotated[SiteId, StringConstraints(pattern=SITE_PATTERN)]
RunIdField = Annotated[RunId, StringConstraints(pattern=RUN_PATTERN)]
FederationIdField = Annotated[FederationId, StringConstraints(pattern=SITE_PATTERN)]
KeyIdField = Annotated[KeyId, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Sha256Field = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
NonceField = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


def parse_site_id(text: str) -> SiteId:
    """Return `text` as a site id.

    Raises:
        InvalidId: it does not match `SITE_PATTERN`.
    """
    if not re.fullmatch(SITE_PATTERN, text):
        raise InvalidId("site id")
    return SiteId(text)


def parse_run_id(text: str) -> RunId:
    """Return `text` as a run id.

    Raises:
        InvalidId: it does not match `RUN_PATTERN`.
    """
    if not re.fullmatch(RUN_PATTERN, text):
        raise InvalidId("run id")
    return RunId(text)


def new_nonce() -> str:
    """Return 128 fresh random bits as 32 hex digits."""
    return secrets.token_hex(16)


def short(digest: str) -> str:
    """Return the 12 hex digits of a digest that logs and pages show."""
    return digest[:12]
