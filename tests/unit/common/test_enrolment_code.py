"""The one-time code and the enrolment request: spelled once, checked digit by digit."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleura.common.enrolment import EnrolmentRequest, InviteCode, ca_fingerprint, parse_invite_code
from pleura.common.errors import InviteCodeMalformed, SignatureRejected
from pleura.common.keys import SigningKey

SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567abcdef0123456789-"


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8))
def test_every_code_reads_back_as_itself(secret: bytes, ca: bytes) -> None:
    code = InviteCode(secret, ca.hex())
    assert parse_invite_code(f"  {code.text}\n") == code


def test_every_single_wrong_sign_of_a_code_is_noticed() -> None:
    text = InviteCode(bytes(range(16)), "0123456789abcdef").text
    for place, right in enumerate(text):
        for sign in SIGNS.replace(right, ""):
            with pytest.raises(InviteCodeMalformed):
                parse_invite_code(text[:place] + sign + text[place + 1 :])


@pytest.mark.parametrize("text", ["", "PL1", "PL2-" + "A" * 26, "PL1--", "x" * 10_000])
def test_anything_else_is_no_code(text: str) -> None:
    with pytest.raises(InviteCodeMalformed):
        parse_invite_code(text)


def test_code_shows_no_secret_when_it_is_printed() -> None:
    code = InviteCode(b"0123456789abcdef", "0" * 16)
    assert "0123456789abcdef" not in repr(code)
    assert code.text.split("-")[1] not in repr(code)


def test_code_belongs_to_one_ca() -> None:
    code = InviteCode(os.urandom(16), "ab" * 8)
    assert code.matches_ca("ab" * 32)
    assert not code.matches_ca("ab" * 7 + "ac" * 25)


def request(key: SigningKey) -> EnrolmentRequest:
    return EnrolmentRequest(
        site_id="site-a",
        code="PL1-code",
        signing_key=key.public.to_b64(),
        transport_key=SigningKey.generate().public.to_b64(),
        node_key="-----BEGIN PUBLIC KEY-----" + "x" * 100,
    )


def test_proof_of_the_signing_key_is_accepted() -> None:
    key = SigningKey.generate()
    request(key).proved_by(key).check_proof()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("site_id", "site-b"),
        ("code", "PL1-other"),
        ("transport_key", SigningKey.generate().public.to_b64()),
        ("node_key", "-----BEGIN PUBLIC KEY-----" + "y" * 100),
        ("signing_key", SigningKey.generate().public.to_b64()),
        ("proof", ""),
        ("proof", "not base64"),
    ],
)
def test_proof_covers_every_field(field: str, value: str) -> None:
    key = SigningKey.generate()
    changed = request(key).proved_by(key).model_copy(update={field: value})
    with pytest.raises(SignatureRejected):
        changed.check_proof()


def test_file_without_a_certificate_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match=r".+"):
        ca_fingerprint(b"no certificate")
