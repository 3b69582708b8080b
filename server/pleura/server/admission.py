"""Admission: decides whether a site's signed answer may enter a round.

Checks run in this order and the first that fails names itself: the envelope and
its signature by the key the registry holds for this site; federation, run, plan
and site; round, attempt and base; order and nonce; whether the site answered
before. An update's blob must have come from the site itself and is then checked on
disk: size, digest, canonical header, names, types and shapes equal to the base
model's, every value finite, the signed tensor digest, and
`norm(delta) <= norm_bound + 1e-5`. A check that cannot run is a refusal. Nothing is
stored here and no value leaves; `aggregation` does the sums.

Blobs are read in chunks of a tensor, so memory does not grow with the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np

from pleura.common.blobs import BlobStore
from pleura.common.errors import (
    BlobTooLarge,
    DigestMismatch,
    KeyUnknown,
    NotFinite,
    ReplayRejected,
    StatementMalformed,
)
from pleura.common.ids import KeyId, SiteId
from pleura.common.keys import VerifyKey
from pleura.common.orders import BlobRef, EvaluateOrder, Order, TrainOrder
from pleura.common.results import (
    EvaluationStatement,
    RefusalStatement,
    SiteAnswer,
    UpdateStatement,
)
from pleura.common.statements import Opened, open_statement, predicate_type, statement_kind
from pleura.common.tensors import PackedReader, TensorDigest, TensorSchema, file_sha256
from pleura.server.errors import (
    BaseMismatch,
    FederationMismatch,
    NormTooLarge,
    OrderMismatch,
    PrivacyMismatch,
    RoundClosed,
    RunMismatch,
    SchemaMismatch,
    SiteNotInRun,
    UpdateNotOwn,
)

NORM_SLACK: Final = 1e-5
CHUNK_VALUES: Final = 1 << 18
_KINDS: Final = {
    predicate_type(model): model
    for model in (UpdateStatement, EvaluationStatement, RefusalStatement)
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an answer must match: the site asked, its key, and the order it was sent.

    `site_key` is None when the site has no active key. `has_sent` tells whether this
    site itself sent a blob. `answered` is the digest of
    the envelope this site's answer to this order had, if it was decided already.
    """

    site_id: SiteId
    site_key: VerifyKey | None
    order: Order
    order_digest: str
    base_schema: TensorSchema
    has_sent: Callable[[str], bool]
    answered: str | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """An answer that passed every check; `norm` is the update's L2 norm, else None."""

    statement: SiteAnswer
    digest: str
    norm: float | None


def admit(envelope: bytes, expected: Expectation, blobs: BlobStore) -> Admitted:
    """Return the answer in `envelope` if it may enter the round.

    A `RefusalStatement` passes too: it is a site's valid answer and says no.

    Raises:
        EnvelopeMalformed, SignatureRejected, KeyUnknown, StatementMalformed: not this
            site's signature over a known statement.
        FederationMismatch, RunMismatch, SiteNotInRun, RoundClosed, BaseMismatch,
            OrderMismatch: the answer is bound to something else.
        UpdateNotOwn: the update's blob came from another site.
        ReplayRejected: the site's answer to this order was decided before.
        PrivacyMismatch: weaker privacy terms than the plan's.
        BlobMissing, BlobTooLarge, DigestMismatch, TensorsRejected, SchemaMismatch,
            NotFinite, NormTooLarge: the update's blob is not what it must be.
    """
    opened = _open(envelope, expected)
    statement = opened.predicate
    _check_binding(statement, opened.key_id, expected)
    if expected.answered is not None:
        raise ReplayRejected("the site's answer to this order was decided before")
    if isinstance(statement, RefusalStatement):
        return Admitted(statement, opened.digest, None)
    order = expected.order
    if statement.preproc_digest != order.plan.preproc.digest:
        raise RunMismatch("another preprocessing")
    if isinstance(statement, EvaluationStatement):
        if not isinstance(order, EvaluateOrder) or statement.split != order.split:
            raise OrderMismatch("an evaluation of another split")
        return Admitted(statement, opened.digest, None)
    if not isinstance(order, TrainOrder):
        raise OrderMismatch("an update answers an evaluation order")
    _check_privacy(statement, order)
    blobs.size(statement.update.blob_sha256)  # not here yet: asked again
    if not expected.has_sent(statement.update.blob_sha256):
        raise UpdateNotOwn("another site sent the update's blob")
    norm = measure_update(statement.update, order.base, expected.base_schema, blobs)
    bound = float(order.plan.fed.norm_bound) + NORM_SLACK
    if not norm <= bound:
        raise NormTooLarge("norm of the update")
    return Admitted(statement, opened.digest, norm)


