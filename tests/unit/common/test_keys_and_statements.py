"""Keys, envelopes and statements: test vectors, and every way in which they must fail."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from pleura.common.canonical import parse_json
from pleura.common.envelope import IN_TOTO, open_envelope, pre_authentication_encoding, seal
from pleura.common.errors import (
    EnvelopeMalformed,
    KeyFileInsecure,
    KeyUnknown,
    KeyUnreadable,
    SignatureRejected,
    StatementMalformed,
)
from pleura.common.keys import SigningKey, VerifyKey, create_key, load_key, load_or_create_key
from pleura.common.orders import Spec
from pleura.common.statements import Subject, open_statement, predicate_type, sign_statement

RFC8032_TEST_1 = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
BODY = (
    '{"_type":"https://in-toto.io/Statement/v1","predicate":{"round":1,"site":"site-a"},'
    '"predicateType":"https://pleura.example/update/v1",'
    '"subject":[{"digest":{"sha256":"' + "0" * 64 + '"},"name":"update"}]}'
).encode()


class RoundNote(Spec):
    round: int
    site: str


class OtherNote(Spec):
    round: int
    site: str


def keyring(key: SigningKey) -> dict[str, VerifyKey]:
    return {key.public.key_id: key.public}


def test_pae_is_the_one_of_the_dsse_protocol() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_signature_vector_of_the_design_page() -> None:
    key = SigningKey.from_seed(RFC8032_TEST_1)
    pae = pre_authentication_encoding(IN_TOTO, BODY)
    assert key.public.raw.hex().startswith("d75a980182b10ab7d54bfed3c964073a")
    assert hashlib.sha256(pae).hexdigest() == (
        "1a5ff28af728a760f3f12aca806e4b57a6103f8019653277a77fb95db6162ee1"
    )
    assert base64.b64encode(key.sign(pae)).decode() == (
        "kn9r1Ne4jbUhzmNDrJwVXGduwXFssge6RqJzmC/8Z4aoZqcABEqPKte0CTTqL/6M4ndwHgdbjk3MFmiJHL6KDg=="
    )


def test_envelope_round_trip_returns_the_signed_bytes() -> None:
    key = SigningKey.generate()
    envelope = seal(BODY, key)
    opened = open_envelope(envelope, keyring(key))
    assert (opened.payload, opened.key_id) == (BODY, key.public.key_id)
    assert opened.digest == hashlib.sha256(envelope).hexdigest()


@pytest.mark.parametrize("field", ["payload", "payloadType", "keyid", "sig"])
def test_one_changed_character_in_any_field_is_refused(field: str) -> None:
    key = SigningKey.generate()
    value = json.loads(seal(BODY, key))
    holder = value if field in value else value["signatures"][0]
    text = holder[field]
    holder[field] = ("B" if text[4] != "B" else "C").join((text[:4], text[5:]))
    with pytest.raises((SignatureRejected, EnvelopeMalformed, KeyUnknown)):
        open_envelope(json.dumps(value).encode(), keyring(key))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(extra=1),
        lambda v: v.pop("payload"),
        lambda v: v.update(signatures=[]),
        lambda v: v.update(signatures=v["signatures"] * 2),
        lambda v: v.update(payload=3),
        lambda v: v.update(payload="***"),
        lambda v: v["signatures"][0].update(note=""),
    ],
)
def test_an_envelope_of_another_shape_is_refused(change: object) -> None:
    key = SigningKey.generate()
    value = json.loads(seal(BODY, key))
    change(value)  # type: ignore[operator]
    with pytest.raises(EnvelopeMalformed):
        open_envelope(json.dumps(value).encode(), keyring(key))


def test_a_key_that_is_not_registered_is_refused() -> None:
    envelope = seal(BODY, SigningKey.generate())
    with pytest.raises(KeyUnknown):
        open_envelope(envelope, keyring(SigningKey.generate()))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":-1e999}',
        b'{"a":1' + b"0" * 5000 + b"}",  # Python refuses to read it, with its own error
        b"\xff",
        b"{",
        b"[" * 40 + b"]" * 40,
        b'"' + b"x" * 300_000 + b'"',
    ],
)
def test_json_from_outside_is_parsed_strictly(text: bytes) -> None:
    with pytest.raises(EnvelopeMalformed):
        parse_json(text)


def test_statement_round_trip() -> None:
    key = SigningKey.generate()
    subject = Subject("update", "ab" * 32)
    opened = open_statement(
        sign_statement(RoundNote(round=3, site="site-a"), [subject], key), keyring(key), RoundNote
    )
    assert opened.predicate == RoundNote(round=3, site="site-a")
    assert opened.subjects == (subject,)


def test_a_statement_of_another_type_is_refused_even_with_equal_fields() -> None:
    key = SigningKey.generate()
    envelope = sign_statement(RoundNote(round=3, site="site-a"), [], key)
    with pytest.raises(StatementMalformed):
        open_statement(envelope, keyring(key), OtherNote)


def _statement(**changes: object) -> bytes:
    value: dict[str, object] = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": {"round": 1, "site": "site-a"},
        "predicateType": predicate_type(RoundNote),
        "subject": [],
    }
    value.update(changes)
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        _statement(extra=1),
        _statement(_type="other"),
        _statement(predicate={"round": 1, "site": "site-a", "more": 1}),
        _statement(predicate={"round": "one", "site": "site-a"}),
        _statement(subject={}),
        _statement(subject=[{"name": "a"}]),
        _statement(subject=[{"name": "a", "digest": {"md5": "0"}}]),
        _statement(subject=[{"name": "a", "digest": {"sha256": "xyz"}}]),
        _statement(subject=[{"name": "a", "digest": {"sha256": "0" * 64}}] * 65),
    ],
)
def test_a_signed_statement_of_another_shape_is_refused(payload: bytes) -> None:
    key = SigningKey.generate()
    with pytest.raises(StatementMalformed):
        open_statement(seal(payload, key), keyring(key), RoundNote)


def test_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "site.key"
    key = create_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert load_key(path).public == key.public
    assert load_or_create_key(path).public == key.public
    with pytest.raises(KeyUnreadable):
        create_key(path)
    assert load_key(path).public == key.public


def test_a_key_file_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "site.key"
    create_key(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileInsecure):
        load_key(path)
    path.chmod(0o600)
    path.parent.chmod(0o755)
    with pytest.raises(KeyFileInsecure):
        load_key(path)


def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "site.key"
    create_key(path, passphrase=b"correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    load_key(path, passphrase=b"correct horse")
    for wrong in (None, b"battery staple"):
        with pytest.raises(KeyUnreadable):
            load_key(path, passphrase=wrong)


def test_what_is_not_a_key_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    tmp_path.chmod(0o700)
    with pytest.raises(KeyUnreadable):
        load_key(path)
    path.write_bytes(b"no key")
    path.chmod(0o600)
    with pytest.raises(KeyUnreadable):
        load_key(path)
    for text in ("", "AAAA", "not base64!"):
        with pytest.raises(KeyUnreadable):
            VerifyKey.from_b64(text)


def test_a_signing_key_does_not_show_itself() -> None:
    key = SigningKey.generate()
    assert repr(key) == f"SigningKey({key.public.key_id})"
    assert VerifyKey.from_b64(key.public.to_b64()) == key.public
