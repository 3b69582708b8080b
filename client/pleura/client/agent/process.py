"""Agent process: the site's one connection to its coordinator.

Pulls Flower messages (the gateway holds an empty pull for 20 s), hands each to
the ClientApp on a small pool so that pulls and heartbeats go on, and pushes the
replies. Reconnects for ever with jittered backoff; a refusal ends it with its
cause, because only a person can mend that.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from flwr.app import Context, Message, RecordDict
from flwr.common.constant import ErrorCode

from pleura.client import flower_app
from pleura.client.agent.blobs import BlobCarrier
from pleura.client.agent.channel import Channel
from pleura.client.agent.courier import Backoff, Courier
from pleura.client.agent.fleet import (
    HEARTBEAT_EVERY_S,
    FleetLink,
    Pulled,
    error_reply,
)
from pleura.client.agent.outbox import Outbox
from pleura.client.agent.trainer_link import TrainerLink
from pleura.client.enrol import site_standing
from pleura.client.errors import BundleRefused, MessageRefused, NotEnrolled, RunEnded
from pleura.client.node_key import load_node_key
from pleura.client.settings import SiteSettings
from pleura.common import events
from pleura.common.bundle import FAB_SHA256
from pleura.common.clock import SystemClock
from pleura.common.errors import (
    PleuraError,
    ReplayRejected,
    SiteNotApproved,
    Unreachable,
)
from pleura.common.supervision import stop_on_signals

ERRANDS: Final = 4  # messages handled at once; the trainer still works on one
PUSH_PATIENCE_S: Final = 60.0
_APPROVAL_POLL_S: Final = 2.0
_HELD_S: Final = 0.1
_IDLE_S: Final = 0.2
_MENDABLE: Final = (Unreachable, ReplayRejected)  # a restarted gateway forgets its nonces


def main(settings: SiteSettings) -> None:
    """Serve the coordinator's messages until SIGTERM or SIGINT.

    Raises:
        NotEnrolled: the site has not joined yet.
        Refused: the coordinator refuses this site; the message says its code.
        CaMismatch, ClockSkew, KeyFileInsecure, KeyUnreadable, DatabaseDamaged: named cause.
    """
    stop, clock = stop_on_signals(), SystemClock()
    _quieten_flower()
    if not settings.node_key_file.exists():
        raise NotEnrolled("no node key")
    node_key = load_node_key(settings.node_key_file)
    outbox = Outbox(settings.agent_dir / "agent.db")
    with (
        Channel.from_settings(settings, clock) as channel,
        TrainerLink(settings.trainer_socket) as trainer,
    ):
        await_approval(settings, channel, stop)
        carrier = BlobCarrier(channel, trainer)
        courier = Courier(trainer, carrier, outbox, clock, stop)
        courier.sweep()
        flower_app.bind(courier.answer)
        fleet = FleetLink(channel, node_key, clock, settings.agent_dir / "node.id")
        agent = Agent(fleet, courier, stop, bundle=FAB_SHA256)
        try:
            agent.run()
        finally:
            stop.set()
            trainer.close()  # errands that wait for a job end now; the job goes on
            agent.join()
            fleet.close()
            outbox.close()


def await_approval(settings: SiteSettings, channel: Channel, stop: threading.Event) -> None:
    """Return once the lead has approved this site, or `stop` is set.

    Raises:
        SiteNotApproved: the site was revoked.
        EnrolmentRefused, WrongFederation: not the coordinator that was pinned.
        Refused, CaMismatch, ClockSkew: see `Channel.request`.
    """
    backoff = Backoff()
    while not stop.is_set():
        try:
            state = site_standing(settings, channel).state
        except _MENDABLE:
            stop.wait(backoff.next_s())
            continue
        if state == "approved":
            return
        if state == "revoked":
            raise SiteNotApproved("revoked")
        stop.wait(_APPROVAL_POLL_S)


class Agent:
    """The loop: connect, pull, answer, push, until told to stop."""

    def __init__(
        self, fleet: FleetLink, courier: Courier, stop: threading.Event, *, bundle: str
    ) -> None:
        self._fleet, self._courier, self._stop, self._bundle = fleet, courier, stop, bundle
        self._lost: PleuraError | None = None
        self._accepted_runs: set[int] = set()
        self._pool = ThreadPoolExecutor(ERRANDS, thread_name_prefix="errand")

    def run(self) -> None:
        """Run until `stop` is set.

        Raises:
            PleuraError: a refusal only a person can mend.
        """
        backoff, lost_at = Backoff(), 0.0
        while not self._stop.is_set():
            try:
                self._fleet.connect()
                if lost_at:
                    seconds, lost_at = time.monotonic() - lost_at, 0.0
                    events.emit("connection.restored", process="agent", seconds=seconds)
                backoff.reset()
                self._session()
            except _MENDABLE as exc:
                if not lost_at:
                    lost_at = time.monotonic()
                    name = type(exc).__name__
                    events.emit("connection.lost", process="agent", error=name)
                self._stop.wait(backoff.next_s())
        self._leave()

    def join(self) -> None:
        """Wait for running errands; `stop` must be set and the trainer link closed."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _session(self) -> None:
        """Pull and answer until the connection ends or `stop` is set.

        Raises:
            PleuraError: why it ended.
        """
        over, self._lost = threading.Event(), None
        beat = threading.Thread(target=self._beat, args=(over,), daemon=True)
        beat.start()
        try:
            while not self._stop.is_set():
                if self._lost is not None:
                    raise self._lost
                asked = time.monotonic()
                try:
                    pulled = self._fleet.pull()
                except (RunEnded, MessageRefused) as exc:
                    events.emit("error.raised", process="agent", code=exc.code)
                    continue
                if pulled is not None:
                    self._pool.submit(self._errand, pulled)
                elif time.monotonic() - asked < _HELD_S:
                    self._stop.wait(_IDLE_S)  # a gateway that does not hold empty pulls
        finally:
            over.set()

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(HEARTBEAT_EVERY_S) and not self._stop.is_set():
            try:
                self._fleet.heartbeat()
            except PleuraError as exc:
                self._lost = exc
                return

    def _errand(self, pulled: Pulled) -> None:
        """Answer one message; whatever goes wrong is an event and an error reply."""
        started = time.monotonic()
        try:
            reply = self._answered(pulled)
        except Exception as exc:  # noqa: BLE001 - the daemon's top: one message must not end it
            code = exc.code if isinstance(exc, PleuraError) else "INTERNAL"
            events.emit("error.raised", process="agent", code=code, error=type(exc).__name__)
            number = (
                ErrorCode.INVALID_FAB
                if isinstance(exc, BundleRefused)
                else ErrorCode.CLIENT_APP_RAISED_EXCEPTION
            )
            reply = error_reply(pulled.message, number, code)
        try:
            self._push(reply, time.monotonic() - started)
        except PleuraError as exc:
            # kept in the outbox: the next run sends the order again
            events.emit("error.raised", process="agent", code=exc.code, error=type(exc).__name__)
            return
        if reply.has_content():
            self._courier.acknowledge(flower_app.envelope_of(pulled.message))

    def _answered(self, pulled: Pulled) -> Message:
        self._check_bundle(pulled.run_id)
        context = Context(
            run_id=pulled.run_id,
            node_id=pulled.message.metadata.dst_node_id,
            node_config={},
            state=RecordDict(),
            run_config={},
        )
        return flower_app.app(pulled.message, context)

    def _check_bundle(self, run_id: int) -> None:
        if run_id in self._accepted_runs:
            return
        named = self._fleet.bundle_of(run_id)
        if named != self._bundle:
            events.emit("bundle.refused", digest=_digest_for_event(named), code=BundleRefused.code)
            raise BundleRefused("the run names another code bundle")
        self._accepted_runs.add(run_id)

    def _push(self, reply: Message, runtime_s: float) -> None:
        """Push until it is taken; after `PUSH_PATIENCE_S` the coordinator asks again anyway.

        A SuperLink that was started anew knows neither run nor message and never takes it.
        """
        backoff, patient_until = Backoff(), time.monotonic() + PUSH_PATIENCE_S
        while True:
            try:
                self._fleet.push(reply, runtime_s)
            except _MENDABLE:
                if time.monotonic() >= patient_until or self._stop.wait(backoff.next_s()):
                    raise
                continue
            return

    def _leave(self) -> None:
        try:
            self._fleet.disconnect()
        except PleuraError as exc:
            events.emit("error.raised", process="agent", code=exc.code, error=type(exc).__name__)


def _digest_for_event(text: str) -> str:
    digits = text[:12].lower()
    is_hex = len(digits) == 12 and all(c in "0123456789abcdef" for c in digits)
    return digits if is_hex else "0" * 12


def _quieten_flower() -> None:
    """Take Flower's own handler away: its text may hold anything; name and level remain."""
    logger = logging.getLogger("flwr")
    logger.handlers.clear()
    logger.propagate = True
