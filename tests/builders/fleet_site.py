"""Sites that speak Flower's fleet protocol to a real SuperLink, each in a thread.

They answer with `federation.SiteStub`, so a run over a real SuperLink and ServerApp
can be compared with one in memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    inflate_object_from_contents,
    pull_objects,
    push_objects,
)
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from pleura.common.clock import SystemClock
from pleura.common.enrolment import EnrolmentRequest, InviteCode
from pleura.common.ids import SiteId
from pleura.common.results import UpdateStatement
from pleura.common.statements import open_statement, predicate_type, statement_kind
from pleura.server.sites import SiteRegistry
from tests.builders.federation import SiteStub, key_of

HEARTBEAT_S = 30.0


class FleetSite:
    """One site: registers its node, pulls orders, pushes answers, survives lost connections."""

    def __init__(self, stub: SiteStub, address: str, registry: SiteRegistry) -> None:
        self.stub, self._address, self._registry = stub, address, registry
        self._private = ec.generate_private_key(ec.SECP384R1())
        self._node: Node | None = None
        self.stop = threading.Event()
        self.runs: set[int] = set()
        self._thread = threading.Thread(target=self._live, daemon=True)

    @property
    def node_pem(self) -> str:
        encoding = serialization.Encoding.PEM
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._private.public_key().public_bytes(encoding, form).decode()

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self.stop.set()
        self._thread.join(10)

    def _live(self) -> None:
        while not self.stop.is_set():
            try:
                self._session()
            except httpx.HTTPStatusError as exc:
                if exc.response.status_code == httpx.codes.UNAUTHORIZED:
                    self._node = None  # a new SuperLink knows no node of its forerunner
                time.sleep(0.1)
            except (httpx.HTTPError, RuntimeError, OSError):
                time.sleep(0.1)  # the SuperLink is away; go on as the same node

    def _session(self) -> None:
        public = self._private.public_key()
        interceptors = [
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            NodeAuthHttpInterceptor(self._private, public),
        ]
        with FleetHttpClient.from_server_address(
            self._address, True, None, interceptors=interceptors
        ) as client:
            if self._node is None:
                self._node = self._activate(client, public_key_to_bytes(public))
            node = self._node
            beat = time.monotonic()
            while not self.stop.wait(0.03):
                if time.monotonic() - beat > HEARTBEAT_S / 2:
                    beat = time.monotonic()
                    client.SendNodeHeartbeat(
                        SendNodeHeartbeatRequest(node=node, heartbeat_interval=HEARTBEAT_S)
                    )
                self._serve(client, node)

    def _activate(self, client: FleetHttpClient, key: bytes) -> Node:
        """Register once; a node that is still online must not be activated again."""
        client.RegisterNode(RegisterNodeFleetRequest(public_key=key))
        activated = client.ActivateNode(
            ActivateNodeRequest(public_key=key, heartbeat_interval=HEARTBEAT_S)
        )
        site_id = SiteId(self.stub.site_id)
        self._registry.record_node(site_id, activated.node_id, SystemClock().now())
        return Node(node_id=activated.node_id)

    def _serve(self, client: FleetHttpClient, node: Node) -> None:
        pulled = client.PullMessages(PullMessagesRequest(node=node))
        if not pulled.messages_list:
            return
        proto, tree = pulled.messages_list[0], pulled.message_object_trees[0]
        meta = message_from_proto(proto).metadata
        self.runs.add(meta.run_id)
        try:
            contents = pull_objects(
                [t.object_id for t in iterate_object_tree(tree)],
                pull_object_fn=make_pull_object_fn_protobuf(client.PullObject, node, meta.run_id),
                initial_backoff=0.02,
                backoff_cap=0.2,
                max_time=2.0,
            )
        except ObjectPullError:
            return  # its sender died; the coordinator sends the order again
        client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=node, run_id=meta.run_id, message_object_id=meta.message_id
            )
        )
        message = inflate_object_from_contents(meta.message_id, contents)
        assert isinstance(message, Message)
        message.metadata.__dict__["_message_id"] = meta.message_id
        envelope = message.content["pleura"]["envelope"]
        signed = self.stub.answer(envelope)
        self._note_upload(signed)
        answer = ConfigRecord({"envelope": signed, "wire": 1})
        reply = Message(RecordDict({"pleura": answer}), reply_to=message)
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            pushed = client.PushMessages(
                PushMessagesRequest(
                    node=node,
                    messages_list=[message_to_proto(remove_content_from_message(reply))],
                    message_object_trees=[get_object_tree(reply)],
                    clientapp_runtime_list=[0.0],
                )
            )
            push_objects(
                get_all_nested_objects(reply),
                push_object_fn=make_push_object_fn_protobuf(
                    client.PushObject, node, meta.run_id, pushed.session_id
                ),
                object_ids_to_push=set(pushed.objects_to_push),
            )

    def _note_upload(self, signed: bytes) -> None:
        """Record what the gateway would have recorded when the update came through it."""
        key = key_of(self.stub.site_id).public
        if statement_kind(signed, {key.key_id: key}) == predicate_type(UpdateStatement):
            update = open_statement(signed, {key.key_id: key}, UpdateStatement).predicate.update
            self._registry.record_upload(update.blob_sha256, SiteId(self.stub.site_id))


def enrol(registry: SiteRegistry, site: FleetSite) -> None:
    """Invite, enrol and approve a site in a registry."""
    site_id = SiteId(site.stub.site_id)
    code = InviteCode(registry.invite(site_id, timedelta(hours=1)), "0" * 16)
    signing, transport = key_of(site_id), key_of(f"{site_id}-transport")
    request = EnrolmentRequest(
        site_id=site_id,
        code=code.text,
        signing_key=signing.public.to_b64(),
        transport_key=transport.public.to_b64(),
        node_key=site.node_pem,
    )
    registry.enrol(request.proved_by(signing))
    registry.approve(site_id)


@contextmanager
def fleet(stubs: dict[SiteId, SiteStub], address: str, database: Path) -> Iterator[list[FleetSite]]:
    """Enrol sites and let them live until the block ends."""
    registry = SiteRegistry(database, SystemClock())
    sites = [FleetSite(stub, address, registry) for stub in stubs.values()]
    for site in sites:
        enrol(registry, site)
        site.start()
    try:
        yield sites
    finally:
        for site in sites:
            site.stop.set()
        for site in sites:
            site.join()
        registry.close()
