"""Children of `pleura client run`: `python -m pleura.client.process NAME --config FILE`.

Each process of a site starts here: settings are read, events go to its own file
in `log/`, and an error of the tree ends it with one event and its exit status.
Nothing heavy is imported before the named process decides what it needs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pleura.client.settings import SiteSettings, load_settings
from pleura.common import events
from pleura.common.errors import PleuraError
from pleura.common.exit_codes import ExitCode

PROCESSES: Final = {
    "agent": "pleura.client.agent.process",
    "trainer": "pleura.client.trainer.process",
    "ingest": "pleura.client.ingest.process",
}
UMASK: Final = 0o077


def run_process(name: str, config: Path) -> ExitCode:
    """Run one process of a site to its end and return its exit status.

    Only the name, its code and the class of an error are said; never a message,
    because a foreign exception may carry anything.
    """
    os.umask(UMASK)
    try:
        settings = load_settings(config)
        events.configure(name, file=settings.log_dir / f"{name}.jsonl")
        ended = _main_of(name)(settings)
    except PleuraError as exc:
        events.emit("error.raised", process=name, code=exc.code, error=type(exc).__name__)
        return exc.exit_code
    except Exception as exc:  # noqa: BLE001 - the daemon's top: a fault is an event, not a trace
        events.emit("error.raised", process=name, code="INTERNAL", error=type(exc).__name__)
        return ExitCode.INTERNAL
    return ExitCode.OK if ended is None else ended


def _main_of(name: str) -> Callable[[SiteSettings], ExitCode | None]:
    module = importlib.import_module(PROCESSES[name])
    entry: Callable[[SiteSettings], ExitCode | None] = module.main
    return entry


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run the named process."""
    parser = argparse.ArgumentParser(prog="python -m pleura.client.process")
    parser.add_argument("name", choices=sorted(PROCESSES))
    parser.add_argument("--config", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    return int(run_process(chosen.name, chosen.config))


if __name__ == "__main__":
    sys.exit(main())
