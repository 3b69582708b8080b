"""Status: what a site holds and does, in numbers that stay at the site."""

from __future__ import annotations

from collections.abc import Mapping

from pleura.client.agent.outbox import Outbox
from pleura.client.agent.trainer_link import TrainerLink
from pleura.client.errors import CatalogMissing, TrainerUnreachable
from pleura.client.ingest.catalog import Catalog
from pleura.client.settings import SiteSettings

Value = str | int | bool | dict[str, int]


def site_status(settings: SiteSettings) -> Mapping[str, Value]:
    """Return counts of the catalog, the trainer's state and what waits to be sent.

    Raises:
        DatabaseDamaged: the catalog or the outbox cannot be read.
    """
    return {
        "site": settings.site_id,
        "federation": settings.coordinator.federation_id,
        "enrolled": settings.coordinator_key_file.is_file(),
        **_catalog(settings),
        **_trainer(settings),
        "answers waiting": _waiting(settings),
    }


def _catalog(settings: SiteSettings) -> dict[str, Value]:
    try:
        with Catalog(settings.catalog_file, read_only=True) as catalog:
            counts = catalog.counts()
    except CatalogMissing:
        return {"patients": 0, "studies": 0, "objects": 0}
    return {
        "patients": counts.patients,
        "studies": counts.studies,
        "objects": counts.instances,
        "bytes": counts.size_bytes,
        "labels": dict(counts.labels),
        "quarantined": dict(counts.quarantined),
    }


def _trainer(settings: SiteSettings) -> dict[str, Value]:
    if not settings.trainer_socket.exists():
        return {"trainer": "stopped"}
    try:
        with TrainerLink(settings.trainer_socket) as link:
            found = link.status(timeout_s=2.0)
    except TrainerUnreachable:
        return {"trainer": "stopped"}
    return {
        "trainer": "working" if found.busy else "idle",
        "orders waiting": found.waiting,
        "sandboxed": found.sandboxed,
        "version": found.version,
    }


def _waiting(settings: SiteSettings) -> int:
    path = settings.agent_dir / "agent.db"
    if not path.is_file():
        return 0
    outbox = Outbox(path)
    try:
        return len(outbox.pending())
    finally:
        outbox.close()
