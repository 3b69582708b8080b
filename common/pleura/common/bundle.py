"""The Flower bundle (FAB): its whole source text, and the hash every site insists on.

The bundle holds the names of the two installed apps and no code. A site refuses a
run whose bundle has another hash. `deploy/flower_app/pyproject.toml` is a copy of
the text for readers; a test builds the bundle with the pinned Flower and compares.
"""

from __future__ import annotations

from typing import Final

BUNDLE_FILE: Final = "pyproject.toml"
FAB_SHA256: Final = "553368ac3470c9258576708a159bb6dec502656b13b876958f83fd2ff46aae8d"
BUNDLE_PYPROJECT: Final = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "pleura-app"
version = "1.0.0"
description = "Names of the two apps installed with Pleura; holds no code."
license = "Apache-2.0"
dependencies = ["flwr>=1.42,<1.43"]

[tool.flwr.app]
publisher = "pleura"

[tool.flwr.app.components]
serverapp = "pleura.server.flower_app:app"
clientapp = "pleura.client.flower_app:app"

[tool.flwr.app.config]
pleura-run = ""
"""
