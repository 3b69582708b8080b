"""Trainer process: leaves the network first, then loads keys and serves the socket.

Nothing that starts a thread or imports torch or grpc may be imported before the
sandbox is entered, so the serving half is imported inside `main`.
"""

from __future__ import annotations

from pleura.client.settings import SiteSettings
from pleura.client.trainer import sandbox
from pleura.common import events


def main(settings: SiteSettings) -> None:
    """Serve orders until SIGTERM or SIGINT.

    Raises:
        NotSandboxed: the network is reachable and the policy does not allow that.
        NotEnrolled: there is no site key or no pinned coordinator key.
        KeyFileInsecure, KeyUnreadable, StateInsecure, DatabaseDamaged: named cause.
    """
    allowed = settings.policy.allow_unsandboxed_trainer
    is_sandboxed = sandbox.enter(allow_unsandboxed=allowed)

    from pleura.client.trainer.serving import serve_until_stopped

    serve_until_stopped(settings, sandboxed=is_sandboxed)
    events.emit("process.stopped", process="trainer", status=0)
