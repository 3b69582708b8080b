"""A federation in memory: plans, packed models, sites that sign, and a faulty messenger.

Sites here hold real keys and write real blobs; only the training is replaced by a
function of the site's number and the round, so that tests can recompute it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from pleura.common.blobs import BlobStore
from pleura.common.canonical import sha256_hex
from pleura.common.clock import FakeClock
from pleura.common.ids import RunId, SiteId
from pleura.common.keys import SigningKey, VerifyKey
from pleura.common.orders import BlobRef, EvaluateOrder, Order, RunPlan, TrainOrder
from pleura.common.results import (
    DpReport,
    EvaluationStatement,
    MetricValue,
    RefusalStatement,
    SiteAnswer,
    UpdateStatement,
)
from pleura.common.statements import open_statement, sign_statement, statement_kind
from pleura.common.tensors import write_packed
from pleura.server.collecting import Office
from pleura.server.ledger.log import StatementLog
from pleura.server.store import RunStore
from pleura.server.transport import Parcel, Reply

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
FEDERATION = "fed-test"
SITES = tuple(SiteId(name) for name in ("north", "south", "west"))
EXTERNAL = SiteId("island")
COORDINATOR = SigningKey.from_seed(bytes([9]) * 32)


def key_of(site_id: str) -> SigningKey:
    """Return the test key of a site, the same each time."""
    return SigningKey.from_seed(sha256_hex(site_id.encode()).encode()[:32])


def make_plan(**changes: Any) -> RunPlan:
    """Return a plan of two rounds for three sites; `fed`, `privacy` ... merge into it."""
    data: dict[str, Any] = {
        "federation_id": FEDERATION,
        "run_id": "run-one",
        "task": {"name": "cxr_abnormal"},
        "model": {"arch": "tiny_cnn_gn"},
        "preproc": {"modality": "CXR", "size_px": 64},
        "train": {"lr": "0.1", "local_steps": 2, "batch_patients": 4},
        "privacy": {"mode": "none"},
        "fed": {"rounds": 2, "min_sites": 3, "deadline_s": 60},
        "training_sites": list(SITES),
        "seed": 7,
    }
    for name, value in changes.items():
        data[name] = {**data.get(name, {}), **value} if isinstance(value, dict) else value
    return RunPlan.model_validate(data)


def model_tensors(seed: int = 1) -> dict[str, np.ndarray]:
    """Return the tensors of a small model."""
    rng = np.random.default_rng(seed)
    return {
        "head.bias": rng.normal(size=(3,)).astype("<f4"),
        "head.weight": rng.normal(size=(3, 5)).astype("<f4"),
        "body.scale": rng.normal(size=()).astype("<f4"),
    }


def delta_tensors(site_id: str, round_: int) -> dict[str, np.ndarray]:
    """Return the update a test site makes in a round."""
    rng = np.random.default_rng([round_, *site_id.encode()])
    return {
        name: (0.01 * rng.normal(size=array.shape)).astype("<f4")
        for name, array in model_tensors().items()
    }


def store_tensors(blobs: BlobStore, tensors: dict[str, np.ndarray], folder: Path) -> BlobRef:
    """Pack tensors into a blob store and return the reference."""
    path = folder / "packing.safetensors"
    ref = write_packed(path, tensors)
    blobs.adopt(path, ref.blob_sha256)
    return ref


def open_order(envelope: bytes) -> Order:
    """Return the order in an envelope of the coordinator."""
    keys = {COORDINATOR.public.key_id: COORDINATOR.public}
    kind = TrainOrder if "train-order" in statement_kind(envelope, keys) else EvaluateOrder
    return open_statement(envelope, keys, kind).predicate


def answer_fields(site_id: str, order: Order, order_digest: str) -> dict[str, Any]:
    """Return the fields that bind a site's answer to an order."""
    return {
        "federation_id": order.federation_id,
        "run_id": order.run_id,
        "round": order.round,
        "attempt": order.attempt,
        "site_id": site_id,
        "key_id": key_of(site_id).public.key_id,
        "plan_hash": order.plan_hash,
        "base_model_digest": order.base.tensor_digest,
        "order_digest": order_digest,
        "order_nonce": order.nonce,
        "created": order.issued_at,
    }


def update_fields(site_id: str, order: Order, order_digest: str, update: BlobRef) -> dict[str, Any]:
    """Return all fields of a valid update statement."""
    privacy = order.plan.privacy
    return {
        **answer_fields(site_id, order, order_digest),
        "update": update,
        "preproc_digest": order.plan.preproc.digest,
        "code_digest": "c" * 64,
        "dp": DpReport(
            mode=privacy.mode,
            sigma=privacy.sigma if privacy.mode == "dp" else Decimal(0),
            q=Decimal("0.04"),
            steps=2,
            clip=privacy.clip,
            delta=privacy.delta,
            epsilon_run=Decimal("1"),
            epsilon_total_after=Decimal("1"),
            engine="none",
        ),
        "dataset_commitment": "d" * 64,
        "patients": "50-99",
    }


def sign(statement: SiteAnswer, site_id: str) -> bytes:
    """Return the envelope of a site's statement."""
    return sign_statement(statement, [], key_of(site_id))


