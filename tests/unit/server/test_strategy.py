"""Flower's side of a round, over a Grid in memory."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.serverapp.strategy import Strategy
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.task_identity import TaskIdentity

from pleura.common.ids import SiteId
from pleura.server.rounds import Node
from pleura.server.runs import RoundKind
from pleura.server.strategy import GridTransport, PleuraStrategy
from pleura.server.transport import Parcel, Reply


@pytest.fixture(autouse=True)
def task() -> None:
    """Flower stamps messages with the ids of the task it started."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


class FakeGrid:
    """Takes messages, except those for refused nodes; gives the replies put into it."""

    def __init__(self, refused: Iterable[int] = ()) -> None:
        self.refused, self.taken = set(refused), []
        self.replies: list[Message] = []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            node = message.metadata.dst_node_id
            if node in self.refused:
                ids.append("")
                continue
            message.metadata.__dict__["_message_id"] = f"m{len(self.taken)}"
            message.metadata.__dict__["_run_id"] = 1
            self.taken.append(message)
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, ids: Iterable[str]) -> list[Message]:
        asked = set(ids)
        found = [m for m in self.replies if m.metadata.reply_to_message_id in asked]
        self.replies = [m for m in self.replies if m not in found]
        return found


def parcel(site: str, node: int, kind: RoundKind = RoundKind.TRAIN) -> Parcel:
    return Parcel(SiteId(site), Node(node), 1, kind, b"order " + site.encode(), "d" * 64, 60.0)


def reply_to(message: Message, envelope: object) -> Message:
    record = ConfigRecord({"envelope": envelope, "wire": 1})  # type: ignore[dict-item]
    return Message(RecordDict({"pleura": record}), reply_to=message)


def test_it_is_a_flower_strategy_with_nothing_left_abstract() -> None:
    assert isinstance(PleuraStrategy(), Strategy)


def test_a_message_holds_the_signed_order_and_no_arrays() -> None:
    grid = FakeGrid()
    GridTransport(grid).push([parcel("north", 7), parcel("south", 8, RoundKind.EXTERNAL)])
    assert [m.metadata.message_type for m in grid.taken] == ["train", "evaluate"]
    assert [m.metadata.dst_node_id for m in grid.taken] == [7, 8]
    assert dict(grid.taken[0].content["pleura"]) == {"envelope": b"order north", "wire": 1}
    assert len(grid.taken[0].content.array_records) == 0


def test_replies_are_matched_to_the_site_they_were_asked_of() -> None:
    grid = FakeGrid()
    transport = GridTransport(grid)
    transport.push([parcel("north", 7), parcel("south", 8)])
    grid.replies = [reply_to(grid.taken[1], b"answer")]
    assert transport.pull() == [Reply(SiteId("south"), "d" * 64, b"answer")]
    assert transport.pull() == []


def test_an_error_reply_and_a_refused_push_are_failed_replies() -> None:
    grid = FakeGrid(refused=[8])
    transport = GridTransport(grid)
    transport.push([parcel("north", 7), parcel("south", 8)])
    grid.replies = [Message(Error(5, "Node Unavailable"), reply_to=grid.taken[0])]
    found = {reply.site_id: reply.envelope for reply in transport.pull()}
    assert found == {"north": None, "south": None}


def test_a_reply_without_an_envelope_is_an_empty_answer_not_a_failed_push() -> None:
    grid = FakeGrid()
    transport = GridTransport(grid)
    transport.push([parcel("north", 7), parcel("south", 8)])
    grid.replies = [reply_to(grid.taken[0], "text"), Message(RecordDict(), reply_to=grid.taken[1])]
    assert [reply.envelope for reply in transport.pull()] == [b"", b""]


def test_forgotten_orders_are_not_asked_for_again() -> None:
    grid = FakeGrid()
    transport = GridTransport(grid)
    transport.push([parcel("north", 7)])
    transport.forget(["d" * 64])
    grid.replies = [reply_to(grid.taken[0], b"late")]
    assert transport.pull() == []


def test_the_handle_for_flowers_pull_backoff_still_exists() -> None:
    GridTransport(FakeGrid())
    parameters = inspect.signature(pull_objects).parameters
    assert parameters["initial_backoff"].default == 0.02
    assert parameters["backoff_cap"].default == 0.5
    assert parameters["max_time"].default == 5
