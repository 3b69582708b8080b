"""Flower's side of a round: orders become messages, reply messages become replies.

`PleuraStrategy` is a Flower `Strategy`, so what configures and aggregates in Flower
also does here; only the driving loop is Pleura's own, because the built-in one waits
without a deadline and polls every 3 s. No arrays travel in messages: a message holds
one signed order, a reply one signed answer, and the models go by blob. The answers
are aggregated by `aggregation` after admission; `aggregate_*` only unpacks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import httpx
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore.inflatable.inflatable_utils import pull_objects

from pleura.common import events
from pleura.server.bell import Bell
from pleura.server.runs import RoundKind
from pleura.server.transport import Parcel, Reply

PULL_BACKOFF_S: Final = 0.02
PULL_BACKOFF_MAX_S: Final = 0.5
PULL_MAX_S: Final = 5.0
RECORD: Final = "pleura"
WIRE_VERSION: Final = 1


class PleuraStrategy(Strategy):
    """Builds messages from signed orders and takes signed answers out of replies.

    `config` carries `envelope` (bytes), `nodes` (list of node ids) and `ttl_s`.
    """

    def __init__(self) -> None:
        self.answers: dict[str, bytes | None] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return one `train` message for each node of `config`."""
        return _messages("train", server_round, config)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return one `evaluate` message for each node of `config`."""
        return _messages("evaluate", server_round, config)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Keep the answers by the id of the message they reply to; count them."""
        return None, self._unpack(replies)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Keep the answers by the id of the message they reply to; count them."""
        return self._unpack(replies)

    def summary(self) -> None:
        """Say nothing: the plan is in the statement log."""

    def _unpack(self, replies: Iterable[Message]) -> MetricRecord:
        answers = errors = 0
        for message in replies:
            envelope = _envelope(message)
            self.answers[message.metadata.reply_to_message_id] = envelope
            answers, errors = answers + (envelope is not None), errors + (envelope is None)
        return MetricRecord({"answers": answers, "errors": errors})


def shorten_pulls() -> None:
    """Make Flower look again after 0.02 s, not 1 s, for an object still on its way.

    A SuperLink shows a message before its objects have arrived, so a reader that is
    quick meets this wait in most rounds; and the objects of a sender that died never
    arrive, for which Flower waits two hours and we 5 s. There is no setting for it;
    the defaults of the function are its only handle, and a test watches them.
    """
    pull_objects.__kwdefaults__ = {
        **(pull_objects.__kwdefaults__ or {}),
        "initial_backoff": PULL_BACKOFF_S,
        "backoff_cap": PULL_BACKOFF_MAX_S,
        "max_time": PULL_MAX_S,
    }


class GridTransport:
    """Carries parcels over a Flower Grid; holds which message went to which site.

    `orders` is rung once pushed messages are whole, so that held pulls end.
    """

    def __init__(self, grid: Grid, orders: Bell) -> None:
        shorten_pulls()
        self._grid, self._orders = grid, orders
        self._strategy = PleuraStrategy()
        self._sent: dict[str, Parcel] = {}
        self._rejected: list[Reply] = []
        self._is_careful = False

    def push(self, parcels: Sequence[Parcel]) -> None:
        """Send parcels; one the SuperLink does not take becomes a failed reply."""
        messages: list[Message] = []
        for parcel in parcels:
            config = ConfigRecord(
                {
                    "envelope": parcel.envelope,
                    "nodes": [parcel.node.node_id],
                    "ttl_s": parcel.ttl_s,
                }
            )
            is_training = parcel.kind is RoundKind.TRAIN
            configure = (
                self._strategy.configure_train if is_training else self._strategy.configure_evaluate
            )
            messages.extend(configure(parcel.round, ArrayRecord(), config, self._grid))
        ids = list(self._grid.push_messages(messages)) or [""] * len(parcels)
        self._orders.ring()
        for parcel, message_id in zip(parcels, ids, strict=True):
            if message_id:
                self._sent[message_id] = parcel
            else:
                self._rejected.append(Reply(parcel.site_id, parcel.order_digest, None))

    def pull(self) -> Sequence[Reply]:
        """Return what arrived since the last call."""
        replies, self._rejected = self._rejected, []
        for message_ids in self._batches():
            self._unpack(message_ids)
        for message_id, envelope in self._strategy.answers.items():
            parcel = self._sent.pop(message_id, None)
            if parcel is not None:
                replies.append(Reply(parcel.site_id, parcel.order_digest, envelope))
        self._strategy.answers.clear()
        return replies

    def _batches(self) -> Sequence[list[str]]:
        """Return what to ask for at once: everything, until a reply could not be read."""
        if self._is_careful:
            return [[message_id] for message_id in self._sent]
        return [list(self._sent)] if self._sent else []

    def _unpack(self, message_ids: list[str]) -> None:
        """Take replies in; a site whose reply cannot be read has failed, and only that site.

        Flower builds messages out of what a site sent and raises whatever that leads to,
        for all replies of one call together. So those of the first such call are asked
        for again, and from then on each by itself.
        """
        try:
            messages = list(self._grid.pull_messages(message_ids))
        except (httpx.HTTPError, OSError):
            raise
        except Exception as exc:  # noqa: BLE001 - no bytes of a site may end the run
            events.emit("error.raised", process="serverapp", error=type(exc).__name__)
            self._is_careful = True
            self._strategy.answers.update(dict.fromkeys(message_ids))
        else:
            self._strategy.aggregate_train(0, messages)

    def forget(self, order_digests: Iterable[str]) -> None:
        """Stop asking for replies to orders of rounds that are over."""
        over = set(order_digests)
        self._sent = {k: p for k, p in self._sent.items() if p.order_digest not in over}


def _messages(message_type: str, server_round: int, config: ConfigRecord) -> list[Message]:
    record = ConfigRecord({"envelope": config["envelope"], "wire": WIRE_VERSION})
    nodes, ttl_s = config["nodes"], config["ttl_s"]
    if not isinstance(nodes, list) or not isinstance(ttl_s, float):
        raise TypeError("nodes is a list of node ids, ttl_s a float")
    return [
        Message(
            RecordDict({RECORD: record}),
            dst_node_id=int(node_id),
            message_type=message_type,
            ttl=ttl_s,
            group_id=str(server_round),
        )
        for node_id in nodes
    ]


def _envelope(message: Message) -> bytes | None:
    """Return the signed bytes of a reply; b"" if it has none, None for an error reply."""
    if message.has_error():
        return None
    record = message.content.get(RECORD)
    envelope = record.get("envelope") if isinstance(record, ConfigRecord) else None
    return envelope if isinstance(envelope, bytes) else b""
