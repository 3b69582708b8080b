"""Agent against a real gateway, a real SuperLink of the pinned Flower and a real trainer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode

from pleura.client import flower_app
from pleura.client.agent.blobs import BlobCarrier
from pleura.client.agent.channel import Channel
from pleura.client.agent.courier import Courier
from pleura.client.agent.fleet import FleetLink
from pleura.client.agent.outbox import Outbox
from pleura.client.agent.process import Agent, await_approval
from pleura.client.agent.trainer_link import Answer
from pleura.client.enrol import join
from pleura.client.errors import RunEnded
from pleura.client.node_key import load_node_key
from pleura.common.blobs import BlobStore
from pleura.common.bundle import FAB_SHA256
from pleura.common.clock import SystemClock
from pleura.common.errors import PleuraError, SiteNotApproved
from pleura.common.exit_codes import ExitCode
from pleura.common.ids import SiteId
from pleura.common.keys import load_key
from pleura.common.results import UpdateStatement
from pleura.common.statements import open_statement
from pleura.common.tensors import PackedReader
from tests.builders.coordinator import FEDERATION, RunningGateway, running_gateway
from tests.builders.flower_run import FlowerRun, SuperLink, running_superlink
from tests.builders.trainer_server import running_trainer, short_folder
from tests.builders.trainer_site import TrainerSite, trainer_site

torch.set_num_threads(1)
# Flower's own database migrations, run here because the test plays the ServerApp
pytestmark = pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")


@dataclass(frozen=True)
class Scene:
    """An approved site `north` with data, its gateway, and the SuperLink behind it."""

    site: TrainerSite
    gateway: RunningGateway
    superlink: SuperLink


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with (
        short_folder() as folder,
        running_superlink(folder / "flower") as superlink,
        running_gateway(folder / "c", superlink_port=superlink.port, hold_s=0.5) as gateway,
    ):
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
        gateway.publish_model(site.base_file.read_bytes())
        yield Scene(site, gateway, superlink)


@pytest.fixture
def fleet(scene: Scene) -> Iterator[FleetLink]:
    clock, settings = SystemClock(), scene.site.settings
    with Channel.from_settings(settings, clock) as channel:
        key = load_node_key(settings.node_key_file)
        link = FleetLink(channel, key, clock, settings.agent_dir / "node.id")
        yield link
        link.close()


@contextmanager
def running_agent(scene: Scene, *, bundle: str = FAB_SHA256) -> Iterator[Agent]:
    """Run the agent's loop in a thread, as `agent.process.main` wires it."""
    settings, clock, stop = scene.site.settings, SystemClock(), threading.Event()
    outbox = Outbox(settings.agent_dir / "agent.db")
    with running_trainer(settings) as trainer, Channel.from_settings(settings, clock) as channel:
        carrier = BlobCarrier(channel, trainer)
        courier = Courier(trainer, carrier, outbox, clock, stop)
        flower_app.bind(courier.answer)
        key = load_node_key(settings.node_key_file)
        fleet = FleetLink(channel, key, clock, settings.agent_dir / "node.id")
        agent = Agent(fleet, courier, stop, bundle=bundle)
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            yield agent
        finally:
            stop.set()
            thread.join(30)
            agent.join()
            fleet.close()
    outbox.close()
    assert not thread.is_alive()


