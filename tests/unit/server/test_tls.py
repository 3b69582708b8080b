"""The coordinator's own CA and certificate, checked with OpenSSL through Python's ssl."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pleura.common.errors import StateInsecure
from pleura.common.ids import FederationId
from pleura.server.errors import TlsMissing
from pleura.server.settings import ServerSettings
from pleura.server.tls import (
    authority_fingerprint,
    ensure_tls,
    is_renewal_due,
    renew_if_due,
    server_names,
)

NOW = datetime.now(UTC)


def settings_in(folder: Path, host: str = "127.0.0.1", url: str = "") -> ServerSettings:
    return ServerSettings(
        federation_id=FederationId("fed"),
        state_dir=folder,
        host=host,
        public_url=url or "https://coordinator.example.org:8443",
    )


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_certificate_names_the_public_host_and_the_address(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "s")
    ensure_tls(settings, NOW)
    names = certificate(settings.tls_cert_file).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["coordinator.example.org"]
    assert names.value.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_wildcard_address_is_no_name(tmp_path: Path, host: str) -> None:
    assert server_names(settings_in(tmp_path, host)) == ("coordinator.example.org",)


def test_key_files_are_private_and_of_curve_p256(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "s")
    ensure_tls(settings, NOW)
    for file in (settings.tls_key_file, settings.ca_file.parent / "ca.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.ca_file.parent.stat().st_mode) == 0o700
    public = certificate(settings.ca_file).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert isinstance(public.curve, ec.SECP256R1)


def test_init_twice_keeps_ca_and_certificate(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "s")
    first = ensure_tls(settings, NOW)
    files = (settings.ca_file, settings.tls_cert_file, settings.tls_key_file)
    before = [file.read_bytes() for file in files]
    assert ensure_tls(settings, NOW) == first == authority_fingerprint(settings)
    assert [file.read_bytes() for file in files] == before


def test_ca_without_its_key_is_never_replaced(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "s")
    ensure_tls(settings, NOW)
    (settings.ca_file.parent / "ca.key").unlink()
    with pytest.raises(TlsMissing):
        ensure_tls(settings, NOW)


def test_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "s")
    settings.ca_file.parent.mkdir(parents=True, mode=0o755)
    settings.ca_file.parent.chmod(0o755)
    with pytest.raises(StateInsecure):
        ensure_tls(settings, NOW)


def test_missing_certificates_are_named(tmp_path: Path) -> None:
    with pytest.raises(TlsMissing):
        is_renewal_due(settings_in(tmp_path / "s"), NOW)
    with pytest.raises(TlsMissing):
        authority_fingerprint(settings_in(tmp_path / "s"))


def test_certificate_is_renewed_60_days_before_its_end_under_the_same_ca(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "s")
    fingerprint = ensure_tls(settings, NOW)
    before = settings.tls_cert_file.read_bytes()
    assert not renew_if_due(settings, NOW + timedelta(days=336))
    assert settings.tls_cert_file.read_bytes() == before
    late = NOW + timedelta(days=338)
    assert renew_if_due(settings, late)
    assert authority_fingerprint(settings) == fingerprint
    assert certificate(settings.tls_cert_file).not_valid_after_utc > late + timedelta(days=390)
    assert not is_renewal_due(settings, late)


def test_certificate_is_renewed_when_the_public_name_changed(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "s")
    ensure_tls(settings, NOW)
    moved = settings.model_copy(update={"public_url": "https://new.example.org"})
    assert renew_if_due(moved, NOW)
    assert not is_renewal_due(moved, NOW)


def test_openssl_accepts_the_chain_with_strict_checks(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "s")
    ensure_tls(settings, NOW)
    assert handshake(settings, settings.ca_file, "127.0.0.1") == "ok"
    assert handshake(settings, settings.ca_file, "coordinator.example.org") == "ok"


def test_openssl_refuses_another_name_and_another_ca(tmp_path: Path) -> None:
    settings, other = settings_in(tmp_path / "s"), settings_in(tmp_path / "o")
    ensure_tls(settings, NOW)
    ensure_tls(other, NOW)
    assert handshake(settings, settings.ca_file, "elsewhere.example.org") == "refused"
    assert handshake(settings, other.ca_file, "127.0.0.1") == "refused"


def handshake(settings: ServerSettings, ca_file: Path, name: str) -> str:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_verify_locations(cafile=ca_file)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as stream:
                stream.send(b"x")
        except (ssl.SSLError, OSError):
            return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as stream:
            stream.recv(1)
        return "ok"
    except ssl.SSLCertVerificationError:
        return "refused"
    finally:
        ours.close()
        thread.join(5)
        theirs.close()
