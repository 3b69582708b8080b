"""The ServerApp: Flower starts it, it takes a run's lease and works on the run.

Flower gives the run's id in `pleura-run` and a Grid; all state is Pleura's own. The
process dies with the SuperExec that started it, at once and even if nobody reaps
that parent, so that a killed SuperLink never leaves a second worker behind.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from pleura.common import events
from pleura.common.blobs import BlobStore
from pleura.common.clock import SystemClock
from pleura.common.errors import ConfigUnreadable, PleuraError
from pleura.common.files import ensure_private_folder
from pleura.common.ids import RunId, parse_run_id
from pleura.common.keys import load_key
from pleura.common.supervision import die_with_parent
from pleura.server.bell import Bell
from pleura.server.collecting import Office
from pleura.server.lease import run_lease
from pleura.server.ledger.log import StatementLog
from pleura.server.runner import RunLoop
from pleura.server.runs import RunState
from pleura.server.settings import CONFIG_ENV, ServerSettings, load_settings
from pleura.server.sites import SiteRegistry
from pleura.server.store import RunStore
from pleura.server.strategy import GridTransport
from pleura.server.transport import Transport

RUN_KEY: Final = "pleura-run"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Work on the run that Flower names until it has ended.

    Raises:
        PleuraError: why this process cannot go on; the run keeper submits again.
    """
    die_with_parent()
    settings = load_settings(config_path())
    events.configure("serverapp", file=settings.log_dir / "serverapp.jsonl")
    events.emit("process.started", process="serverapp", pid=os.getpid())
    run_id = parse_run_id(str(context.run_config[RUN_KEY]))
    try:
        with run_lease(settings.leases_dir, run_id):
            transport = GridTransport(grid, Bell(settings.orders_bell_file))
            work(settings, run_id, transport)
    except PleuraError as exc:
        events.emit("process.failed", process="serverapp", code=exc.code)
        raise
    except Exception as exc:  # the process ends; its cause must not be a silence
        events.emit("error.raised", process="serverapp", code="INTERNAL", error=type(exc).__name__)
        raise


def work(settings: ServerSettings, run_id: RunId, transport: Transport) -> RunState:
    """Open the coordinator's state and carry a run on to its end.

    Raises:
        PleuraError: a part of the state cannot be opened, or the host failed.
    """
    clock = SystemClock()
    office = Office(
        store=RunStore(settings.runs_db_file),
        log=StatementLog(settings.log_db_file),
        blobs=BlobStore(settings.blobs_dir),
        scratch=ensure_private_folder(settings.scratch_dir),
        registry=SiteRegistry(settings.sites_db_file, clock),
        key=load_key(settings.signing_key_file),
        transport=transport,
        clock=clock,
        sleep=Bell(settings.answers_bell_file).wait,
    )
    return RunLoop(office).work(run_id)


def config_path() -> Path:
    """Return the path of `server.toml` from the environment.

    Raises:
        ConfigUnreadable: PLEURA_SERVER_CONFIG is not set.
    """
    path = os.environ.get(CONFIG_ENV)
    if not path:
        raise ConfigUnreadable(f"{CONFIG_ENV} is not set")
    return Path(path)
