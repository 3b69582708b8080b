"""`python -m pleura.server.gateway`: how the supervisor starts the gateway."""

from __future__ import annotations

import os
from pathlib import Path

from pleura.common.cli import operator_errors
from pleura.server.gateway.process import main
from pleura.server.settings import CONFIG_ENV, load_settings

if __name__ == "__main__":
    with operator_errors():
        main(load_settings(Path(os.environ[CONFIG_ENV])))
