"""Enrolment: the one-time code and the request both sides must spell the same way.

A code carries the secret that lets one site in and the fingerprint of the
coordinator's CA, so the site knows whom it talks to before it sends anything.
The request binds the site's three public keys to that code by a signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, StringConstraints

from pleura.common.canonical import canonical_json
from pleura.common.errors import InviteCodeMalformed
from pleura.common.ids import SiteIdField
from pleura.common.keys import SigningKey, VerifyKey

SECRET_BYTES = 16
FINGERPRINT_DIGITS = 16
CHECK_DIGITS = 4
_CODE = re.compile(r"PL1-([A-Z2-7]{26})-([0-9a-f]{16})-([0-9a-f]{4})")
_PROOF_PREFIX = b"pleura-enrol-v1\n"

Base64Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{43}=$")]
NodeKeyPem = Annotated[str, StringConstraints(min_length=100, max_length=1000)]


@dataclass(frozen=True, slots=True)
class InviteCode:
    """A one-time code: 128 secret bits and the first 16 hex digits of the CA's SHA-256."""

    secret: bytes
    ca_prefix: str

    def __repr__(self) -> str:
        return f"InviteCode(ca_prefix={self.ca_prefix!r})"  # never the secret

    @property
    def text(self) -> str:
        """The code as the operator copies it; the last four digits catch typing errors."""
        secret = base64.b32encode(self.secret).decode("ascii").rstrip("=")
        body = f"PL1-{secret}-{self.ca_prefix}"
        return f"{body}-{_check_digits(body)}"

    @property
    def secret_hash(self) -> str:
        """What the coordinator stores instead of the secret: 64 hex digits."""
        return hashlib.sha256(self.secret).hexdigest()

    def matches_ca(self, fingerprint: str) -> bool:
        """Tell whether this code was made for the CA with this SHA-256 (64 hex digits)."""
        return fingerprint[:FINGERPRINT_DIGITS] == self.ca_prefix


def parse_invite_code(text: str) -> InviteCode:
    """Return the code in `text`.

    Raises:
        InviteCodeMalformed: not a code, or its check digits show a typing error.
    """
    match = _CODE.fullmatch(text.strip())
    if match is None:
        raise InviteCodeMalformed("form")
    secret_text, ca_prefix, check = match.groups()
    if _check_digits(f"PL1-{secret_text}-{ca_prefix}") != check:
        raise InviteCodeMalformed("check digits")
    try:
        secret = base64.b32decode(secret_text + "======")
    except binascii.Error as exc:
        raise InviteCodeMalformed("secret") from exc
    return InviteCode(secret, ca_prefix)


class EnrolmentRequest(BaseModel, frozen=True, extra="forbid"):
    """What a site sends once: its code, its public keys and the proof that binds them.

    `proof` is the base64 signature of `signed_bytes` by the signing key.
    """

    site_id: SiteIdField
    code: Annotated[str, StringConstraints(max_length=100)]
    signing_key: Base64Key
    transport_key: Base64Key
    node_key: NodeKeyPem
    proof: Annotated[str, StringConstraints(max_length=100)] = ""

    @property
    def signed_bytes(self) -> bytes:
        """The bytes the proof covers: every field but the proof itself."""
        return _PROOF_PREFIX + canonical_json(self.model_dump(exclude={"proof"}))

    def proved_by(self, key: SigningKey) -> EnrolmentRequest:
        """Return this request with the proof of `key`."""
        proof = base64.b64encode(key.sign(self.signed_bytes)).decode("ascii")
        return self.model_copy(update={"proof": proof})

    def check_proof(self) -> None:
        """Return if the holder of `signing_key` made this request.

        Raises:
            SignatureRejected: the signature does not cover these fields.
            KeyUnreadable: the signing key is not one.
        """
        try:
            signature = base64.b64decode(self.proof, validate=True)
        except (binascii.Error, ValueError):
            signature = b""
        VerifyKey.from_b64(self.signing_key).verify(signature, self.signed_bytes)


def ca_fingerprint(ca_pem: bytes) -> str:
    """Return the SHA-256 of a CA certificate's DER form as 64 hex digits.

    Raises:
        ValueError: not exactly one certificate. A second one in the file would be
            trusted by TLS but not covered by the fingerprint.
    """
    certificates = x509.load_pem_x509_certificates(ca_pem)
    if len(certificates) != 1:
        raise ValueError("exactly one certificate is expected")
    return hashlib.sha256(certificates[0].public_bytes(Encoding.DER)).hexdigest()


def _check_digits(body: str) -> str:
    return hashlib.sha256(body.encode("ascii")).hexdigest()[:CHECK_DIGITS]
