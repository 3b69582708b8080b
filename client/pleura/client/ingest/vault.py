"""Vault: the folder that holds what leads from a patient to a pseudonym at this site.

The key is made on first use and never leaves the folder; so are the mapping of a profile that
draws at random and the tombstones of erased patients. It is the listener's and the steward's;
neither trainer nor agent has a reason to open it.
"""

from __future__ import annotations

from pathlib import Path

from pleura.anonymizer.erasure import ErasureIndex
from pleura.anonymizer.lookup import StewardKey
from pleura.anonymizer.mapping import open_pseudonyms
from pleura.anonymizer.profile import Profile, load_profile
from pleura.anonymizer.pseudonyms import ProjectKey, Pseudonyms
from pleura.client.settings import SiteSettings
from pleura.common.files import ensure_private_folder


def open_pseudonym_key(path: Path) -> ProjectKey:
    """Return the pseudonym key, made now if this site has none yet.

    Raises:
        KeyFileInsecure, KeyUnreadable: the key file is readable by others or damaged.
        StateInsecure: the vault folder is readable by others.
    """
    ensure_private_folder(path.parent)
    return ProjectKey.load(path) if path.exists() else ProjectKey.create(path)


def site_profile(settings: SiteSettings) -> Profile:
    """Return the profile of a site with the options and the justification it names.

    Raises:
        OptionRefused: the profile does not offer an option.
    """
    section = settings.ingest
    profile = load_profile(section.profile).with_options(section.options)
    return profile.with_justification(section.justification) if section.justification else profile


def open_site_pseudonyms(settings: SiteSettings, profile: Profile) -> Pseudonyms:
    """Return the site's pseudonyms as its profile wants them; key and mapping are made if new.

    Raises:
        KeyFileInsecure, KeyUnreadable, StateInsecure: see `open_pseudonym_key`.
        MappingOfOtherKey: the key was changed and the mapping was not.
    """
    key = open_pseudonym_key(settings.pseudonym_key_file)
    sealed_to = settings.ingest.steward_key
    steward = StewardKey.from_hex(sealed_to) if sealed_to else None
    return open_pseudonyms(profile, key, settings.mapping_file, steward=steward)


def open_erasure_index(settings: SiteSettings) -> ErasureIndex:
    """Return the site's tombstones.

    Raises:
        StateInsecure: the vault folder is readable by others.
        DatabaseDamaged: the file fails its check.
    """
    ensure_private_folder(settings.erasure_file.parent)
    return ErasureIndex(settings.erasure_file)