def measure_update(update: BlobRef, base: BlobRef, schema: TensorSchema, blobs: BlobStore) -> float:
    """Check an update's blob against its reference and the base; return its L2 norm.

    Raises:
        BlobMissing, BlobTooLarge, DigestMismatch, TensorsRejected, SchemaMismatch,
            NotFinite: see `admit`.
    """
    size = blobs.size(update.blob_sha256)
    if size > base.size_bytes:
        raise BlobTooLarge("the update is larger than its base model")
    if size != update.size_bytes:
        raise DigestMismatch("size of the update")
    path = blobs.path(update.blob_sha256)
    if file_sha256(path) != update.blob_sha256:
        raise DigestMismatch("blob of the update")
    reader = PackedReader(path)
    if reader.schema != schema or update.schema_digest != schema.digest:
        raise SchemaMismatch("names, types or shapes")
    digest, squares = _digest_and_squares(reader)
    if digest != update.tensor_digest:
        raise DigestMismatch("tensors of the update")
    return math.sqrt(squares)


def _open(envelope: bytes, expected: Expectation) -> Opened[SiteAnswer]:
    if expected.site_key is None:
        raise KeyUnknown("the site has no active key")
    keys: Mapping[KeyId, VerifyKey] = {expected.site_key.key_id: expected.site_key}
    model = _KINDS.get(statement_kind(envelope, keys))
    if model is None:
        raise StatementMalformed("not a kind of answer")
    return open_statement(envelope, keys, model)


def _check_binding(statement: SiteAnswer, key_id: KeyId, expected: Expectation) -> None:
    order = expected.order
    if statement.federation_id != order.federation_id:
        raise FederationMismatch("federation")
    if statement.run_id != order.run_id or statement.plan_hash != order.plan_hash:
        raise RunMismatch("run or plan")
    if statement.site_id != expected.site_id:
        raise SiteNotInRun("the answer names another site")
    if statement.key_id != key_id:
        raise KeyUnknown("the statement names another key than its signature's")
    if (statement.round, statement.attempt) != (order.round, order.attempt):
        raise RoundClosed("round or attempt")
    if statement.base_model_digest != order.base.tensor_digest:
        raise BaseMismatch("base model")
    if statement.order_digest != expected.order_digest or statement.order_nonce != order.nonce:
        raise OrderMismatch("order or nonce")


def _check_privacy(statement: UpdateStatement, order: TrainOrder) -> None:
    plan, dp = order.plan.privacy, statement.dp
    if dp.mode != plan.mode or dp.unit != plan.unit:
        raise PrivacyMismatch("mode")
    if dp.mode != "dp":
        return
    if dp.sigma < plan.sigma or dp.clip > plan.clip:
        raise PrivacyMismatch("less noise or a larger clipping norm")
    rate = Decimal(order.plan.train.batch_patients) / Decimal(plan.n_ref)
    if dp.q > rate or dp.steps > order.plan.train.local_steps:
        raise PrivacyMismatch("a larger sampling rate or more steps")


def _digest_and_squares(reader: PackedReader) -> tuple[str, float]:
    digest, squares = TensorDigest(), 0.0
    for spec, tensor in reader.tensors():
        digest.begin(spec)
        flat = tensor.reshape(-1)
        for start in range(0, flat.size, CHUNK_VALUES):
            chunk = np.ascontiguousarray(flat[start : start + CHUNK_VALUES])
            if not np.isfinite(chunk).all():
                raise NotFinite("a tensor holds NaN or infinity")
            digest.feed(chunk.view(np.uint8).data)
            wide = chunk.astype(np.float64)
            squares += float(np.square(wide, out=wide).sum())  # no BLAS: its threads spin
    return digest.hexdigest(), squares
