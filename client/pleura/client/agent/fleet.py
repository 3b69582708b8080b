"""Fleet: one site's connection to the coordinator's Flower SuperLink, in this process.

Flower's own fleet client and message types, behind our channel: the pinned CA,
a signature over every request, refusals as named errors. No code bundle is ever
downloaded; the caller compares a run's bundle hash with the one this version
ships. Written against flwr 1.42 and held to it by a contract test.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Error, Message
from flwr.app.message.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.inflatable.inflatable_object import (
    UnexpectedObjectContentError,
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from pleura.client.agent.channel import Channel, check_skew, raise_for_refusal, transport_error
from pleura.client.errors import CoordinatorUnreachable, MessageRefused, RunEnded
from pleura.common.canonical import sha256_hex
from pleura.common.clock import Clock
from pleura.common.files import write_atomic

HEARTBEAT_S: Final = float(HEARTBEAT_DEFAULT_INTERVAL)
HEARTBEAT_EVERY_S: Final = 20.0  # the SuperLink waits two intervals before a node is absent
_PART_BACKOFF_S: Final = 0.02  # a message is shown before all its parts have arrived
_PART_BACKOFF_MAX_S: Final = 0.5
_PARTS_MAX_S: Final = 10.0  # then its sender is gone; the coordinator sends the order again
_CALL_TIMEOUT_S: Final = 40.0  # above the gateway's long poll of 20 s
_RUN_CODES: Final = frozenset(
    {ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED, ApiErrorCode.FLEET_GET_RUN_FAILED}
)
_REGISTERED_CODES: Final = frozenset(
    {ApiErrorCode.FLEET_SUPERNODE_REGISTRATION_DISABLED, ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE}
)


class Signs(Protocol):
    """What the interceptor needs of a channel."""

    def signing_headers(self, method: str, target: str, body_sha256: str) -> dict[str, str]: ...


class _FleetRejected(CoordinatorUnreachable):
    """The SuperLink itself said no, with its own number; connecting anew may mend it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"SuperLink code {number}")
        self.number = number