@dataclass(frozen=True)
class FakeSite:
    """A row of the registry."""

    site_id: SiteId
    state: str
    signing_key: VerifyKey
    node_id: int | None
    activated_at: datetime | None


@dataclass
class FakeRegistry:
    """A registry whose rows tests replace."""

    rows: dict[SiteId, FakeSite] = field(default_factory=dict)
    not_sent: set[tuple[str, str]] = field(default_factory=set)

    def all(self) -> tuple[FakeSite, ...]:
        return tuple(self.rows.values())

    def has_sent(self, digest: str, site_id: SiteId) -> bool:
        return (digest, site_id) not in self.not_sent

    def change(self, site_id: str, **changes: Any) -> None:
        self.rows[SiteId(site_id)] = replace(self.rows[SiteId(site_id)], **changes)


def registry_of(site_ids: Iterable[str]) -> FakeRegistry:
    """Return a registry of approved, connected sites."""
    return FakeRegistry(
        {
            SiteId(name): FakeSite(SiteId(name), "approved", key_of(name).public, 100 + n, START)
            for n, name in enumerate(site_ids)
        }
    )


class SiteStub:
    """A site that answers each order once and re-sends the stored answer afterwards."""

    def __init__(self, site_id: str, blobs: BlobStore, folder: Path) -> None:
        self.site_id, self._blobs, self._folder = site_id, blobs, folder
        self.outbox: dict[str, bytes] = {}
        self.computed = 0

    def answer(self, envelope: bytes) -> bytes:
        digest = sha256_hex(envelope)
        if digest not in self.outbox:
            self.computed += 1
            self.outbox[digest] = sign(self.statement(open_order(envelope), digest), self.site_id)
        return self.outbox[digest]

    def statement(self, order: Order, digest: str) -> SiteAnswer:
        if isinstance(order, EvaluateOrder):
            return self.evaluation(order, digest)
        delta = delta_tensors(self.site_id, order.round)
        update = store_tensors(self._blobs, delta, self._folder)
        return UpdateStatement(**update_fields(self.site_id, order, digest, update))

    def evaluation(self, order: EvaluateOrder, digest: str) -> EvaluationStatement:
        return EvaluationStatement(
            **answer_fields(self.site_id, order, digest),
            split=order.split,
            metrics=(MetricValue(name="auroc", value=0.5, low=0.4, high=0.6, method="delong"),),
            patients="50-99",
            images="50-99",
            failed_images="<10",
            preproc_digest=order.plan.preproc.digest,
            code_digest="c" * 64,
        )

    def refusal(self, order: Order, digest: str, code: str) -> RefusalStatement:
        return RefusalStatement(**answer_fields(self.site_id, order, digest), code=code)


Handler = Callable[[Parcel], Sequence[Reply]]


class Messenger:
    """A transport in memory: `handlers` say what a site's node replies to a parcel."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self.handlers = handlers
        self.sent: list[Parcel] = []
        self.waiting: list[Reply] = []
        self.forgotten: set[str] = set()

    def push(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            self.sent.append(parcel)
            self.waiting.extend(self.handlers[parcel.site_id](parcel))

    def pull(self) -> Sequence[Reply]:
        replies, self.waiting = self.waiting, []
        return replies

    def forget(self, order_digests: Iterable[str]) -> None:
        self.forgotten.update(order_digests)


class Federation:
    """A coordinator's office over real files, with sites in memory and a clock of its own."""

    def __init__(self, folder: Path, plan: RunPlan) -> None:
        self.folder, self.plan = folder, plan
        self.run_id: RunId = plan.run_id
        self.clock = FakeClock(START)
        self.blobs = BlobStore(folder / "blobs")
        self.sites = {
            site_id: SiteStub(site_id, self.blobs, folder)
            for site_id in (*plan.training_sites, *plan.external_sites)
        }
        self.registry = registry_of(self.sites)
        self.messenger = Messenger({name: self.prompt(name) for name in self.sites})
        self.store, self.log = self.open()
        self.initial = store_tensors(self.blobs, model_tensors(), folder)

    def open(self) -> tuple[RunStore, StatementLog]:
        return RunStore(self.folder / "runs.db"), StatementLog(self.folder / "statements.db")

    def prompt(self, site_id: str) -> Handler:
        """Return the handler of a site that answers at once."""

        def handle(parcel: Parcel) -> Sequence[Reply]:
            envelope = self.sites[SiteId(site_id)].answer(parcel.envelope)
            return [Reply(parcel.site_id, parcel.order_digest, envelope)]

        return handle

    def office(self, checkpoint: Callable[[str], None] = lambda _: None) -> Office:
        """Return an office; its sleep moves the clock."""
        return Office(
            store=self.store,
            log=self.log,
            blobs=self.blobs,
            scratch=self.folder,
            registry=self.registry,
            key=COORDINATOR,
            transport=self.messenger,
            clock=self.clock,
            sleep=self.clock.advance,
            checkpoint=checkpoint,
        )

    def create(self) -> None:
        self.store.create(self.plan, self.initial, "a" * 64, START)

    def reopen(self) -> None:
        """Close and open the databases, as a new process would."""
        self.store.close()
        self.log.close()
        self.store, self.log = self.open()
        self.messenger.waiting.clear()

    def close(self) -> None:
        self.store.close()
        self.log.close()
