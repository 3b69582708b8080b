"""The Flower ClientApp of a site: hands each signed order to the courier.

Thin on purpose: no torch, no pixels, no key. A message holds one envelope and a
wire number, nothing else; so does the reply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from pleura.client.errors import MessageRefused, TrainerUnreachable

WIRE: Final = 1
RECORD: Final = "pleura"

Answerer = Callable[[bytes], bytes]
_answerer: list[Answerer] = []

app = ClientApp()


def bind(answerer: Answerer) -> None:
    """Name who answers orders in this process; the agent does so before it connects."""
    _answerer[:] = [answerer]


def envelope_of(message: Message) -> bytes:
    """Return the one envelope of a message.

    Raises:
        MessageRefused: another record, another wire number, or more than an envelope.
    """
    content = message.content
    if set(content) != {RECORD} or not isinstance(content[RECORD], ConfigRecord):
        raise MessageRefused("records")
    record = content[RECORD]
    envelope = record.get("envelope")
    if set(record) != {"envelope", "wire"} or record["wire"] != WIRE:
        raise MessageRefused("fields or wire number")
    if not isinstance(envelope, bytes):
        raise MessageRefused("envelope")
    return envelope


def content_of(envelope: bytes) -> RecordDict:
    """Return the content of a message that carries one envelope."""
    return RecordDict({RECORD: ConfigRecord({"envelope": envelope, "wire": WIRE})})


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer a training order."""
    return _answered(message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer an evaluation order."""
    return _answered(message)


def _answered(message: Message) -> Message:
    envelope = envelope_of(message)
    if not _answerer:
        raise TrainerUnreachable("no courier in this process")
    return Message(content_of(_answerer[0](envelope)), reply_to=message)