class SigningInterceptor:
    """Signs each request, checks the reply's clock and names what went wrong."""

    def __init__(self, channel: Signs, clock: Clock) -> None:
        self._channel, self._clock = channel, clock
        self._version = dict(RuntimeVersionMetadata.from_local_component("SuperNode").as_metadata())

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Send one signed request.

        Raises:
            RunEnded: the run of this call is over.
            CoordinatorUnreachable: no answer, a 5xx, or the SuperLink rejected the call.
            CaMismatch, ClockSkew, SignatureRejected, KeyUnknown, ReplayRejected,
            SiteNotApproved, CoordinatorRefused: said by TLS or the gateway.
        """
        request = context.request
        target = request.url.raw_path.decode("ascii")
        signed = self._channel.signing_headers(request.method, target, sha256_hex(request.content))
        request.headers.update({**self._version, **signed})
        try:
            response = call_next(context)
        except httpx.TransportError as exc:
            raise transport_error(exc) from exc
        check_skew(response.headers, self._clock.now())
        _raise_if_rejected(response)
        return response


@dataclass(frozen=True, slots=True)
class Pulled:
    """One message for this site, whole, and the Flower run it belongs to."""

    message: Message
    run_id: int


class FleetLink:
    """A registered, active Flower node; safe to share by threads once connected."""

    def __init__(
        self,
        channel: Channel,
        node_key: ec.EllipticCurvePrivateKey,
        clock: Clock,
        memory: Path,
    ) -> None:
        """Prepare the connection; nothing is sent. `memory` keeps the node id over restarts."""
        public = node_key.public_key()
        self._public_key = public_key_to_bytes(public)
        self._client = FleetHttpClient(
            channel.url,
            interceptors=[
                NodeAuthHttpInterceptor(node_key, public),
                SigningInterceptor(channel, clock),
            ],
            verify=channel.ssl_context,
            timeout=_CALL_TIMEOUT_S,
        )
        self._client._client.follow_redirects = False  # a redirect would leave the pinned host
        self._memory = memory
        self._node: Node | None = None
        self._push_lock = threading.Lock()

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def connect(self) -> int:
        """Register the node if the SuperLink does not know it, activate it, return its id.

        Raises:
            CoordinatorUnreachable: try again later.
            PleuraError: a refusal, see `SigningInterceptor.intercept`.
        """
        try:
            self._client.RegisterNode(RegisterNodeFleetRequest(public_key=self._public_key))
        except _FleetRejected as exc:
            if exc.number not in _REGISTERED_CODES:
                raise
        node_id = self._activated()
        if self._remembered() != node_id:
            write_atomic(self._memory, str(node_id).encode("ascii"))
        self._node = Node(node_id=node_id)
        return node_id

    def disconnect(self) -> None:
        """Tell the SuperLink that this node leaves.

        Raises:
            PleuraError: it could not be told; it notices by itself.
        """
        if self._node is not None:
            self._client.DeactivateNode(DeactivateNodeRequest(node_id=self._node.node_id))
            self._node = None

    def heartbeat(self) -> None:
        """Say that this node is alive.

        Raises:
            CoordinatorUnreachable: no answer, or the SuperLink forgot this node.
        """
        reply = self._client.SendNodeHeartbeat(
            SendNodeHeartbeatRequest(node=self._connected(), heartbeat_interval=HEARTBEAT_S)
        )
        if not reply.success:
            raise CoordinatorUnreachable("the SuperLink does not know this node")

    def pull(self) -> Pulled | None:
        """Return the next message for this node, or None after the gateway's long poll.

        Raises:
            RunEnded: the message's run is over; it is gone.
            MessageRefused: its parts are missing or not what they say.
            CoordinatorUnreachable: try again later.
        """
        node = self._connected()
        reply = self._client.PullMessages(PullMessagesRequest(node=node))
        if not reply.messages_list:
            return None
        run_id, tree = reply.messages_list[0].metadata.run_id, reply.message_object_trees[0]
        try:
            message = pull_and_inflate_object_from_tree(
                tree,
                make_pull_object_fn_protobuf(self._client.PullObject, node, run_id),
                make_confirm_message_received_fn_protobuf(
                    self._client.ConfirmMessageReceived, node, run_id
                ),
                return_type=Message,
                initial_backoff=_PART_BACKOFF_S,
                backoff_cap=_PART_BACKOFF_MAX_S,
                max_time=_PARTS_MAX_S,
            )
        except (ObjectPullError, UnexpectedObjectContentError, TypeError, ValueError) as exc:
            raise MessageRefused("parts of a message") from exc
        # its own id is not part of what the id is the hash of
        message.metadata.__dict__["_message_id"] = tree.object_id
        return Pulled(message, run_id)

    def push(self, reply: Message, runtime_s: float) -> None:
        """Send a reply, whole.

        Raises:
            RunEnded: its run is over; the next run asks again.
            CoordinatorUnreachable: try again later.
        """
        node, run_id = self._connected(), reply.metadata.run_id
        with self._push_lock, no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            accepted = self._client.PushMessages(
                PushMessagesRequest(
                    node=node,
                    messages_list=[message_to_proto(remove_content_from_message(reply))],
                    message_object_trees=[get_object_tree(reply)],
                    clientapp_runtime_list=[runtime_s],
                )
            )
            push = make_push_object_fn_protobuf(
                self._client.PushObject, node, run_id, accepted.session_id
            )
            try:
                for object_id, part in get_all_nested_objects(reply).items():
                    if object_id in set(accepted.objects_to_push):
                        push(object_id, part.deflate())
            except ObjectPushError as exc:
                raise CoordinatorUnreachable("a part of the reply was not stored") from exc

    def bundle_of(self, run_id: int) -> str:
        """Return the SHA-256 of the code bundle a run names; it is not fetched.

        Raises:
            RunEnded: the run is over.
            CoordinatorUnreachable: try again later.
        """
        reply = self._client.GetRun(GetRunRequest(node=self._connected(), run_id=run_id))
        return str(reply.run.fab_hash)

    def _activated(self) -> int:
        request = ActivateNodeRequest(public_key=self._public_key, heartbeat_interval=HEARTBEAT_S)
        try:
            return int(self._client.ActivateNode(request).node_id)
        except _FleetRejected as exc:
            known = self._remembered()
            if exc.number != ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED or known is None:
                raise
            # the SuperLink holds a killed agent for online for a minute: say that it left
            self._client.DeactivateNode(DeactivateNodeRequest(node_id=known))
        return int(self._client.ActivateNode(request).node_id)

    def _remembered(self) -> int | None:
        try:
            text = self._memory.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None
        return int(text) if text.isdigit() else None

    def _connected(self) -> Node:
        if self._node is None:
            raise CoordinatorUnreachable("not connected")
        return self._node


def error_reply(message: Message, number: int, code: str) -> Message:
    """Return an error reply that carries a stable code and nothing else."""
    return Message(Error(number, code), reply_to=message)


def _raise_if_rejected(response: httpx.Response) -> None:
    if response.status_code < httpx.codes.MULTIPLE_CHOICES:
        return
    rejected = FlowerError.from_json(response.text)
    if rejected is not None and isinstance(rejected.code, int):
        if rejected.code in _RUN_CODES:
            raise RunEnded(f"SuperLink code {rejected.code}")
        raise _FleetRejected(rejected.code)
    if b'"hint"' in response.content:  # the gateway's own refusal carries a code and a hint
        raise_for_refusal(
            httpx.Response(response.status_code, stream=httpx.ByteStream(response.content))
        )
    raise CoordinatorUnreachable(f"status {response.status_code}")
