"""Locator of the public research images that some tests read; absent means skipped, with why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "PLEURA_SHARED_DATA"
_REPOSITORY = Path(__file__).resolve().parents[2]


def find_shared_data(*parts: str) -> Path | None:
    """Return a folder or file of the research data, or None where it is not on this machine.

    The root is the folder that PLEURA_SHARED_DATA names, else `../shared/data`
    beside the repository.
    """
    named = os.environ.get(VARIABLE)
    root = Path(named) if named else _REPOSITORY.parent / "shared" / "data"
    path = root.joinpath(*parts)
    return path if path.exists() else None


def shared_data(*parts: str) -> Path:
    """Return a folder or file of the research data, or skip the calling test."""
    path = find_shared_data(*parts)
    if path is None:
        pytest.skip(f"research data {'/'.join(parts) or 'folder'} is absent; set {VARIABLE}")
    return path
