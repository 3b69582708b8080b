"""Erasing: a patient's data leaves this site for good (GDPR 17).

Works on the stopped site: neither ingest nor trainer may hold the patient meanwhile. Deletes
objects, their catalog rows and labels, prepared pictures, quarantined copies that name the
patient, and the row of the mapping; a keyed tombstone keeps the source from coming back.
"""

from __future__ import annotations

import shutil

from pleura.anonymizer.erasure import Erasure, ErasureIndex, erase, sweep_quarantine
from pleura.client.ingest.catalog import Catalog
from pleura.client.ingest.process import single_ingest
from pleura.client.ingest.vault import open_erasure_index, open_site_pseudonyms, site_profile
from pleura.client.settings import SiteSettings
from pleura.client.supervisor import single_instance
from pleura.common.files import ensure_private_folder


def erase_patient(settings: SiteSettings, pseudonym: str) -> Erasure:
    """Erase the patient behind a pseudonym; a kill at any step is mended by calling again.

    Raises:
        AlreadyRunning: the site or its ingest runs; stop it first.
        ErasureRefused: nobody here has or had this pseudonym; nothing was done.
    """
    ensure_private_folder(settings.state_dir)
    ensure_private_folder(settings.store_dir)
    ensure_private_folder(settings.trainer_dir)
    ensure_private_folder(settings.ingest_db_file.parent)
    with (
        single_instance(settings.state_dir / "lock"),
        single_ingest(settings),
        open_erasure_index(settings) as index,
        ErasureIndex(settings.rounds_file) as rounds,
        Catalog(settings.catalog_file) as catalog,
    ):
        names = open_site_pseudonyms(settings, site_profile(settings))
        done = erase(index, settings.store_dir, names, pseudonym, rows=catalog, rounds=rounds)
        # a picture is named by its content, not by its patient: all are made again when needed
        shutil.rmtree(settings.trainer_dir / "cache", ignore_errors=True)
        sweep_quarantine(settings.quarantine_dir, names, index.tombstones())
        names.close()
    return done
