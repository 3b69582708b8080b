"""Every DICOM file at hand passes or is quarantined by name; none crashes, none says a name."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread

from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.errors import Quarantined
from pleura.anonymizer.profile import load_profile
from tests.builders.deidentified import names_for
from tests.builders.identified import project_key
from tests.builders.shared_data import shared_data

BUNDLED = Path(pydicom.data.__file__).parent
CODES = {
    "NOT_DICOM", "TRUNCATED", "NO_SOP_UID", "NO_TRANSFER_SYNTAX", "MEDIA_DIRECTORY",
    "NO_PREAMBLE", "SOP_REFUSED", "UNDECODABLE", "LIMIT", "IOD_BROKEN", "FACE_IN_FIELD",
}  # fmt: skip


def candidates(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in {".py", ".pyc", ".md", ".json"}:
            yield path


def sweep(folder: Path, out: Path, profile: str, *, every: int = 1) -> Counter[str]:
    """De-identify every n-th file below a folder; return accepted and quarantined counts."""
    counts: Counter[str] = Counter()
    names = names_for(load_profile(profile), project_key(), out)
    for number, path in enumerate(itertools.islice(candidates(folder), 0, None, every)):
        target = out / str(number)
        try:
            result = deidentify_file(
                path, target, profile=load_profile(profile), key=names,
                allow_unread_text=True,
            )  # fmt: skip
        except Quarantined as exc:
            counts[exc.code] += 1
            assert path.name not in str(exc)
            assert not [p for p in target.rglob("*") if p.is_file()]
            continue
        counts["ACCEPTED"] += 1
        before, after = (dcmread(p, defer_size=0) for p in (path, result.path))
        pixels, copied = (ds.get("PixelData", b"") for ds in (before, after))
        if not {"hidden_bits", "comments"} & result.receipt.actions.keys():
            assert copied[: len(pixels)] == pixels  # an odd length is padded
            assert len(copied) - len(pixels) in (0, 1)
        result.path.unlink()
    names.close()
    return counts


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("profile", "every", "least"), [("hipaa_safe_harbor", 1, 100), ("research_dates", 4, 20)]
)
def test_files_bundled_with_pydicom(
    tmp_path: Path, profile: str, every: int, least: int, caplog: pytest.LogCaptureFixture
) -> None:
    counts = sweep(BUNDLED, tmp_path, profile, every=every)
    assert counts["ACCEPTED"] >= least
    assert set(counts) <= CODES | {"ACCEPTED"}
    assert not caplog.records


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_research_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts = sweep(shared_data("dicom"), tmp_path, "gdpr_pseudonymous")
    assert counts["ACCEPTED"] >= 170
    assert counts["FACE_IN_FIELD"] >= 5  # whatever the operator says of unread text
    assert set(counts) <= CODES | {"ACCEPTED"}
    assert not caplog.records
