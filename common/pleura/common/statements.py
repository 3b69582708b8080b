"""Signed statements: a typed predicate about named digests (in-toto Statement v1 in DSSE).

The predicate type is derived from the model class, so an envelope made for one
purpose cannot be read as another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from pleura.common.canonical import canonical_json, parse_json
from pleura.common.envelope import open_envelope, seal
from pleura.common.errors import StatementMalformed
from pleura.common.ids import SHA256_PATTERN, KeyId
from pleura.common.keys import SigningKey, VerifyKey

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
NAMESPACE = "https://pleura.example/"

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Subject:
    """A named thing and its SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Opened(Generic[P]):
    """A verified statement; `digest` is the SHA-256 of the envelope bytes."""

    predicate: P
    subjects: tuple[Subject, ...]
    key_id: KeyId
    digest: str


def predicate_type(model: type[BaseModel]) -> str:
    """Return the predicate type URI of a model, e.g. `.../update-statement/v1`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", model.__name__).lower()
    return f"{NAMESPACE}{words}/v1"


def sign_statement(predicate: BaseModel, subjects: Sequence[Subject], key: SigningKey) -> bytes:
    """Return the envelope bytes of a statement over `subjects`."""
    statement = {
        "_type": STATEMENT_TYPE,
        "predicate": predicate.model_dump(mode="json", by_alias=True),
        "predicateType": predicate_type(type(predicate)),
        "subject": [{"digest": {"sha256": s.sha256}, "name": s.name} for s in subjects],
    }
    return seal(canonical_json(statement), key)


def open_statement(envelope: bytes, keys: Mapping[KeyId, VerifyKey], expect: type[P]) -> Opened[P]:
    """Verify an envelope and return its predicate as `expect`.

    Raises:
        EnvelopeMalformed, KeyUnknown, SignatureRejected: see `open_envelope`.
        StatementMalformed: another predicate type, an unknown field or a bad value.
    """
    opened = open_envelope(envelope, keys)
    statement = parse_json(opened.payload)
    if not isinstance(statement, dict) or set(statement) != {
        "_type",
        "predicate",
        "predicateType",
        "subject",
    }:
        raise StatementMalformed("fields differ from in-toto v1")
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != predicate_type(expect):
        raise StatementMalformed("another type of statement")
    try:
        predicate = expect.model_validate(statement["predicate"])
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StatementMalformed(f"{where}: {first['type']}") from exc
    return Opened(predicate, _subjects(statement["subject"]), opened.key_id, opened.digest)


def statement_kind(envelope: bytes, keys: Mapping[KeyId, VerifyKey]) -> str:
    """Return the predicate type of a verified envelope.

    Raises:
        EnvelopeMalformed, KeyUnknown, SignatureRejected: see `open_envelope`.
    """
    statement = parse_json(open_envelope(envelope, keys).payload)
    return str(statement.get("predicateType", "")) if isinstance(statement, dict) else ""


def _subjects(value: Any) -> tuple[Subject, ...]:
    if not isinstance(value, list) or len(value) > 64:
        raise StatementMalformed("subject list")
    return tuple(_subject(item) for item in value)


def _subject(item: Any) -> Subject:
    if not isinstance(item, dict) or set(item) != {"digest", "name"}:
        raise StatementMalformed("subject")
    digest = item["digest"]
    if not isinstance(digest, dict) or set(digest) != {"sha256"}:
        raise StatementMalformed("subject digest")
    if not isinstance(item["name"], str) or not re.fullmatch(SHA256_PATTERN, str(digest["sha256"])):
        raise StatementMalformed("subject digest")
    return Subject(item["name"], digest["sha256"])
