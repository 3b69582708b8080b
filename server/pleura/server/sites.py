"""Site registry: who may take part, with which keys, and since when.

A site is invited, enrols with its one-time code and waits as `pending`; a person
approves it; a revoked site stays on record and its keys are worth nothing from
the next request on, because every check reads this database. Several processes
share the file: gateway, ServerApp and the command line.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pleura.common import events
from pleura.common.canonical import sha256_hex
from pleura.common.clock import Clock, to_rfc3339
from pleura.common.database import open_database, transaction
from pleura.common.enrolment import SECRET_BYTES, EnrolmentRequest, InviteCode, parse_invite_code
from pleura.common.errors import (
    EnvelopeMalformed,
    InviteCodeMalformed,
    KeyUnreadable,
    SignatureRejected,
)
from pleura.common.ids import SiteId
from pleura.common.keys import VerifyKey
from pleura.server.errors import (
    EnrolmentCodeWrong,
    EnrolmentKeyTaken,
    SiteStateWrong,
    SiteUnknown,
)

SCHEMA: Final = """
CREATE TABLE invites (
    secret_hash TEXT PRIMARY KEY CHECK (length(secret_hash) = 64),
    site_id TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    used_by TEXT
) STRICT;
CREATE TABLE sites (
    site_id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'revoked')),
    signing_key TEXT NOT NULL UNIQUE,
    transport_key TEXT NOT NULL UNIQUE,
    node_key TEXT NOT NULL UNIQUE,
    node_id TEXT,
    activated_at TEXT,
    last_seen TEXT
) STRICT;
CREATE TABLE retired_keys (
    site_id TEXT NOT NULL,
    signing_key TEXT NOT NULL,
    transport_key TEXT NOT NULL,
    node_key TEXT NOT NULL,
    retired_at TEXT NOT NULL
) STRICT;
CREATE TABLE uploads (
    digest TEXT NOT NULL,
    site_id TEXT NOT NULL,
    PRIMARY KEY (digest, site_id)
) STRICT, WITHOUT ROWID;
"""


class SiteState(StrEnum):
    """Where a site stands; only `approved` takes part."""

    PENDING = "pending"
    APPROVED = "approved"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Site:
    """One site as the registry knows it now. `node_key` is PEM, `node_id` Flower's number."""

    site_id: SiteId
    state: SiteState
    signing_key: VerifyKey
    transport_key: VerifyKey
    node_key: str
    node_id: int | None
    activated_at: datetime | None
    last_seen: datetime | None


