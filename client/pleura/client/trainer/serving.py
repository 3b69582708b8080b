"""Serving: builds the trainer of one site from its settings and runs it to the end."""

from __future__ import annotations

import faulthandler
from dataclasses import dataclass

import torch

from pleura.client.errors import NotEnrolled
from pleura.client.settings import SiteSettings
from pleura.client.trainer.answers import Signer
from pleura.client.trainer.archive import Archive
from pleura.client.trainer.identity import code_digest
from pleura.client.trainer.jobs import Jobs
from pleura.client.trainer.policy import SiteRules
from pleura.client.trainer.service import TrainerService, serve
from pleura.client.trainer.work import SiteWork
from pleura.common.blobs import BlobStore
from pleura.common.clock import SystemClock
from pleura.common.errors import KeyUnreadable
from pleura.common.files import ensure_private_folder
from pleura.common.keys import VerifyKey, load_key
from pleura.common.supervision import stop_on_signals

_GRACE_S = 2.0


def serve_until_stopped(settings: SiteSettings, *, sandboxed: bool) -> None:
    """Serve on the trainer's socket until SIGTERM or SIGINT; SIGKILL is always safe.

    Raises:
        NotEnrolled: there is no site key or no pinned coordinator key.
        KeyFileInsecure, KeyUnreadable, StateInsecure, DatabaseDamaged: named cause.
    """
    faulthandler.enable()
    stop = stop_on_signals()
    torch.set_num_threads(settings.trainer.threads)
    ensure_private_folder(settings.trainer_dir)
    code_digest()
    parts = build(settings, sandboxed=sandboxed)
    server = serve(parts.service, settings.trainer_socket)
    try:
        stop.wait()
    finally:
        parts.jobs.stop()
        server.stop(_GRACE_S).wait()


@dataclass(frozen=True, slots=True)
class TrainerParts:
    """A trainer whose worker runs; its socket is served by `service`."""

    service: TrainerService
    jobs: Jobs
    work: SiteWork


def build(settings: SiteSettings, *, sandboxed: bool) -> TrainerParts:
    """Return the service over a site's keys, archive, blobs and data, with its worker started.

    Raises:
        NotEnrolled: there is no site key or no pinned coordinator key.
        KeyFileInsecure, KeyUnreadable, DatabaseDamaged: named cause.
    """
    coordinator = pinned_coordinator(settings)
    if not settings.site_key_file.exists():
        raise NotEnrolled("no site key")
    clock = SystemClock()
    signer = Signer(settings.site_id, load_key(settings.site_key_file))
    archive = Archive(settings.trainer_dir / "runs")
    archive.drop_old_updates(clock.now())
    blobs = BlobStore(settings.trainer_dir / "blobs")
    blobs.sweep()
    work = SiteWork(settings, archive=archive, blobs=blobs, signer=signer, clock=clock)
    jobs = Jobs(
        keys={coordinator.key_id: coordinator},
        rules=SiteRules(settings.site_id, settings.coordinator.federation_id, settings.policy),
        archive=archive,
        blobs=blobs,
        work=work,
        signer=signer,
        clock=clock,
    )
    jobs.start()
    return TrainerParts(TrainerService(jobs, archive, blobs, sandboxed=sandboxed), jobs, work)


def pinned_coordinator(settings: SiteSettings) -> VerifyKey:
    """Return the coordinator's public key that was pinned at enrolment.

    Raises:
        NotEnrolled: there is none.
        KeyUnreadable: the file is not a key.
    """
    try:
        text = settings.coordinator_key_file.read_text(encoding="ascii")
    except FileNotFoundError as exc:
        raise NotEnrolled("no pinned coordinator key") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise KeyUnreadable("pinned coordinator key") from exc
    return VerifyKey.from_b64(text)
