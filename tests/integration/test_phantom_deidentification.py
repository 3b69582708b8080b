"""Phantoms through the anonymizer: accepted whole, and no planted value comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.errors import Quarantined
from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.client.phantoms.site import PhantomSite, PhantomSummary, PhantomTask, write_site
from tests.builders.deidentified import names_for
from tests.builders.dicom_cases import ODD_CASES, write_sound

KEY = ProjectKey.from_bytes(bytes(range(32)))
PROFILES = ("gdpr_pseudonymous", "hipaa_safe_harbor", "research_dates")
TASKS: tuple[PhantomTask, ...] = ("cxr_abnormal", "ct_nodule_malignancy")


def _sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("IM*") if path.is_file())


@pytest.fixture(scope="module", params=TASKS)
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, PhantomSummary]:
    folder = tmp_path_factory.mktemp("phantom") / "dicom"
    site = PhantomSite("deid", "borealis", 4, 21, request.param, size_px=64)
    return folder, write_site(folder, site)


@pytest.mark.parametrize("name", PROFILES)
def test_no_planted_value_survives_deidentification(
    name: str, written: tuple[Path, PhantomSummary], tmp_path: Path
) -> None:
    folder, summary = written
    profile = load_profile(name)
    out = tmp_path / "out"
    names = names_for(profile, KEY, out)
    for source in _sources(folder):
        done = deidentify_file(source, out, profile=profile, key=names, allow_unread_text=True)
        np.testing.assert_array_equal(dcmread(done.path).pixel_array, dcmread(source).pixel_array)
    names.close()
    outputs = list(out.rglob("*.dcm"))
    assert len(outputs) == summary.files
    data = b"".join(path.read_bytes() for path in outputs)
    # research_dates keeps the scanner's identity on purpose (PS3.15 E.3.8)
    kept = set(summary.device) if name == "research_dates" else set()
    assert {value for value in summary.planted if value.encode() in data} == kept


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("truncated", "TRUNCATED"),
        ("empty_sop_uid", "NO_SOP_UID"),
        ("media_directory", "MEDIA_DIRECTORY"),
        ("not_dicom", "NOT_DICOM"),
    ],
)
def test_an_odd_file_is_quarantined_without_naming_a_value(
    case: str, code: str, tmp_path: Path
) -> None:
    profile = load_profile("gdpr_pseudonymous")
    source, out = tmp_path / "IM000001", tmp_path / "out"
    planted = ODD_CASES[case](source)
    with pytest.raises(Quarantined) as caught:
        deidentify_file(source, out, profile=profile, key=KEY, allow_unread_text=True)
    assert caught.value.code == code
    assert not [value for value in planted if value in str(caught.value)]
    assert not list(tmp_path.rglob("*.dcm"))


def test_the_sound_twin_of_the_odd_files_is_accepted(tmp_path: Path) -> None:
    planted = write_sound(tmp_path / "IM000001")
    done = deidentify_file(
        tmp_path / "IM000001",
        tmp_path / "out",
        profile=load_profile("gdpr_pseudonymous"),
        key=KEY,
        allow_unread_text=True,
    )
    data = done.path.read_bytes()
    assert not [value for value in planted if value.encode() in data]
