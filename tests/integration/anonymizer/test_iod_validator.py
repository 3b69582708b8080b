"""The validator of dicom3tools finds nothing missing in an output that the input had."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread

from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.errors import Quarantined
from pleura.anonymizer.profile import load_profile
from tests.builders.deidentified import names_for
from tests.builders.identified import project_key
from tests.builders.shared_data import shared_data

VALIDATOR = shutil.which("dciodvfy")
FAULT = re.compile(
    r"^Error - .*(?:Missing attribute|Empty attribute|Attribute present when condition unsatisfied)"
    r".*Element=<(\w+)>.*",
    re.M,
)
# The only lawful value is NO, which nobody may say of pixels that nobody read.
UNREAD = "BurnedInAnnotation"


def faults(path: Path) -> Counter[tuple[str, str]]:
    """Return the type 1 and 2 errors, conditional ones too, each with how often it is said."""
    done = subprocess.run(
        [str(VALIDATOR), str(path)], capture_output=True, timeout=60, check=False
    )  # 1 when it found errors
    said = (done.stdout + done.stderr).decode("latin-1")
    return Counter((match.group(1), match.group(0)) for match in FAULT.finditer(said))


def keywords(path: Path) -> frozenset[str]:
    """Return what a file holds, nested too: a condition may change, nothing may get lost."""
    return frozenset(e.keyword for e in dcmread(path, stop_before_pixels=True).iterall())


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["hipaa_safe_harbor", "gdpr_pseudonymous", "research_dates"])
def test_no_output_lacks_a_required_attribute_its_input_had(tmp_path: Path, name: str) -> None:
    if VALIDATOR is None:
        pytest.skip("dciodvfy is absent; install dicom3tools")
    profile = load_profile(name)
    names = names_for(profile, project_key(), tmp_path / "out")
    new, compared = Counter[tuple[str, str]](), 0
    for number, path in enumerate(sorted(shared_data("dicom").rglob("*.dcm"))):
        if path.stat().st_size > 2_000_000:
            continue
        try:
            result = deidentify_file(
                path, tmp_path / "out" / str(number), profile=profile, key=names,
                allow_unread_text=True, fsync=False,
            )  # fmt: skip
        except Quarantined:
            continue
        found = faults(result.path) - faults(path)
        had = keywords(path) - {UNREAD} if found else frozenset[str]()
        new += Counter({fault: count for fault, count in found.items() if fault[0] in had})
        compared += 1
        result.path.unlink()
    names.close()
    assert compared >= 100
    assert new == Counter()
