"""What the run loop needs from a messaging system; Flower's Grid is behind it.

Delivery is at least once and in no order. A reply names the order it answers; one
without an envelope says that this push failed and may be tried again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pleura.common.ids import SiteId
from pleura.common.keys import VerifyKey
from pleura.server.rounds import Node
from pleura.server.runs import RoundKind


@dataclass(frozen=True, slots=True)
class Parcel:
    """A signed order on its way to the node of a site."""

    site_id: SiteId
    node: Node
    round: int
    kind: RoundKind
    envelope: bytes
    order_digest: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for a parcel; `envelope` is None if the push failed."""

    site_id: SiteId
    order_digest: str
    envelope: bytes | None


class Transport(Protocol):
    """Carries parcels out and replies back."""

    def push(self, parcels: Sequence[Parcel]) -> None: ...

    def pull(self) -> Sequence[Reply]: ...

    def forget(self, order_digests: Iterable[str]) -> None: ...


class SiteEntry(Protocol):
    """What the site registry says of one site."""

    @property
    def site_id(self) -> SiteId: ...

    @property
    def state(self) -> str: ...

    @property
    def signing_key(self) -> VerifyKey: ...

    @property
    def node_id(self) -> int | None: ...

    @property
    def activated_at(self) -> datetime | None: ...


class Registry(Protocol):
    """The site registry, as far as rounds need it."""

    def all(self) -> tuple[SiteEntry, ...]: ...

    def has_sent(self, digest: str, site_id: SiteId) -> bool: ...
