"""The ClientApp takes one envelope and gives one back; anything else is refused by name."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from flwr.app import ConfigRecord, Context, Message, Metadata, MetricRecord, RecordDict
from flwr.app.message.message import make_message

from pleura.client import flower_app
from pleura.client.errors import MessageRefused, TrainerUnreachable

CONTEXT = Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})


@pytest.fixture(autouse=True)
def _unbound() -> Iterator[None]:
    flower_app._answerer.clear()
    yield
    flower_app._answerer.clear()


def message(content: RecordDict, kind: str = "train") -> Message:
    metadata = Metadata(
        run_id=1, message_id="m", src_node_id=1, dst_node_id=2, reply_to_message_id="",
        group_id="", created_at=time.time(), ttl=60.0, message_type=kind,
    )  # fmt: skip
    return make_message(metadata, content)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_an_order_is_handed_on_and_its_answer_comes_back(kind: str) -> None:
    flower_app.bind(lambda envelope: envelope + b" answered")
    reply = flower_app.app(message(flower_app.content_of(b"order"), kind), CONTEXT)
    assert flower_app.envelope_of(reply) == b"order answered"
    assert reply.metadata.reply_to_message_id == "m"


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"other": ConfigRecord({"envelope": b"x", "wire": 1})}),
        RecordDict({"pleura": MetricRecord({"wire": 1})}),
        RecordDict({"pleura": ConfigRecord({"envelope": b"x", "wire": 2})}),
        RecordDict({"pleura": ConfigRecord({"envelope": "x", "wire": 1})}),
        RecordDict({"pleura": ConfigRecord({"envelope": b"x"})}),
        RecordDict({"pleura": ConfigRecord({"envelope": b"x", "wire": 1, "more": 1})}),
        RecordDict(
            {
                "pleura": ConfigRecord({"envelope": b"x", "wire": 1}),
                "more": ConfigRecord({"a": 1}),
            }
        ),
    ],
)
def test_any_other_content_is_refused(content: RecordDict) -> None:
    flower_app.bind(lambda envelope: envelope)
    with pytest.raises(MessageRefused):
        flower_app.app(message(content), CONTEXT)


def test_without_a_courier_the_order_is_not_lost_but_refused_by_name() -> None:
    with pytest.raises(TrainerUnreachable):
        flower_app.app(message(flower_app.content_of(b"order")), CONTEXT)


def test_a_query_is_not_answered() -> None:
    flower_app.bind(lambda envelope: envelope)
    with pytest.raises(ValueError, match="query"):
        flower_app.app(message(flower_app.content_of(b"order"), "query"), CONTEXT)
