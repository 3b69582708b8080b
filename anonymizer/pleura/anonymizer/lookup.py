"""Look-ups: an original PatientID sealed to the steward's public key, and opened again.

X25519 with a fresh key a box, HKDF-SHA-256 over both public keys, ChaCha20-Poly1305 bound to
the pseudonym (RFC 7748, 5869, 8439). Whoever holds map.db and the project key still cannot
open a box; its length tells the length of an ID to within 64 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pleura.anonymizer.errors import LookUpRefused
from pleura.common.clock import Clock, to_rfc3339

_INFO: Final = b"pleura/deid/v1/lookup\0"
_BLOCK: Final = 64
_KEY_BYTES: Final = 32
_NONCE: Final = bytes(12)  # every box has a key of its own


@dataclass(frozen=True, slots=True)
class StewardKey:
    """The steward's public X25519 key, 32 bytes; the private one never comes to this site."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != _KEY_BYTES:
            raise LookUpRefused("a steward's key has 32 bytes")

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Return the key written as 64 hex digits.

        Raises:
            LookUpRefused: the text is something else.
        """
        try:
            return cls(bytes.fromhex(text.strip()))
        except ValueError:
            raise LookUpRefused("a steward's key is written in 64 hex digits") from None


class _Sealed(Protocol):
    def sealed(self, pseudonym: str, *, at: str) -> bytes | None: ...


def seal(original: str, pseudonym: str, steward: StewardKey) -> bytes:
    """Return `original` in a box that only the steward's private key opens."""
    once = X25519PrivateKey.generate()
    mine = once.public_key().public_bytes_raw()
    shared = once.exchange(X25519PublicKey.from_public_bytes(steward.raw))
    text = original.encode()
    padded = len(text).to_bytes(4, "big") + text
    padded += bytes(-len(padded) % _BLOCK)
    cipher = ChaCha20Poly1305(_box_key(shared, mine, steward.raw))
    return mine + cipher.encrypt(_NONCE, padded, pseudonym.encode())


def unseal(box: bytes, pseudonym: str, private_key: X25519PrivateKey) -> str:
    """Return the original in a box.

    Raises:
        LookUpRefused: the box is damaged, of another pseudonym, or sealed to another key.
    """
    theirs, text = box[:_KEY_BYTES], box[_KEY_BYTES:]
    own = private_key.public_key().public_bytes_raw()
    try:
        shared = private_key.exchange(X25519PublicKey.from_public_bytes(theirs))
        cipher = ChaCha20Poly1305(_box_key(shared, theirs, own))
        padded = cipher.decrypt(_NONCE, text, pseudonym.encode())
    except (InvalidTag, ValueError):
        raise LookUpRefused("the box does not open") from None
    return padded[4 : 4 + int.from_bytes(padded[:4], "big")].decode()


def look_up(
    mapping: _Sealed, pseudonym: str, private_key: X25519PrivateKey, *, clock: Clock
) -> str:
    """Return what a patient was keyed by: the PatientID, or `study:` + study UID.

    Every call leaves a row with its time in the mapping, answered or not.

    Raises:
        LookUpRefused: nothing is sealed for it, or the key is not the steward's.
    """
    box = mapping.sealed(pseudonym, at=to_rfc3339(clock.now()))
    if box is None:
        raise LookUpRefused("nothing is sealed for this pseudonym")
    return unseal(box, pseudonym, private_key)


def _box_key(shared: bytes, once: bytes, steward: bytes) -> bytes:
    kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=_INFO + once + steward)
    return kdf.derive(shared)
