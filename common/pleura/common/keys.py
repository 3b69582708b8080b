"""Ed25519 keys: made where they are used, stored as PKCS#8 PEM with mode 0600.

A key id is the first 32 hex digits of SHA-256 over the raw public key. It is a
hint for look-up; what counts is the key a registry holds for a site.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pleura.common.errors import KeyFileInsecure, KeyUnreadable, SignatureRejected
from pleura.common.files import fsync_folder, write_atomic
from pleura.common.ids import KeyId


@dataclass(frozen=True)
class VerifyKey:
    """A public key; `raw` are its 32 bytes."""

    raw: bytes

    @property
    def key_id(self) -> KeyId:
        return KeyId(hashlib.sha256(self.raw).hexdigest()[:32])

    def verify(self, signature: bytes, data: bytes) -> None:
        """Return if `signature` covers `data`.

        Raises:
            SignatureRejected: it does not.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except InvalidSignature as exc:
            raise SignatureRejected("Ed25519") from exc

    def to_b64(self) -> str:
        return base64.b64encode(self.raw).decode("ascii")

    @staticmethod
    def from_raw(raw: bytes) -> VerifyKey:
        """Return the key of 32 raw bytes.

        Raises:
            KeyUnreadable: not 32 bytes.
        """
        if len(raw) != 32:
            raise KeyUnreadable("a public key has 32 bytes")
        return VerifyKey(raw)

    @staticmethod
    def from_b64(text: str) -> VerifyKey:
        """Return the key of a base64 text.

        Raises:
            KeyUnreadable: not base64 of 32 bytes.
        """
        try:
            return VerifyKey.from_raw(base64.b64decode(text.strip(), validate=True))
        except (ValueError, binascii.Error) as exc:
            raise KeyUnreadable("public key is not base64") from exc


class SigningKey:
    """A private key; it signs and never shows itself."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = VerifyKey(private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"SigningKey({self.public.key_id})"

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of `data`."""
        return self._private.sign(data)

    @staticmethod
    def generate() -> SigningKey:
        return SigningKey(Ed25519PrivateKey.generate())

    @staticmethod
    def from_seed(seed: bytes) -> SigningKey:
        """Return the key of a 32-byte RFC 8032 seed (test vectors)."""
        return SigningKey(Ed25519PrivateKey.from_private_bytes(seed))

    def to_pem(self, passphrase: bytes | None = None) -> bytes:
        """Return PKCS#8 PEM, encrypted if a passphrase is given."""
        protection: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(passphrase)
            if passphrase
            else serialization.NoEncryption()
        )
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
        )


def create_key(path: Path, *, passphrase: bytes | None = None) -> SigningKey:
    """Create a key file with mode 0600 in a folder of mode 0700; an existing one is kept.

    Raises:
        KeyUnreadable: the file exists already.
        KeyFileInsecure: the folder is open to others.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_mode(path.parent)
    key = SigningKey.generate()
    staged = path.with_name(f"{path.name}.{os.getpid()}.new")
    write_atomic(staged, key.to_pem(passphrase))
    try:
        os.link(staged, path)  # fails if the key exists: never overwritten
    except FileExistsError as exc:
        raise KeyUnreadable("a key exists at this path and is never overwritten") from exc
    finally:
        staged.unlink()
    fsync_folder(path.parent)
    return key


def load_key(path: Path, *, passphrase: bytes | None = None) -> SigningKey:
    """Read a key file.

    Raises:
        KeyFileInsecure: group or others can read the file or enter its folder.
        KeyUnreadable: missing, not a key, or the passphrase is wrong.
    """
    try:
        _check_mode(path)
        _check_mode(path.parent)
        private = serialization.load_pem_private_key(path.read_bytes(), passphrase)
    except (OSError, ValueError, TypeError) as exc:
        raise KeyUnreadable(f"key file {path.name}") from exc
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyUnreadable("not an Ed25519 key")
    return SigningKey(private)


def load_or_create_key(path: Path, *, passphrase: bytes | None = None) -> SigningKey:
    """Read the key at `path`, or create it there if nothing is there."""
    if path.exists():
        return load_key(path, passphrase=passphrase)
    return create_key(path, passphrase=passphrase)


def _check_mode(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileInsecure(f"{path.name} is open to others")
