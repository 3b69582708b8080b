"""DSSE envelopes: sign the exact payload bytes, verify them before reading them.

Pre-authentication encoding and JSON form follow the DSSE v1 protocol. The
payload is parsed once, after verification, and never serialised again; `keyid`
is a hint for look-up only.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from pleura.common.canonical import canonical_json, parse_json, sha256_hex
from pleura.common.errors import EnvelopeMalformed, KeyUnknown
from pleura.common.ids import KeyId
from pleura.common.keys import SigningKey, VerifyKey

IN_TOTO = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True)
class OpenedEnvelope:
    """A verified payload, the key that signed it and the digest of the envelope bytes."""

    payload: bytes
    key_id: KeyId
    digest: str


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's PAE of a payload."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, key: SigningKey, *, payload_type: str = IN_TOTO) -> bytes:
    """Return the canonical JSON bytes of an envelope with one signature."""
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    return canonical_json(
        {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": payload_type,
            "signatures": [
                {"keyid": key.public.key_id, "sig": base64.b64encode(signature).decode("ascii")}
            ],
        }
    )


def open_envelope(
    envelope: bytes, keys: Mapping[KeyId, VerifyKey], *, payload_type: str = IN_TOTO
) -> OpenedEnvelope:
    """Verify an envelope and return its payload.

    Raises:
        EnvelopeMalformed: not exactly the expected shape or payload type.
        KeyUnknown: no key of that id is active.
        SignatureRejected: the signature does not cover these bytes.
    """
    value = parse_json(envelope)
    if not isinstance(value, dict) or set(value) != {"payload", "payloadType", "signatures"}:
        raise EnvelopeMalformed("fields differ from DSSE")
    signatures = value["signatures"]
    if not (
        isinstance(signatures, list)
        and len(signatures) == 1
        and isinstance(signatures[0], dict)
        and set(signatures[0]) == {"keyid", "sig"}
    ):
        raise EnvelopeMalformed("one signature is expected")
    if value["payloadType"] != payload_type:
        raise EnvelopeMalformed("payload type differs")
    payload, signature = _decode(value["payload"]), _decode(signatures[0]["sig"])
    key = keys.get(KeyId(str(signatures[0]["keyid"])))
    if key is None:
        raise KeyUnknown("no active key of this id")
    key.verify(signature, pre_authentication_encoding(payload_type, payload))
    return OpenedEnvelope(payload, key.key_id, sha256_hex(envelope))


def _decode(text: object) -> bytes:
    if not isinstance(text, str):
        raise EnvelopeMalformed("base64 text is expected")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise EnvelopeMalformed("not base64") from exc
