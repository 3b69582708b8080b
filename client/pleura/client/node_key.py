"""The Flower node key: the EC P-384 key by which the SuperLink knows a node again.

Flower reads it as PKCS#8 PEM. It proves nothing about orders or updates; those are
signed with the site's own keys.
"""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pleura.common.errors import KeyFileInsecure, KeyUnreadable
from pleura.common.files import ensure_private_folder, write_atomic


def load_or_create_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the node key, or create it with mode 0600 if nothing is there.

    Raises:
        KeyFileInsecure: group or others can read the file.
        KeyUnreadable: the file is not an EC P-384 private key.
        StateInsecure: the folder is open to others.
    """
    if path.exists():
        return load_node_key(path)
    ensure_private_folder(path.parent)
    key = ec.generate_private_key(ec.SECP384R1())
    write_atomic(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return key


def load_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the node key.

    Raises:
        KeyFileInsecure: group or others can read the file.
        KeyUnreadable: missing, or not an EC P-384 private key.
    """
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise KeyFileInsecure(path.name)
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as exc:
        raise KeyUnreadable(path.name) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise KeyUnreadable(path.name)
    return key


def public_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Return the public half as the PEM text Flower sends in its headers."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode("ascii")
    )
