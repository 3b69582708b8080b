"""Jobs: answered once and for ever, whatever the work does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from pleura.client.errors import ArchiveDamaged, BlobNotWanted, LabelsMissing
from pleura.client.settings import PolicySection
from pleura.client.trainer.answers import Signer
from pleura.client.trainer.archive import Archive, StoredAnswer
from pleura.client.trainer.jobs import (
    INTERNAL,
    STOPPING,
    Accepted,
    Answered,
    JobEvent,
    Jobs,
    NeedsBase,
    Progress,
    Progressed,
    RefusedUnsigned,
)
from pleura.client.trainer.policy import OpenedOrder, SiteRules
from pleura.common.blobs import BlobStore
from pleura.common.canonical import sha256_hex
from pleura.common.clock import FakeClock
from pleura.common.errors import DiskFull
from pleura.common.ids import FederationId, SiteId
from pleura.common.keys import SigningKey
from pleura.common.orders import BlobRef, TrainOrder
from pleura.common.results import RefusalStatement
from pleura.common.statements import Subject, open_statement, sign_statement
from tests.builders.training import NOW, run_plan, train_order

COORDINATOR = SigningKey.from_seed(b"\1" * 32)
SITE = SigningKey.from_seed(b"\2" * 32)
MODEL = b"model bytes"
BASE = BlobRef(
    blob_sha256=sha256_hex(MODEL),
    size_bytes=len(MODEL),
    tensor_digest="b" * 64,
    schema_digest="c" * 64,
)


@dataclass
class FakeWork:
    """Answers with what it is told to; counts how often it ran."""

    archive: Archive
    act: Callable[[], None] = lambda: None
    refuse: Exception | None = None
    runs: int = 0
    seen: list[str] = field(default_factory=list)

    def check(self, opened: OpenedOrder) -> None:
        if self.refuse is not None:
            raise self.refuse

    def run(self, opened: OpenedOrder, progress: Progress) -> StoredAnswer:
        self.runs += 1
        progress(1, 2)
        self.act()
        return self.archive.store(opened, b"signed by the site", None)


@dataclass
class Desk:
    """A queue with its parts."""

    jobs: Jobs
    work: FakeWork
    blobs: BlobStore
    clock: FakeClock

    def last(self, envelope: bytes) -> JobEvent:
        return list(self.jobs.submit(envelope))[-1]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path)


def make_desk(folder: Path) -> Desk:
    archive, blobs = Archive(folder / "runs"), BlobStore(folder / "blobs")
    work, clock = FakeWork(archive), FakeClock(NOW)
    jobs = Jobs(
        keys={COORDINATOR.public.key_id: COORDINATOR.public},
        rules=SiteRules(
            SiteId("north"),
            FederationId("lungs"),
            PolicySection(tasks=("ct_nodule_malignancy",), allow_non_dp=True),
        ),
        archive=archive,
        blobs=blobs,
        work=work,
        signer=Signer(SiteId("north"), SITE),
        clock=clock,
    )
    jobs.start()
    return Desk(jobs, work, blobs, clock)


def order(number: int = 1) -> TrainOrder:
    return train_order(run_plan(), BASE, number=number)


def envelope(number: int = 1) -> bytes:
    return sign_statement(order(number), [Subject("base", BASE.tensor_digest)], COORDINATOR)


def refusal_of(event: JobEvent) -> RefusalStatement:
    assert isinstance(event, Answered)
    keys = {SITE.public.key_id: SITE.public}
    return open_statement(event.answer.envelope, keys, RefusalStatement).predicate


def test_an_order_first_asks_for_its_base_and_then_runs(desk: Desk) -> None:
    digest = sha256_hex(envelope())
    assert list(desk.jobs.submit(envelope())) == [
        Accepted(digest),
        NeedsBase(BASE.blob_sha256, len(MODEL), 0),
    ]
    assert desk.jobs.wants(BASE.blob_sha256) == len(MODEL)
    desk.blobs.put_stream([MODEL], BASE.blob_sha256, 100)
    seen = list(desk.jobs.submit(envelope()))
    assert seen[0] == Accepted(digest)
    assert seen[-1] == Answered(StoredAnswer(b"signed by the site"))
    assert all(isinstance(event, Progressed) for event in seen[1:-1])
    with pytest.raises(BlobNotWanted):
        desk.jobs.wants(BASE.blob_sha256)


def test_an_answered_order_is_not_done_again_even_by_a_new_process(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    desk.blobs.put_stream([MODEL], BASE.blob_sha256, 100)
    first = desk.last(envelope())
    assert desk.last(envelope()) == first
    assert desk.work.runs == 1
    reborn = make_desk(tmp_path)
    assert reborn.last(envelope()) == first
    assert reborn.work.runs == 0


def test_an_answer_is_repeated_after_its_order_expired(desk: Desk) -> None:
    desk.blobs.put_stream([MODEL], BASE.blob_sha256, 100)
    first = desk.last(envelope())
    desk.clock.advance(timedelta(days=2).total_seconds())
    assert desk.last(envelope()) == first


def test_submissions_of_a_running_order_join_it(desk: Desk) -> None:
    desk.blobs.put_stream([MODEL], BASE.blob_sha256, 100)
    go = threading.Event()
    desk.work.act = lambda: assert_true(go.wait(10))
    outcomes: list[JobEvent] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(desk.last(envelope()))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert outcomes == [Answered(StoredAnswer(b"signed by the site"))] * 3
    assert desk.work.runs == 1


def test_an_unexpected_fault_becomes_a_signed_refusal_without_its_text(desk: Desk) -> None:
    desk.blobs.put_stream([MODEL], BASE.blob_sha256, 100)

    def fault() -> None:
        raise ZeroDivisionError("DOE^JANE 1970-01-01")

    desk.work.act = fault
    event = desk.last(envelope())
    assert refusal_of(event).code == INTERNAL
    assert isinstance(event, Answered)
    assert b"DOE" not in event.answer.envelope
    desk.work.act = lambda: None
    assert refusal_of(desk.last(envelope())).code == INTERNAL


def test_a_job_that_fails_while_the_trainer_stops_is_done_again_after_the_next_start(
    tmp_path: Path,
) -> None:
    desk = make_desk(tmp_path)
    desk.blobs.put_stream([MODEL], BASE.blob_sha256, 100)

    def pulled_away() -> None:
        desk.jobs.stop()
        raise OSError("files closed under a running job")

    desk.work.act = pulled_away
    assert desk.last(envelope()) == RefusedUnsigned(STOPPING)
    assert make_desk(tmp_path).last(envelope()) == Answered(StoredAnswer(b"signed by the site"))


def test_the_queue_goes_on_after_a_failed_job(desk: Desk) -> None:
    desk.blobs.put_stream([MODEL], BASE.blob_sha256, 100)
    desk.work.act = lambda: raise_(DiskFull("volume"))
    assert refusal_of(desk.last(envelope())).code == "HOST-DISK"
    desk.work.act = lambda: None
    assert desk.last(envelope(2)) == Answered(StoredAnswer(b"signed by the site"))


def test_a_refusal_binds_the_order_it_answers(desk: Desk) -> None:
    desk.work.refuse = LabelsMissing("task")
    refusal = refusal_of(desk.last(envelope()))
    assert refusal.code == "DATA-LABELS"
    assert refusal.order_digest == sha256_hex(envelope())
    assert (refusal.run_id, refusal.round, refusal.plan_hash) == ("run-1", 1, order().plan_hash)


def test_a_refused_order_leaves_no_trace_in_the_history(desk: Desk) -> None:
    desk.work.refuse = LabelsMissing("task")
    desk.last(envelope(2))
    assert desk.work.archive.history(order().run_id).taken == ()
    desk.work.refuse = None
    assert isinstance(desk.last(envelope(1)), NeedsBase)


def test_an_order_nobody_signed_gets_a_code_and_no_signature(desk: Desk) -> None:
    assert list(desk.jobs.submit(b"nonsense")) == [RefusedUnsigned("REJ-ENVELOPE")]


def test_a_damaged_record_stops_the_run_and_is_named(desk: Desk) -> None:
    assert isinstance(desk.last(envelope()), NeedsBase)
    record = next((desk.work.archive._root / "run-1").glob("*/order.json"))
    record.write_bytes(b"{}")
    assert refusal_of(desk.last(envelope(2))).code == ArchiveDamaged.code


def assert_true(value: bool) -> None:
    assert value


def raise_(error: Exception) -> None:
    raise error
