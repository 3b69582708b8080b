"""Receipts: what was done to one object, in counts, digests and pseudonyms only.

The model is closed: no field takes free text, so no value of a patient can be in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from pleura.anonymizer.errors import KeysMixed
from pleura.common.canonical import canonical_json

Hex16 = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Pseudonym = Annotated[str, Field(pattern=r"^P[A-Z2-7]{16}$")]
MappedUid = Annotated[str, Field(pattern=r"^2\.25\.[0-9]{1,39}$")]
TagName = Annotated[str, Field(pattern=r"^(\([0-9A-F]{4},[0-9A-F]{4}\)|private|unknown)$")]
ActionName = Literal[
    "removed", "emptied", "dummy", "uid_mapped", "kept", "shifted", "recursed", "seed",
    "hidden_bits", "comments",
]  # fmt: skip
OverrideName = Literal["unread_text"]

RECEIPT_FORMAT: Final = 1


class OcrCounts(BaseModel, frozen=True, extra="forbid"):
    """What was read for burned-in text: frames, boxes blacked out, side markers that stayed."""

    frames: int = Field(ge=1)
    boxes: int = Field(ge=0)
    markers: int = Field(ge=0)

    @property
    def shows_text(self) -> bool:
        """Whether there is text, markers included."""
        return self.boxes + self.markers > 0


class Receipt(BaseModel, frozen=True, extra="forbid"):
    """What the engine did to one object."""

    format: Literal[1] = RECEIPT_FORMAT
    version: str = Field(pattern=r"^[0-9][0-9A-Za-z.+-]{0,31}$")
    profile: str = Field(pattern=r"^[a-z][a-z0-9_]{1,39}$")
    profile_digest: Hex64
    options: tuple[str, ...]
    rule_edition: str = Field(pattern=r"^[0-9]{4}[a-e]$")
    rules_digest: Hex64
    key_id: Hex16
    key_version: int = Field(ge=1)
    basis: Literal["patient", "study"]
    pseudonym: Pseudonym
    sop_uid: MappedUid
    series_uid: MappedUid
    study_uid: MappedUid
    input_digest: Hex64
    output_sha256: Hex64
    actions: dict[ActionName, int]
    removed: dict[TagName, int]
    invalid_values: int = Field(ge=0)
    words_removed: int = Field(default=0, ge=0)
    method_codes: tuple[Annotated[str, Field(pattern=r"^1131[0-9]{2}$")], ...]
    overrides: tuple[OverrideName, ...] = ()
    mapping: Literal["hmac", "random"] = "hmac"
    mapping_id: Hex16 | None = None  # of the mapping names were drawn in; None: computed
    ocr: OcrCounts | None = None  # None: nobody looked at the pixels
    justification_sha256: Hex64 | None = None  # EHDS 66; a receipt has no free text
    code: Literal["ACCEPTED"] = "ACCEPTED"

    def to_json(self) -> bytes:
        """Return the RFC 8785 bytes."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the RFC 8785 bytes."""
        return hashlib.sha256(self.to_json()).hexdigest()


class CohortReceipt(BaseModel, frozen=True, extra="forbid"):
    """Counts over many receipts, small ones hidden."""

    profile: str
    rules_digests: tuple[Hex64, ...]
    key_ids: tuple[Hex16, ...]
    objects: str
    patients: str
    overrides: str


def hidden_below_five(count: int) -> str:
    """Return a count, or `<5` where it could single somebody out."""
    return str(count) if count >= 5 or count == 0 else "<5"


def summarise(profile: str, receipts: Sequence[Receipt]) -> CohortReceipt:
    """Return the cohort's receipt.

    Raises:
        KeysMixed: pseudonyms of several keys or mappings, or keyed and drawn ones; one patient
            could be two.
    """
    if len({(r.key_id, r.mapping, r.mapping_id) for r in receipts}) > 1:
        raise KeysMixed
    return CohortReceipt(
        profile=profile,
        rules_digests=tuple(sorted({r.rules_digest for r in receipts})),
        key_ids=tuple(sorted({r.key_id for r in receipts})),
        objects=hidden_below_five(len(receipts)),
        patients=hidden_below_five(len({r.pseudonym for r in receipts})),
        overrides=hidden_below_five(sum(bool(r.overrides) for r in receipts)),
    )
