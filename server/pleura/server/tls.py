"""TLS of the coordinator: its own CA, and the server certificate that CA signs.

Sites pin the CA, so no public CA can vouch for an impostor. Both keys are ECDSA
P-256: every OpenSSL and every proxy knows it, and the chain is short. The CA key
is needed only to renew the server certificate.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pleura.common.enrolment import ca_fingerprint
from pleura.common.errors import KeyUnreadable
from pleura.common.files import ensure_private_folder, write_atomic
from pleura.server.errors import TlsMissing
from pleura.server.settings import ServerSettings

CA_DAYS: Final = 3650
SERVER_DAYS: Final = 397
RENEW_BEFORE: Final = timedelta(days=60)
BACKDATED: Final = timedelta(hours=1)  # a site whose clock is late still accepts it
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})


def server_names(settings: ServerSettings) -> tuple[str, ...]:
    """Return the host names and addresses the certificate must cover, each once."""
    public = urlsplit(settings.public_url).hostname or ""
    names = (public, settings.host)
    return tuple(dict.fromkeys(name for name in names if name and name not in _WILDCARDS))


def ensure_tls(settings: ServerSettings, now: datetime) -> str:
    """Create CA and server certificate where missing; return the CA's SHA-256 (64 hex).

    An existing CA is kept: replacing it would lock out every enrolled site.

    Raises:
        TlsMissing: there is a CA certificate without its key, or the reverse.
        StateInsecure: the folder is open to others.
    """
    folder = ensure_private_folder(settings.ca_file.parent)
    key_file = folder / "ca.key"
    if settings.ca_file.exists() != key_file.exists():
        raise TlsMissing("CA certificate and CA key do not belong together")
    if not key_file.exists():
        _create_authority(settings, key_file, now)
    if not settings.tls_cert_file.exists() or not settings.tls_key_file.exists():
        _issue_server_certificate(settings, now)
    return authority_fingerprint(settings)


def is_renewal_due(settings: ServerSettings, now: datetime) -> bool:
    """Tell whether the server certificate ends within 60 days or lacks a name.

    Raises:
        TlsMissing: there is no readable certificate.
    """
    certificate = _load_certificate(settings.tls_cert_file)
    if certificate.not_valid_after_utc - now < RENEW_BEFORE:
        return True
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return not {_general_name(name) for name in server_names(settings)} <= set(found)


def renew_if_due(settings: ServerSettings, now: datetime) -> bool:
    """Issue a new server certificate if one is due; return whether it was.

    The CA stays, so no site notices.

    Raises:
        TlsMissing: CA, CA key or certificate is missing or unreadable.
    """
    if not is_renewal_due(settings, now):
        return False
    _issue_server_certificate(settings, now)
    return True


def authority_fingerprint(settings: ServerSettings) -> str:
    """Return the SHA-256 of the CA certificate, 64 hex digits.

    Raises:
        TlsMissing: the file is missing or is not one certificate.
    """
    try:
        return ca_fingerprint(settings.ca_file.read_bytes())
    except (OSError, ValueError) as exc:
        raise TlsMissing("CA certificate") from exc


def _create_authority(settings: ServerSettings, key_file: Path, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Pleura CA {settings.federation_id}")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key.public_key(), now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    write_atomic(key_file, _pem_of(key))
    write_atomic(settings.ca_file, certificate.public_bytes(serialization.Encoding.PEM))


def _issue_server_certificate(settings: ServerSettings, now: datetime) -> None:
    authority = _load_certificate(settings.ca_file)
    authority_key = _load_private(settings.ca_file.parent / "ca.key")
    key = ec.generate_private_key(ec.SECP256R1())
    names = server_names(settings)
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _builder(_name(names[0]), authority.subject, key.public_key(), now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    # key first: a crash in between leaves a pair that fails loudly, and init makes a new one
    settings.tls_cert_file.unlink(missing_ok=True)
    write_atomic(settings.tls_key_file, _pem_of(key))
    write_atomic(settings.tls_cert_file, certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])  # RFC 5280: 64


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise TlsMissing(path.name) from exc


def _load_private(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError as exc:
        raise TlsMissing(path.name) from exc
    except (OSError, ValueError, TypeError) as exc:
        raise KeyUnreadable(path.name) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnreadable(path.name)
    return key
