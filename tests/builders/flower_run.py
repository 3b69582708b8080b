"""A real SuperLink process, and a ServerApp's part in it played by the test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from flwr.app import Message, Metadata, RecordDict
from flwr.app.message.message import make_message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.config_loader import (
    get_federation_manager,
    get_objectstore_linkstate_factories,
)

from tests.builders.coordinator import free_port


@dataclass(frozen=True)
class SuperLink:
    port: int
    database: Path


@contextmanager
def running_superlink(folder: Path, *, port: int | None = None) -> Iterator[SuperLink]:
    """Start a SuperLink on loopback that starts no ServerApp of its own."""
    chosen, folder = port or free_port(), folder
    folder.mkdir(parents=True, exist_ok=True)
    program = Path(sys.executable).with_name("flower-superlink")
    arguments = [
        *(str(program), "--insecure", "--host", "127.0.0.1", "--port", str(chosen)),
        *("--database", str(folder / "flower.db"), "--isolation", "process"),
        "--disable-runtime-dependency-installation",
    ]
    environment = {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_HOME": str(folder),
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            arguments, env={**os.environ, **environment}, stdout=log, stderr=log
        )
    try:
        _await(chosen, process)
        yield SuperLink(chosen, folder / "flower.db")
    finally:
        process.kill()
        process.wait(15)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, "the SuperLink ended"
        try:
            httpx.get(f"http://127.0.0.1:{port}/openapi.json", timeout=2)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the SuperLink does not answer")


class FlowerRun:
    """A running Flower run whose messages the test writes and reads in the SuperLink's store."""

    def __init__(self, superlink: SuperLink, fab_hash: str) -> None:
        objects, states = get_objectstore_linkstate_factories(
            str(superlink.database), get_federation_manager(is_simulation=False)
        )
        self._state: Any = states.state()
        self._objects: Any = objects.store()
        self.run_id = self._state.create_run(
            "pleura/pleura-app", "1.0.0", fab_hash, {}, NOOP_FEDERATION_ID, None, "",
            TaskType.SERVER_APP,
        )  # fmt: skip
        task = self._state.get_run_info(run_ids=[self.run_id])[0].primary_task_id
        assert self._state.claim_task(task)
        assert self._state.activate_task(task)
        self._task = task

    def finish(self) -> None:
        """End the run."""
        assert self._state.finish_task(self._task, "completed", "")

    def send(self, node_id: int, content: RecordDict, kind: str) -> str:
        """Store a message for a node; return its id."""
        metadata = Metadata(
            run_id=self.run_id,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=node_id,
            reply_to_message_id="",
            group_id="",
            created_at=time.time(),
            ttl=3600.0,
            message_type=kind,
            src_task_id=self._task,
        )
        message = make_message(metadata, content)
        message.metadata.__dict__["_message_id"] = message.object_id
        stored, missing = self._state.store_message_and_object_tree(
            message, get_object_tree(message), self._state.start_session(self.run_id)
        )
        assert stored
        for object_id, part in get_all_nested_objects(message).items():
            if object_id in missing:
                self._objects.put(object_id, part.deflate())
        return message.object_id

    def reply(self, message_id: str, *, timeout_s: float = 60) -> Message:
        """Wait for the reply to a message and return it whole."""
        deadline, found = time.monotonic() + timeout_s, []
        while time.monotonic() < deadline:
            # a reply is given out once, perhaps before its parts are there
            found = found or self._state.get_message_res({message_id}, self.run_id)
            if found and self._is_whole(found[0]):
                return self._inflated(found[0])
            time.sleep(0.05)
        raise AssertionError("no reply")

    def _is_whole(self, reply: Message) -> bool:
        if reply.has_error():
            return True
        tree = self._objects.get_object_tree(reply.metadata.message_id)
        return all(self._objects.get(part.object_id) for part in iterate_object_tree(tree))

    def _inflated(self, reply: Message) -> Message:
        if reply.has_error():
            return reply
        tree = self._objects.get_object_tree(reply.metadata.message_id)
        contents = {
            part.object_id: self._objects.get(part.object_id) for part in iterate_object_tree(tree)
        }
        whole = inflate_object_from_contents(tree.object_id, contents)
        assert isinstance(whole, Message)
        return whole
