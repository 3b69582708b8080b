"""Vault: the folder that holds the pseudonym key of this site.

The key is made on first use and never leaves the folder. It is the listener's
and the steward's; neither trainer nor agent has a reason to open it.
"""

from __future__ import annotations

from pathlib import Path

from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.common.files import ensure_private_folder


def open_pseudonym_key(path: Path) -> ProjectKey:
    """Return the pseudonym key, made now if this site has none yet.

    Raises:
        KeyFileInsecure, KeyUnreadable: the key file is readable by others or damaged.
        StateInsecure: the vault folder is readable by others.
    """
    ensure_private_folder(path.parent)
    return ProjectKey.load(path) if path.exists() else ProjectKey.create(path)
