"""Signed HTTP requests: which site asked for exactly this, once, now.

The signature covers site, method, target, body digest, nonce and time, so a
request cannot be altered, moved to another path or site, or sent twice. Flower's own node
authentication signs a timestamp only; this stands in front of it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from pleura.common.clock import to_rfc3339
from pleura.common.errors import (
    ClockSkew,
    InvalidId,
    KeyUnknown,
    ReplayRejected,
    SignatureRejected,
)
from pleura.common.ids import SHA256_PATTERN, SiteId, new_nonce, parse_site_id
from pleura.common.keys import SigningKey, VerifyKey

SITE, KEY, TIME = "Pleura-Site", "Pleura-Key", "Pleura-Time"
NONCE, CONTENT, SIGNATURE = "Pleura-Nonce", "Pleura-Content-SHA256", "Pleura-Signature"
HEADERS = (SITE, KEY, TIME, NONCE, CONTENT, SIGNATURE)

MAX_SKEW_S = 240.0  # below Flower's own window of 300 s
WARN_SKEW_S = 30.0
NONCE_LIFE_S = 600.0


def sign_request(
    key: SigningKey, site: SiteId, method: str, target: str, body_sha256: str, now: datetime
) -> dict[str, str]:
    """Return the six headers that authenticate one request.

    `target` is path and query exactly as sent; `body_sha256` covers the body bytes.
    """
    nonce, moment = new_nonce(), to_rfc3339(now)
    signature = key.sign(_signed_bytes(site, method, target, body_sha256, nonce, moment))
    return {
        SITE: site,
        KEY: key.public.key_id,
        TIME: moment,
        NONCE: nonce,
        CONTENT: body_sha256,
        SIGNATURE: base64.b64encode(signature).decode("ascii"),
    }


class NonceMemory:
    """Nonces of the last ten minutes; anything from before it began is refused."""

    def __init__(self, started: datetime) -> None:
        self._started = started
        self._seen: set[tuple[str, str]] = set()
        self._order: deque[tuple[datetime, tuple[str, str]]] = deque()

    def spend(self, site: SiteId, nonce: str, moment: datetime, now: datetime) -> None:
        """Remember a nonce.

        Raises:
            ReplayRejected: it was used, or is older than this memory.
        """
        horizon = now - timedelta(seconds=NONCE_LIFE_S)
        while self._order and self._order[0][0] < horizon:
            self._seen.discard(self._order.popleft()[1])
        if moment < self._started - timedelta(seconds=1):
            raise ReplayRejected("signed before this gateway started")
        entry = (site, nonce)
        if entry in self._seen:
            raise ReplayRejected("nonce used before")
        self._seen.add(entry)
        self._order.append((now, entry))


def check_request(
    headers: Mapping[str, str],
    method: str,
    target: str,
    *,
    key_of: Callable[[SiteId], VerifyKey | None],
    now: datetime,
    nonces: NonceMemory,
) -> SiteId:
    """Return the site that signed this request; the caller still compares the body digest.

    Raises:
        SignatureRejected: a header is missing or malformed, or the signature does not match.
        KeyUnknown: the site has no active transport key.
        ClockSkew: the time differs by more than `MAX_SKEW_S`.
        ReplayRejected: the nonce was used before.
    """
    try:
        site = parse_site_id(headers[SITE])
        moment = datetime.fromisoformat(headers[TIME])
        signature = base64.b64decode(headers[SIGNATURE], validate=True)
        nonce, content = headers[NONCE], headers[CONTENT]
    except (KeyError, ValueError, binascii.Error, InvalidId) as exc:
        raise SignatureRejected("request header missing or malformed") from exc
    if moment.tzinfo is None or not re.fullmatch(SHA256_PATTERN, content):
        raise SignatureRejected("request header malformed")
    if not re.fullmatch(r"[0-9a-f]{32}", nonce):
        raise SignatureRejected("request header malformed")
    if base64.b64encode(signature).decode("ascii") != headers[SIGNATURE]:
        raise SignatureRejected("signature has a second spelling")  # RFC 4648 section 3.5
    key = key_of(site)
    if key is None or headers.get(KEY) != key.key_id:
        raise KeyUnknown("no active transport key")
    key.verify(signature, _signed_bytes(site, method, target, content, nonce, headers[TIME]))
    if abs((now - moment).total_seconds()) > MAX_SKEW_S:
        raise ClockSkew("request time")
    nonces.spend(site, nonce, moment, now)
    return site


def _signed_bytes(
    site: SiteId, method: str, target: str, body_sha256: str, nonce: str, moment: str
) -> bytes:
    parts = ("pleura-request-v2", site, method.upper(), target, body_sha256, nonce, moment)
    return "\n".join(parts).encode("utf-8")