class SiteRegistry:
    """The registry in one SQLite file; safe to share by threads and processes."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open or create the registry.

        Raises:
            DatabaseDamaged: the file failed its check.
        """
        self._db = open_database(path, schema=SCHEMA, version=1)
        # "last seen" is worth no fsync: it is written often and may be lost with the machine
        self._soft = open_database(path, schema=SCHEMA, version=1, durable=False)
        self._clock = clock
        self._lock = threading.Lock()

    def close(self) -> None:
        self._soft.close()
        self._db.close()

    def invite(self, site_id: SiteId, ttl: timedelta) -> bytes:
        """Return the secret of a new one-time code; an older unused code ends.

        Raises:
            SiteStateWrong: the site is approved; revoke it before it enrols again.
        """
        site = self.get(site_id)
        if site is not None and site.state is SiteState.APPROVED:
            raise SiteStateWrong("approved")
        secret = secrets.token_bytes(SECRET_BYTES)
        row = (InviteCode(secret, "").secret_hash, site_id, to_rfc3339(self._clock.now() + ttl))
        with self._lock, transaction(self._db) as db:
            db.execute("DELETE FROM invites WHERE site_id = ? AND used_by IS NULL", (site_id,))
            db.execute(
                "INSERT INTO invites (secret_hash, site_id, expires_at) VALUES (?, ?, ?)", row
            )
        events.emit("enrolment.opened", site=site_id)
        return secret

    def enrol(self, request: EnrolmentRequest) -> Site:
        """Record the keys of an invited site; it waits for approval.

        The same request sent again, because its answer was lost, gives the same result.

        Raises:
            EnrolmentCodeWrong: wrong, used or expired code, or made for another site.
            SignatureRejected: the proof does not cover the request.
            EnvelopeMalformed: a key is not one, or the node key is not EC P-384.
            EnrolmentKeyTaken: another site enrolled one of the keys.
        """
        try:
            secret_hash = parse_invite_code(request.code).secret_hash
        except InviteCodeMalformed as exc:
            raise EnrolmentCodeWrong("form") from exc
        keys = _parse_keys(request)
        claim = sha256_hex("\n".join((request.site_id, *keys)).encode("ascii"))
        with self._lock, transaction(self._db) as db:
            is_repeated = self._spend_code(db, secret_hash, request.site_id, claim)
            request_is_proved(request)
            if not is_repeated:
                self._insert(db, request.site_id, keys)
        site = self._known(request.site_id)
        if not is_repeated:
            key_id = site.signing_key.key_id
            events.emit("site.enrolled", site=site.site_id, key=key_id)
        return site

    def approve(self, site_id: SiteId) -> Site:
        """Let a pending site take part.

        Raises:
            SiteUnknown: no such site.
            SiteStateWrong: it is revoked; it must enrol again.
        """
        site = self._move(site_id, SiteState.APPROVED, allowed=(SiteState.PENDING,))
        events.emit("site.approved", site=site_id, key=site.signing_key.key_id)
        return site

    def revoke(self, site_id: SiteId) -> Site:
        """Shut a site out from its next request on; its open invitations end too.

        Raises:
            SiteUnknown: no such site.
        """
        site = self._move(
            site_id, SiteState.REVOKED, allowed=(SiteState.PENDING, SiteState.APPROVED)
        )
        events.emit("site.revoked", site=site_id, key=site.signing_key.key_id)
        return site

    def get(self, site_id: SiteId) -> Site | None:
        """Return a site as it stands now, or None."""
        with self._lock:
            row = self._db.execute("SELECT * FROM sites WHERE site_id = ?", (site_id,)).fetchone()
        return None if row is None else _site(row)

    def all(self) -> tuple[Site, ...]:
        """Return every site in the order of its id."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM sites ORDER BY site_id").fetchall()
        return tuple(_site(row) for row in rows)

    def record_node(self, site_id: SiteId, node_id: int, when: datetime) -> None:
        """Remember which Flower node a site is, and when it became active."""
        self._update(
            "UPDATE sites SET node_id = ?, activated_at = ? WHERE site_id = ?",
            (str(node_id), to_rfc3339(when), site_id),
        )

    def touch(self, site_id: SiteId, when: datetime) -> None:
        """Remember when a site was last heard."""
        with self._lock, transaction(self._soft) as db:
            db.execute(
                "UPDATE sites SET last_seen = ? WHERE site_id = ?", (to_rfc3339(when), site_id)
            )

    def record_upload(self, digest: str, site_id: SiteId) -> None:
        """Remember that a site sent this blob: other sites may not read it."""
        self._update("INSERT OR IGNORE INTO uploads VALUES (?, ?)", (digest, site_id))

    def forget_upload(self, digest: str, site_id: SiteId) -> None:
        """Take back `record_upload` for bytes that turned out to be others."""
        self._update("DELETE FROM uploads WHERE digest = ? AND site_id = ?", (digest, site_id))

    def has_sent(self, digest: str, site_id: SiteId) -> bool:
        """Tell whether this site itself sent all bytes of a blob."""
        with self._lock:
            row = self._db.execute(
                "SELECT 1 FROM uploads WHERE digest = ? AND site_id = ?", (digest, site_id)
            ).fetchone()
        return row is not None

    def _update(self, sql: str, values: tuple[str, ...]) -> None:
        with self._lock, transaction(self._db) as db:
            db.execute(sql, values)

    def _known(self, site_id: SiteId) -> Site:
        site = self.get(site_id)
        if site is None:
            raise SiteUnknown(site_id)
        return site

    def _move(self, site_id: SiteId, to: SiteState, allowed: tuple[SiteState, ...]) -> Site:
        site = self._known(site_id)
        if site.state is to:
            return site
        if site.state not in allowed:
            raise SiteStateWrong(site.state)
        with self._lock, transaction(self._db) as db:
            changed = db.execute(
                "UPDATE sites SET state = ? WHERE site_id = ? AND state = ?",
                (to, site_id, site.state),
            ).rowcount
            if to is SiteState.REVOKED:
                db.execute("DELETE FROM invites WHERE site_id = ? AND used_by IS NULL", (site_id,))
        if changed != 1:
            raise SiteStateWrong("changed by another process; look again")
        return self._known(site_id)

    def _spend_code(
        self, db: sqlite3.Connection, secret_hash: str, site_id: SiteId, claim: str
    ) -> bool:
        """Use up the code for `claim`; True if this very claim used it before."""
        row = db.execute("SELECT * FROM invites WHERE secret_hash = ?", (secret_hash,)).fetchone()
        if row is None or row["site_id"] != site_id:
            raise EnrolmentCodeWrong("unknown")
        if row["used_by"] is not None:
            if row["used_by"] != claim:
                raise EnrolmentCodeWrong("used")
            return True
        if datetime.fromisoformat(row["expires_at"]) <= self._clock.now():
            raise EnrolmentCodeWrong("expired")
        db.execute("UPDATE invites SET used_by = ? WHERE secret_hash = ?", (claim, secret_hash))
        return False

    def _insert(self, db: sqlite3.Connection, site_id: SiteId, keys: tuple[str, str, str]) -> None:
        former = db.execute("SELECT * FROM sites WHERE site_id = ?", (site_id,)).fetchone()
        if former is not None:
            if former["state"] == SiteState.APPROVED:
                raise SiteStateWrong("approved")
            if former["state"] == SiteState.REVOKED:  # revoked keys never come back
                db.execute(
                    "INSERT INTO retired_keys SELECT site_id, signing_key, transport_key,"
                    " node_key, ? FROM sites WHERE site_id = ?",
                    (to_rfc3339(self._clock.now()), site_id),
                )
            db.execute("DELETE FROM sites WHERE site_id = ?", (site_id,))
        taken = db.execute(
            "SELECT 1 FROM retired_keys WHERE signing_key = ? OR transport_key = ? OR node_key = ?",
            keys,
        ).fetchone()
        if taken is not None:
            raise EnrolmentKeyTaken("retired")
        try:
            db.execute(
                "INSERT INTO sites (site_id, state, signing_key, transport_key, node_key)"
                " VALUES (?, 'pending', ?, ?, ?)",
                (site_id, *keys),
            )
        except sqlite3.IntegrityError as exc:
            raise EnrolmentKeyTaken("in use") from exc


def request_is_proved(request: EnrolmentRequest) -> None:
    """Check the proof; a signing key that is not one is a rejected signature too."""
    try:
        request.check_proof()
    except KeyUnreadable as exc:
        raise SignatureRejected("signing key") from exc


def canonical_node_key(pem: str) -> str:
    """Return a Flower node's public key in the one PEM form Flower itself writes.

    Raises:
        EnvelopeMalformed: not a public key on P-384, the curve Flower uses.
    """
    try:
        key = serialization.load_pem_public_key(pem.encode("ascii"))
    except (ValueError, UnicodeEncodeError, TypeError) as exc:
        raise EnvelopeMalformed("node key") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise EnvelopeMalformed("node key is not on P-384")
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode("ascii")


def _parse_keys(request: EnrolmentRequest) -> tuple[str, str, str]:
    try:
        signing = VerifyKey.from_b64(request.signing_key)
        transport = VerifyKey.from_b64(request.transport_key)
    except KeyUnreadable as exc:
        raise EnvelopeMalformed("public key") from exc
    if signing == transport:
        raise EnvelopeMalformed("signing and transport key are the same")
    return signing.to_b64(), transport.to_b64(), canonical_node_key(request.node_key)


def _site(row: sqlite3.Row) -> Site:
    return Site(
        site_id=SiteId(row["site_id"]),
        state=SiteState(row["state"]),
        signing_key=VerifyKey.from_b64(row["signing_key"]),
        transport_key=VerifyKey.from_b64(row["transport_key"]),
        node_key=row["node_key"],
        node_id=None if row["node_id"] is None else int(row["node_id"]),
        activated_at=_moment(row["activated_at"]),
        last_seen=_moment(row["last_seen"]),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
