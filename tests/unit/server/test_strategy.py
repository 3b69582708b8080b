"""Flower's side of a round, over a Grid in memory."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.serverapp.strategy import Strategy
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError

from pleura.common.ids import SiteId
from pleura.server.bell import Bell
from pleura.server.rounds import Node
from pleura.server.runs import RoundKind
from pleura.server.strategy import GridTransport, PleuraStrategy
from pleura.server.transport import Parcel, Reply


@pytest.fixture(autouse=True)
def task() -> None:
    """Flower stamps messages with the ids of the task it started."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


@pytest.fixture
def orders(tmp_path: Path) -> Bell:
    return Bell(tmp_path / "orders.bell")


class FakeGrid:
    """Takes messages, except those for refused nodes; gives the replies put into it."""

    def __init__(self, refused: Iterable[int] = ()) -> None:
        self.refused, self.taken = set(refused), []
        self.replies: list[Message] = []
        self.malformed: set[str] = set()

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
        if any(m.metadata.reply_to_message_id in self.malformed for m in found):
            self.replies = [m for m in self.replies if m not in found]  # delivered all the same
            raise DecodeError("a site's bytes")
        self.replies = [m for m in self.replies if m not in found]
        return found


def parcel(site: str, node: int, kind: RoundKind = RoundKind.TRAIN) -> Parcel:
    return Parcel(SiteId(site), Node(node), 1, kind, b"order " + site.encode(), "d" * 64, 60.0)


def reply_to(message: Message, envelope: object) -> Message:
    record = ConfigRecord({"envelope": envelope, "wire": 1})  # type: ignore[dict-item]
    return Message(RecordDict({"pleura": record}), reply_to=message)


def test_it_is_a_flower_strategy_with_nothing_left_abstract() -> None:
    assert isinstance(PleuraStrategy(), Strategy)


def test_a_message_holds_the_signed_order_and_no_arrays(orders: Bell) -> None:
    grid = FakeGrid()
    GridTransport(grid, orders).push([parcel("north", 7), parcel("south", 8, RoundKind.EXTERNAL)])
    assert [m.metadata.message_type for m in grid.taken] == ["train", "evaluate"]
    assert [m.metadata.dst_node_id for m in grid.taken] == [7, 8]
    assert dict(grid.taken[0].content["pleura"]) == {"envelope": b"order north", "wire": 1}
    assert len(grid.taken[0].content.array_records) == 0


def test_the_bell_is_rung_only_once_the_messages_are_there(orders: Bell) -> None:
    rung_before = []

    class WatchfulGrid(FakeGrid):
        def push_messages(self, messages: Iterable[Message]) -> list[str]:
            ids = super().push_messages(messages)
            rung_before.append(orders.mark())
            return ids

    GridTransport(WatchfulGrid(), orders).push([parcel("north", 7)])
    assert rung_before == [0] and orders.mark() > 0


def test_replies_are_matched_to_the_site_they_were_asked_of(orders: Bell) -> None:
    grid = FakeGrid()
    transport = GridTransport(grid, orders)
    transport.push([parcel("north", 7), parcel("south", 8)])
    grid.replies = [reply_to(grid.taken[1], b"answer")]
    assert transport.pull() == [Reply(SiteId("south"), "d" * 64, b"answer")]
    assert transport.pull() == []


def test_an_error_reply_and_a_refused_push_are_failed_replies(orders: Bell) -> None:
    grid = FakeGrid(refused=[8])
    transport = GridTransport(grid, orders)
    transport.push([parcel("north", 7), parcel("south", 8)])
    grid.replies = [Message(Error(5, "Node Unavailable"), reply_to=grid.taken[0])]
    found = {reply.site_id: reply.envelope for reply in transport.pull()}
    assert found == {"north": None, "south": None}


def test_a_reply_without_an_envelope_is_an_empty_answer_not_a_failed_push(orders: Bell) -> None:
    grid = FakeGrid()
    transport = GridTransport(grid, orders)
    transport.push([parcel("north", 7), parcel("south", 8)])
    grid.replies = [reply_to(grid.taken[0], "text"), Message(RecordDict(), reply_to=grid.taken[1])]
    assert [reply.envelope for reply in transport.pull()] == [b"", b""]


def test_forgotten_orders_are_not_asked_for_again(orders: Bell) -> None:
    grid = FakeGrid()
    transport = GridTransport(grid, orders)
    transport.push([parcel("north", 7)])
    transport.forget(["d" * 64])
    grid.replies = [reply_to(grid.taken[0], b"late")]
    assert transport.pull() == []


def test_the_handle_for_flowers_pull_backoff_still_exists(orders: Bell) -> None:
    GridTransport(FakeGrid(), orders)
    parameters = inspect.signature(pull_objects).parameters
    assert parameters["initial_backoff"].default == 0.02
    assert parameters["backoff_cap"].default == 0.5
    assert parameters["max_time"].default == 5


def test_a_reply_that_cannot_be_read_fails_its_site_and_not_the_run(orders: Bell) -> None:
    grid = FakeGrid()
    transport = GridTransport(grid, orders)
    north, south = parcel("north", 7), parcel("south", 8)
    transport.push([north, south])
    grid.malformed = {"m0", "m2", "m4"}  # whatever north says
    grid.replies = [reply_to(grid.taken[0], b"x"), reply_to(grid.taken[1], b"answer")]
    # Flower cannot say whose bytes they were, so both are asked again
    assert {reply.site_id: reply.envelope for reply in transport.pull()} == {
        "north": None,
        "south": None,
    }
    transport.push([north, south])
    grid.replies = [reply_to(grid.taken[2], b"x"), reply_to(grid.taken[3], b"answer")]
    assert {reply.site_id: reply.envelope for reply in transport.pull()} == {
        "north": None,
        "south": b"answer",
    }
    assert transport.pull() == []


def test_a_superlink_that_does_not_answer_ends_the_process(orders: Bell) -> None:
    class DeadGrid(FakeGrid):
        def pull_messages(self, ids: Iterable[str]) -> list[Message]:
            raise httpx.ConnectError("loopback")

    transport = GridTransport(DeadGrid(), orders)
    transport.push([parcel("north", 7)])
    with pytest.raises(httpx.ConnectError):
        transport.pull()
