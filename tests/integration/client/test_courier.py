"""Courier between a real trainer and a real gateway, with both sides failing on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import torch

from pleura.client.agent.blobs import BlobCarrier
from pleura.client.agent.channel import Channel, UploadState
from pleura.client.agent.courier import Backoff, Courier, claimed_expiry
from pleura.client.agent.outbox import Outbox
from pleura.client.agent.trainer_link import TrainerLink
from pleura.client.enrol import join
from pleura.client.errors import (
    CoordinatorUnreachable,
    OrderRefusedUnsigned,
    TrainerUnreachable,
)
from pleura.common.blobs import BlobStore
from pleura.common.clock import SystemClock
from pleura.common.errors import BlobMissing
from pleura.common.ids import SiteId
from pleura.common.keys import load_key
from pleura.common.results import UpdateStatement
from pleura.common.statements import open_statement
from tests.builders.coordinator import FEDERATION, RunningGateway, running_gateway
from tests.builders.trainer_server import running_trainer, short_folder
from tests.builders.trainer_site import TrainerSite, trainer_site

torch.set_num_threads(1)


@dataclass
class Scene:
    site: TrainerSite
    gateway: RunningGateway
    outbox: Outbox
    stop: threading.Event

    @property
    def coordinator_blobs(self) -> BlobStore:
        return BlobStore(self.gateway.settings.blobs_dir)

    def publish_base(self) -> None:
        data = self.site.base_file.read_bytes()
        self.gateway.publish_model(data)

    def courier(self, trainer: TrainerLink, channel: Channel | FlakyChannel) -> Courier:
        carrier = BlobCarrier(channel, trainer, chunk_bytes=4096)
        return Courier(trainer, carrier, self.outbox, SystemClock(), self.stop)

    def update_in(self, envelope: bytes) -> UpdateStatement:
        key = self.site.site_key.public
        return open_statement(envelope, {key.key_id: key}, UpdateStatement).predicate


class FlakyChannel:
    """A real channel that loses the connection at chosen calls."""

    def __init__(self, channel: Channel, *, cut_after_bytes: int, lost_calls: int) -> None:
        self._channel, self._cut_after = channel, cut_after_bytes
        self.lost_calls = lost_calls

    def blob_state(self, digest: str) -> UploadState:
        self._maybe_lose()
        return self._channel.blob_state(digest)

    def upload_chunk(self, digest: str, data: bytes, offset: int, total: int) -> UploadState:
        return self._channel.upload_chunk(digest, data, offset, total)

    def download(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        self._maybe_lose()
        sent = 0
        for piece in self._channel.download(digest, offset):
            part = piece[: self._cut_after - sent]
            sent += len(part)
            yield part
            if sent >= self._cut_after:
                raise CoordinatorUnreachable("cut by the test")

    def _maybe_lose(self) -> None:
        if self.lost_calls > 0:
            self.lost_calls -= 1
            raise CoordinatorUnreachable("lost by the test")


@pytest.fixture
def scene() -> Iterator[Scene]:
    with short_folder() as folder, running_gateway(folder / "c") as gateway:
        site = trainer_site(
            folder,
            coordinator=load_key(gateway.settings.signing_key_file),
            coordinator_section={
                "url": gateway.url,
                "federation_id": FEDERATION,
                "ca_file": gateway.settings.ca_file,
            },
            federation_id=FEDERATION,
        )
        join(site.settings, gateway.invite("north"), SystemClock())
        gateway.registry.approve(SiteId("north"))
        outbox = Outbox(site.settings.agent_dir / "agent.db")
        yield Scene(site, gateway, outbox, threading.Event())
        outbox.close()


def test_an_order_goes_in_and_its_update_is_at_the_coordinator(scene: Scene) -> None:
    scene.publish_base()
    envelope = scene.site.signed(scene.site.train_order())
    with (
        running_trainer(scene.site.settings) as trainer,
        Channel.from_settings(scene.site.settings, SystemClock()) as channel,
    ):
        courier = scene.courier(trainer, channel)
        answers: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: answers.append(courier.answer(envelope)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 3
    assert len(set(answers)) == 1
    update = scene.update_in(answers[0])
    assert scene.coordinator_blobs.size(update.update.blob_sha256) == update.update.size_bytes


def test_a_kept_answer_needs_no_trainer(scene: Scene) -> None:
    scene.publish_base()
    envelope = scene.site.signed(scene.site.train_order())
    with Channel.from_settings(scene.site.settings, SystemClock()) as channel:
        with running_trainer(scene.site.settings) as trainer:
            first = scene.courier(trainer, channel).answer(envelope)
        with TrainerLink(scene.site.settings.trainer_socket) as gone:
            assert scene.courier(gone, channel).answer(envelope) == first
    assert [kept.state for kept in scene.outbox.pending()] == ["uploaded"]


def test_transfers_that_break_go_on_where_they_stopped(scene: Scene) -> None:
    scene.publish_base()
    envelope = scene.site.signed(scene.site.train_order())
    with (
        running_trainer(scene.site.settings) as trainer,
        Channel.from_settings(scene.site.settings, SystemClock()) as channel,
    ):
        cut_after = scene.site.base.size_bytes // 3
        flaky = FlakyChannel(channel, cut_after_bytes=cut_after, lost_calls=2)
        answer = scene.courier(trainer, flaky).answer(envelope)
    update = scene.update_in(answer)
    assert flaky.lost_calls == 0
    with scene.coordinator_blobs.open_verified(update.update.blob_sha256) as file:
        assert len(file.read()) == update.update.size_bytes


def test_an_absent_trainer_is_waited_for_only_until_the_order_expires(scene: Scene) -> None:
    now = datetime.now(UTC)
    order = scene.site.train_order(expires_at=now + timedelta(seconds=0.8), issued_at=now)
    with (
        TrainerLink(scene.site.settings.trainer_socket) as nobody,
        Channel.from_settings(scene.site.settings, SystemClock()) as channel,
        pytest.raises(TrainerUnreachable),
    ):
        scene.courier(nobody, channel).answer(scene.site.signed(order))
    assert datetime.now(UTC) >= order.expires_at


def test_a_trainer_that_comes_back_is_asked_again(scene: Scene) -> None:
    scene.publish_base()
    envelope = scene.site.signed(scene.site.train_order())
    answers: list[bytes] = []
    with (
        TrainerLink(scene.site.settings.trainer_socket) as link,
        Channel.from_settings(scene.site.settings, SystemClock()) as channel,
    ):
        courier = scene.courier(link, channel)
        thread = threading.Thread(target=lambda: answers.append(courier.answer(envelope)))
        thread.start()
        with running_trainer(scene.site.settings):
            thread.join(60)
    assert len(answers) == 1


def test_a_base_the_coordinator_does_not_have_is_named(scene: Scene) -> None:
    envelope = scene.site.signed(scene.site.train_order())
    with (
        running_trainer(scene.site.settings) as trainer,
        Channel.from_settings(scene.site.settings, SystemClock()) as channel,
        pytest.raises(BlobMissing),
    ):
        scene.courier(trainer, channel).answer(envelope)


def test_a_forged_order_yields_nothing_to_send(scene: Scene) -> None:
    forged = scene.site.signed(scene.site.train_order(), scene.site.site_key)
    with (
        running_trainer(scene.site.settings) as trainer,
        Channel.from_settings(scene.site.settings, SystemClock()) as channel,
        pytest.raises(OrderRefusedUnsigned, match="REJ-KEY"),
    ):
        scene.courier(trainer, channel).answer(forged)
    assert scene.outbox.pending() == ()


def test_the_expiry_an_order_claims_is_read_or_absent(scene: Scene) -> None:
    order = scene.site.train_order()
    assert claimed_expiry(scene.site.signed(order)) == order.expires_at
    for nonsense in (b"", b"{}", b'{"payload":"!"}', b'{"payload":"e30="}'):
        assert claimed_expiry(nonsense) is None


def test_backoff_doubles_up_to_five_seconds_and_can_begin_again() -> None:
    backoff = Backoff(draw=lambda: 1.0)
    waits = [backoff.next_s() for _ in range(12)]
    assert waits[:4] == [0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == 5.0
    backoff.reset()
    assert backoff.next_s() == 0.2
