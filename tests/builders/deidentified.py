"""Runs the de-identifier on one file, for tests: accepted, read back, or refused by code."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from pleura.anonymizer.engine import Deidentified, deidentify_file
from pleura.anonymizer.errors import Quarantined
from pleura.anonymizer.mapping import open_pseudonyms
from pleura.anonymizer.profile import Profile, load_profile
from pleura.anonymizer.pseudonyms import ProjectKey, Pseudonyms
from tests.builders.identified import PLANTED, project_key, write

GDPR = load_profile("gdpr_pseudonymous")
RESEARCH = load_profile("research_dates")
HIPAA = load_profile("hipaa_safe_harbor")
KEY = project_key()


def names_for(profile: Profile, key: ProjectKey, folder: Path) -> Pseudonyms:
    """Return what the profile wants: the key, or a mapping in a folder beside the output."""
    return open_pseudonyms(profile, key, folder.with_name(folder.name + ".vault") / "map.db")


def run(
    source: Path,
    out: Path,
    *,
    allow: bool = False,
    profile: Profile = GDPR,
    key: ProjectKey = KEY,
) -> Deidentified:
    names = names_for(profile, key, out)
    try:
        return deidentify_file(source, out, profile=profile, key=names, allow_unread_text=allow)
    finally:
        names.close()


def cleaned(tmp_path: Path, ds: Dataset, *, profile: Profile = GDPR) -> Dataset:
    source = write(tmp_path / "in" / "a.dcm", ds)
    return dcmread(run(source, tmp_path / "out", profile=profile, allow=True).path)


def refused(tmp_path: Path, source: Path, *, allow: bool = False) -> str:
    out = tmp_path / "out"
    with pytest.raises(Quarantined) as caught:
        run(source, out, allow=allow)
    assert not out.exists() or not [p for p in out.rglob("*") if p.is_file()]
    message = str(caught.value).lower()
    for value in (*PLANTED.values(), source.name):
        assert value.lower() not in message
    return caught.value.code
