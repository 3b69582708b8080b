"""An enrolled site that misbehaves: it holds real keys and speaks the real fleet protocol.

Its script names an act for each (run, round); an act gets the order's message and sends
what it likes. The blob of a good answer is uploaded as the real agent would. It never
trains: its honest update is all zeros.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
from flwr.app import Message

from pleura.client import flower_app
from pleura.client.agent.channel import Channel
from pleura.client.agent.fleet import FleetLink, Pulled
from pleura.client.enrol import site_standing
from pleura.client.errors import RunEnded
from pleura.client.node_key import load_node_key
from pleura.client.settings import SiteSettings
from pleura.client.trainer.answers import Signer
from pleura.client.trainer.policy import OpenedOrder, open_order
from pleura.client.trainer.spending import no_privacy_report
from pleura.common.canonical import sha256_hex
from pleura.common.clock import SystemClock
from pleura.common.errors import Unreachable
from pleura.common.keys import VerifyKey, load_key
from pleura.common.orders import BlobRef, TrainOrder
from pleura.common.tensors import PackedReader, TensorDigest, write_packed

MARKED = 1.0009765625  # exact in single precision, and in no header


class HostileAgent:
    """Lives in a thread until closed; `failures` holds what ended an act unexpectedly."""

    def __init__(self, settings: SiteSettings, script: Mapping[tuple[str, int], Act]) -> None:
        clock = SystemClock()
        self._settings, self._script = settings, script
        self.channel = Channel.from_settings(settings, clock)
        key = load_node_key(settings.node_key_file)
        self.fleet = FleetLink(self.channel, key, clock, settings.agent_dir / "node.id")
        pinned = settings.coordinator_key_file.read_text(encoding="ascii")
        coordinator = VerifyKey.from_b64(pinned)
        self._keys = {coordinator.key_id: coordinator}
        self.signer = Signer(settings.site_id, load_key(settings.site_key_file))
        self.stranger = Signer(settings.site_id, load_key(settings.transport_key_file))
        self.honest: dict[int, bytes] = {}  # round -> the good answer it made
        self._done: set[str] = set()
        self.failures: list[Exception] = []
        self._later = 0
        self.told = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> HostileAgent:
        site_standing(self._settings, self.channel)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        self.fleet.close()
        self.channel.close()

    # --- what acts use -------------------------------------------------------------

    def opened(self, envelope: bytes) -> OpenedOrder:
        return open_order(envelope, self._keys)

    def update(
        self,
        envelope: bytes,
        value: float = 0.0,
        signer: Signer | None = None,
        spoil: Callable[[Path, BlobRef], BlobRef] | None = None,
    ) -> bytes:
        """Return a signed update whose every tensor is `value`, with its blob uploaded."""
        opened = self.opened(envelope)
        order = opened.order
        assert isinstance(order, TrainOrder)
        base = self._settings.agent_dir / "hostile-base"
        with base.open("wb") as file:
            for piece in self.channel.download(order.base.blob_sha256):
                file.write(piece)
        tensors = {
            spec.name: np.full(array.shape, value, array.dtype)
            for spec, array in PackedReader(base).tensors()
        }
        blob = self._settings.agent_dir / "hostile-update"
        packed = write_packed(blob, tensors)
        if spoil is not None:
            packed = spoil(blob, packed)
        if not self.channel.blob_state(packed.blob_sha256).is_complete:
            data = blob.read_bytes()
            self.channel.upload_chunk(packed.blob_sha256, data, 0, len(data))
        self._later += 1  # no two answers have the same bytes
        return (signer or self.signer).update(
            opened,
            packed,
            dp=no_privacy_report(order.plan.train.local_steps),
            commitment="0" * 64,
            patients=30,
            now=SystemClock().now() + timedelta(milliseconds=self._later),
        )

    def next_message(self) -> Pulled:
        """Wait for the next message of this node."""
        while not self._stop.is_set():
            pulled = self.fleet.pull()
            if pulled is not None:
                return pulled
        raise AssertionError("stopped while waiting for a message")

    def reply(self, pulled: Pulled, envelope: bytes) -> None:
        """Answer a message with these bytes."""
        self.fleet.push(
            Message(flower_app.content_of(envelope), reply_to=pulled.message), runtime_s=0.0
        )

    # --- life -----------------------------------------------------------------------

    def _live(self) -> None:
        while not self._stop.is_set():
            try:
                self.fleet.connect()
                while not self._stop.is_set():
                    self.fleet.heartbeat()
                    pulled = self.fleet.pull()
                    if pulled is not None:
                        self._serve(pulled)
            except (Unreachable, RunEnded):
                self._stop.wait(0.2)  # a busy machine: come back as the real agent does
            except Exception as exc:  # noqa: BLE001 - the thread's top: the test shows it
                self.failures.append(exc)
                return

    def _serve(self, pulled: Pulled) -> None:
        opened = self.opened(flower_app.envelope_of(pulled.message))
        if opened.digest in self._done:
            return
        if isinstance(opened.order, TrainOrder):
            self._script[opened.order.run_id, opened.order.round](self, pulled)
        else:
            self.reply(pulled, self.signer.refusal(opened, "REJ-COHORT", SystemClock().now()))
        self._done.add(opened.digest)


Act = Callable[[HostileAgent, Pulled], None]


def honest(agent: HostileAgent, pulled: Pulled) -> None:
    """Send a good update and remember it."""
    envelope = flower_app.envelope_of(pulled.message)
    answer = agent.update(envelope)
    agent.honest[agent.opened(envelope).order.round] = answer
    agent.reply(pulled, answer)


def tampered(agent: HostileAgent, pulled: Pulled) -> None:
    """Change one number of a good update after it was signed."""
    envelope = json.loads(agent.update(flower_app.envelope_of(pulled.message)))
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["predicate"]["patients"] = "100-199"
    changed = json.dumps(payload, separators=(",", ":"), sort_keys=True).encode()
    envelope["payload"] = base64.b64encode(changed).decode("ascii")
    spoiled = json.dumps(envelope, separators=(",", ":"), sort_keys=True).encode()
    agent.reply(pulled, spoiled)


def signed_by_another_key(agent: HostileAgent, pulled: Pulled) -> None:
    """Sign a good update with a key that is not this site's signing key."""
    answer = agent.update(flower_app.envelope_of(pulled.message), signer=agent.stranger)
    agent.reply(pulled, answer)


