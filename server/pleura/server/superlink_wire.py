"""What the gateway reads in Flower's fleet messages, and nothing more.

Only protobuf is looked at here; message contents stay closed. Together with
`superlink` this is the only module of the gateway that knows Flower.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from flwr.proto.fleet_pb2 import (
    ActivateNodeResponse,
    PullMessagesResponse,
    PushMessagesRequest,
    RegisterNodeFleetResponse,
)
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from google.protobuf.message import DecodeError

FLEET_PREFIX: Final = "/v1/fleet/"
PULL_MESSAGES: Final = FLEET_PREFIX + "pull-messages"
PUSH_MESSAGES: Final = FLEET_PREFIX + "push-messages"
PUSH_OBJECT: Final = FLEET_PREFIX + "push-object"
# Every call a site needs. Not get-fab (no bundle is ever sent to a site) and not
# unregister-node (a node keeps its number for good).
FLEET_PATHS: Final = frozenset(
    FLEET_PREFIX + name
    for name in (
        "register-node",
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
_NODE_REPLIES: Final[Mapping[str, type[RegisterNodeFleetResponse] | type[ActivateNodeResponse]]] = {
    FLEET_PREFIX + "register-node": RegisterNodeFleetResponse,
    FLEET_PREFIX + "activate-node": ActivateNodeResponse,
}


def is_empty_pull(body: bytes) -> bool:
    """Tell whether a PullMessages reply holds no message; an unreadable one is not empty."""
    reply = PullMessagesResponse()
    try:
        reply.ParseFromString(body)
    except DecodeError:
        return False
    return not reply.messages_list


def speaks_for_itself(path: str, body: bytes) -> bool:
    """Tell whether pushed messages name their sender as their source.

    The SuperLink ties the sender's number to the node key, but takes the source of a
    message, by which it knows whose answer it is, as it is written.
    """
    if path != PUSH_MESSAGES:
        return True
    request = PushMessagesRequest()
    try:
        request.ParseFromString(body)
    except DecodeError:
        return False
    sender = request.node.node_id
    return all(message.metadata.src_node_id == sender for message in request.messages_list)


def node_id_of(path: str, body: bytes) -> int | None:
    """Return the node number a register or activate reply assigns, else None."""
    reply_type = _NODE_REPLIES.get(path)
    if reply_type is None:
        return None
    reply = reply_type()
    try:
        reply.ParseFromString(body)
    except DecodeError:
        return None
    return int(reply.node_id) or None


def claimed_node_key(headers: Mapping[str, str]) -> str | None:
    """Return the PEM public key a fleet request claims, or None if it claims none."""
    try:
        raw = base64.b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
        return raw.decode("ascii")
    except (KeyError, ValueError, binascii.Error):
        return None
