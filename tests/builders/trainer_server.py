"""A trainer in this process over a real Unix socket, and a link to it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pleura.client.agent.trainer_link import Answer, NeedsBase, TrainerLink
from pleura.client.settings import SiteSettings
from pleura.client.trainer.service import serve
from pleura.client.trainer.serving import build


@contextmanager
def short_folder() -> Iterator[Path]:
    """Yield a private temporary folder whose path leaves room for a socket name."""
    folder = Path(tempfile.mkdtemp(prefix="pl-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def running_trainer(settings: SiteSettings) -> Iterator[TrainerLink]:
    """Serve a site's trainer in this process, unsandboxed, and yield a link to it."""
    parts = build(settings, sandboxed=False)
    server = serve(parts.service, settings.trainer_socket)
    try:
        with TrainerLink(settings.trainer_socket) as link:
            yield link
    finally:
        parts.jobs.stop()
        server.stop(0).wait()
        parts.work.close()


def answered(link: TrainerLink, envelope: bytes, base_file: Path) -> Answer:
    """Submit an order, bring its base if asked, and return the answer."""
    outcome = link.submit(envelope)
    if isinstance(outcome, NeedsBase):
        data = base_file.read_bytes()[outcome.have :]
        assert link.put_blob(outcome.sha256, outcome.size, outcome.have, [data])
        outcome = link.submit(envelope)
    assert isinstance(outcome, Answer), outcome
    return outcome