def not_finite(agent: HostileAgent, pulled: Pulled) -> None:
    """Send an update of NaN whose digests are right; our own writer would not write it."""
    envelope = flower_app.envelope_of(pulled.message)
    agent.reply(pulled, agent.update(envelope, value=MARKED, spoil=_with_nan))


def _with_nan(blob: Path, packed: BlobRef) -> BlobRef:
    data = blob.read_bytes().replace(struct.pack("<f", MARKED), struct.pack("<f", math.nan))
    blob.write_bytes(data)
    digest = TensorDigest()
    for spec, tensor in PackedReader(blob).tensors():
        digest.begin(spec)
        digest.feed(np.ascontiguousarray(tensor.reshape(-1)).view(np.uint8).data)
    changed = {"blob_sha256": sha256_hex(data), "tensor_digest": digest.hexdigest()}
    return packed.model_copy(update=changed)


def too_long(agent: HostileAgent, pulled: Pulled) -> None:
    """Send an update far beyond the plan's norm bound."""
    agent.reply(pulled, agent.update(flower_app.envelope_of(pulled.message), value=1e6))


def replayed_answer(answer: Callable[[], bytes], *, when_told: bool = False) -> Act:
    """Return the act of sending bytes that were a good answer to another order.

    With `when_told` it waits until `agent.told` is set.
    """

    def act(agent: HostileAgent, pulled: Pulled) -> None:
        while when_told and not agent.told.wait(10.0):
            agent.fleet.heartbeat()
        agent.reply(pulled, answer())

    return act


def twice(agent: HostileAgent, pulled: Pulled) -> None:
    """Get the same order twice by coming back anew; answer one well, then the other again.

    The second answer is as well signed as the first, and comes to the same order.
    """
    agent.fleet.connect()  # a new activation: the coordinator sends the order again
    again = agent.next_message()
    envelope = flower_app.envelope_of(again.message)
    assert envelope == flower_app.envelope_of(pulled.message)
    agent.reply(again, agent.update(envelope))
    agent.reply(pulled, agent.update(envelope, value=0.001))