def node_of(scene: Scene, *, timeout_s: float = 20) -> int:
    """Return the node id the gateway learned for the site."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        known = scene.gateway.registry.get(SiteId("north"))
        if known is not None and known.node_id is not None:
            return known.node_id
        time.sleep(0.05)
    raise AssertionError("the gateway learned no node id")


def test_the_node_is_registered_once_and_known_again(fleet: FleetLink) -> None:
    first = fleet.connect()
    fleet.heartbeat()
    assert fleet.pull() is None
    fleet.disconnect()
    assert fleet.connect() == first


def test_an_agent_killed_while_online_connects_again_at_once(
    scene: Scene, fleet: FleetLink
) -> None:
    first = fleet.connect()  # and never says that it leaves
    clock, settings = SystemClock(), scene.site.settings
    with Channel.from_settings(settings, clock) as channel:
        key = load_node_key(settings.node_key_file)
        reborn = FleetLink(channel, key, clock, settings.agent_dir / "node.id")
        assert reborn.connect() == first
        reborn.heartbeat()
        assert reborn.pull() is None
        reborn.close()


def test_a_run_names_its_bundle_and_an_ended_run_is_named(scene: Scene, fleet: FleetLink) -> None:
    fleet.connect()
    run = FlowerRun(scene.superlink, FAB_SHA256)
    assert fleet.bundle_of(run.run_id) == FAB_SHA256
    run.finish()
    with pytest.raises(RunEnded):
        fleet.bundle_of(run.run_id)


def test_an_order_comes_back_as_a_signed_update_with_its_blob_uploaded(
    scene: Scene, tmp_path: Path
) -> None:
    site = scene.site
    order = site.train_order()
    with running_agent(scene):
        run = FlowerRun(scene.superlink, FAB_SHA256)
        content = flower_app.content_of(site.signed(order))
        reply = asked_until_answered(run, node_of(scene), content)
        repeated = asked_until_answered(run, node_of(scene), content)
    assert not reply.has_error()
    envelope = flower_app.envelope_of(reply)
    assert flower_app.envelope_of(repeated) == envelope
    key = site.site_key.public
    update = open_statement(envelope, {key.key_id: key}, UpdateStatement).predicate
    stored = BlobStore(scene.gateway.settings.blobs_dir)
    assert PackedReader(stored.path(update.update.blob_sha256)).verify() == update.update
    outbox = Outbox(site.settings.agent_dir / "agent.db")
    assert outbox.pending() == ()
    outbox.close()


def test_a_run_with_another_bundle_is_refused_and_never_reaches_the_trainer(
    scene: Scene,
) -> None:
    site = scene.site
    order = site.train_order(attempt=2)
    with running_agent(scene):
        run = FlowerRun(scene.superlink, "ab" * 32)
        sent = run.send(node_of(scene), flower_app.content_of(site.signed(order)), "train")
        reply = run.reply(sent)
    assert reply.has_error()
    assert reply.error.reason == "REJ-BUNDLE"
    names = [p.name for p in (site.settings.trainer_dir / "runs" / "run-1").iterdir()]
    assert not any(name.startswith("1-2-") for name in names)


def test_a_forged_order_comes_back_as_an_error_with_a_code(scene: Scene) -> None:
    forged = scene.site.signed(scene.site.train_order(), scene.site.site_key)
    with running_agent(scene):
        run = FlowerRun(scene.superlink, FAB_SHA256)
        sent = run.send(node_of(scene), flower_app.content_of(forged), "train")
        reply = run.reply(sent)
    assert reply.has_error()
    assert reply.error.reason == "REJ-ORDER-UNSIGNED"


@contextmanager
def agent_process(scene: Scene) -> Iterator[subprocess.Popen[bytes]]:
    """Run the agent as the supervisor starts it."""
    arguments = [sys.executable, "-m", "pleura.client.process", "agent"]
    process = subprocess.Popen([*arguments, "--config", str(scene.site.config)])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def asked_until_answered(run: FlowerRun, node_id: int, content: RecordDict) -> Message:
    """Send an order again while Flower says the node is away, as the ServerApp does."""
    for _ in range(20):
        reply = run.reply(run.send(node_id, content, "train"))
        if not reply.has_error() or reply.error.code != ErrorCode.NODE_UNAVAILABLE:
            return reply
        time.sleep(0.3)
    raise AssertionError("the node stays away")


def test_an_agent_killed_on_an_errand_gives_the_answer_when_asked_again(scene: Scene) -> None:
    site, order = scene.site, scene.site.train_order(round=2)
    content = flower_app.content_of(site.signed(order))
    folders = site.settings.trainer_dir / "runs" / "run-1"
    run = FlowerRun(scene.superlink, FAB_SHA256)
    with running_trainer(site.settings) as trainer:
        with agent_process(scene) as process:
            run.send(node_of(scene), content, "train")
            deadline = time.monotonic() + 60
            while not list(folders.glob("2-1-train-*/order.json")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.kill()
            assert process.wait(30) == -signal.SIGKILL
        with agent_process(scene) as process:
            reply = asked_until_answered(run, node_of(scene), content)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        direct = trainer.submit(site.signed(order))
    assert not reply.has_error()
    assert isinstance(direct, Answer)
    assert flower_app.envelope_of(reply) == direct.envelope


def test_an_agent_the_coordinator_refuses_ends_with_its_cause() -> None:
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
        gateway.registry.revoke(SiteId("north"))
        arguments = [sys.executable, "-m", "pleura.client.process", "agent"]
        ended = subprocess.run([*arguments, "--config", str(site.config)], check=False, timeout=60)
        log = (site.settings.log_dir / "agent.jsonl").read_text(encoding="utf-8")
    assert ended.returncode == ExitCode.REFUSED
    assert json.loads(log.splitlines()[-1])["code"] in ("REJ-PENDING", "REJ-KEY")


def test_a_revoked_site_stops_with_its_cause() -> None:
    with short_folder() as folder, running_gateway(folder / "c") as gateway:
        settings = gateway.approved_site("north", folder / "s")
        with Channel.from_settings(settings, SystemClock()) as channel:
            await_approval(settings, channel, threading.Event())
            gateway.registry.revoke(SiteId("north"))
            with pytest.raises(PleuraError) as caught:
                await_approval(settings, channel, threading.Event())
    assert caught.value.code in ("REJ-PENDING", "REJ-KEY")
    assert SiteNotApproved.code == "REJ-PENDING"
