"""`pleura anonymize verify --against`: leaks, scores and pixels of an output beside its source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGLSLossless

from pleura.anonymizer.scoring import NAMES
from pleura.anonymizer.verifying import Compared
from tests.builders.anonymize_cli import call, pairs, run, two_files, verified
from tests.builders.identified import PLANTED, ct_dataset, write


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return two_files(tmp_path)


def edited(site: Path, edit: Callable[[Dataset], object]) -> None:
    """Change the first output."""
    path = sorted((site / "out").rglob("*.dcm"))[0]
    ds = dcmread(path)
    edit(ds)
    ds.save_as(path)


def painted(value: int, count: int = 3) -> Callable[[Dataset], None]:
    def edit(ds: Dataset) -> None:
        ds.PixelData = np.full(count, value, "<u2").tobytes() + ds.PixelData[2 * count :]

    return edit


@pytest.mark.parametrize("profile", ["gdpr_pseudonymous", "research_dates", "hipaa_safe_harbor"])
def test_comparing_tells_leaks_and_all_ten_scores(site: Path, profile: str) -> None:
    run(site, profile=profile)
    _, _, report = verified(site, *pairs(site))
    assert report["leaks"] == {"top": 0, "nested": 0, "words": 0}
    scores = report["scores"]
    assert isinstance(scores, dict)
    assert list(scores) == [*NAMES, "all"]
    assert scores.pop("pixels_hidden") == [0, 0]
    assert all(correct == required > 0 for correct, required in scores.values())
    assert scores["pixels_retained"] == scores["patid_consistent"] == [2, 2]
    assert report["lost"] == []
    assert report["pixels"] == {"same": 2, "pixels": 128, "pixels blacked out": 0}
    shown = call("verify", site / "out", *pairs(site)).stderr
    assert all(name in shown for name in NAMES)
    (line,) = [line for line in shown.splitlines() if "pixels_hidden" in line]
    assert line.split()[1:] == ["-", "-"]
    assert "100.000 %" in shown


def test_without_sources_no_score_is_told(site: Path) -> None:
    run(site)
    _, _, report = verified(site)
    assert not {"scores", "leaks", "pixels"} & report.keys()
    assert "pixels_retained" not in call("verify", site / "out").stderr


def test_a_changed_pixel_fails_and_a_black_one_does_not(site: Path) -> None:
    run(site)
    edited(site, painted(7))
    code, failed, report = verified(site, *pairs(site))
    assert (code, failed["pixels changed"]) == (1, 1)
    assert report["scores"]["pixels_retained"] == [1, 2]  # type: ignore[index]
    edited(site, painted(0))
    code, failed, report = verified(site, *pairs(site))
    assert failed == {"bytes not in the audit": 1}
    assert report["scores"]["pixels_retained"] == [2, 2]  # type: ignore[index]
    assert report["pixels"] == {
        "same": 1, "blacked out": 1, "pixels": 128, "pixels blacked out": 2,
    }  # fmt: skip
    assert "1 pictures blacked out in part: 1.562 %" in call(
        "verify", site / "out", *pairs(site)
    ).stderr  # fmt: skip


def test_pixels_that_cannot_be_decoded_are_counted_apart_and_fail(site: Path) -> None:
    run(site)

    def breaks(ds: Dataset) -> None:
        ds.compress(JPEGLSLossless, generate_instance_uid=False)
        ds.PixelData = ds.PixelData[:24] + bytes(len(ds.PixelData) - 32) + ds.PixelData[-8:]

    edited(site, breaks)
    code, failed, report = verified(site, *pairs(site))
    assert (code, failed["pixels undecodable"]) == (1, 1)
    assert "pixels changed" not in failed
    assert report["scores"]["pixels_retained"] == [1, 1]  # type: ignore[index]
    shown = call("verify", site / "out", *pairs(site)).stderr
    assert "1 pictures could not be decoded" in shown


def test_what_came_through_is_a_leak_and_not_sound(site: Path) -> None:
    run(site)
    edited(site, lambda ds: setattr(ds, "StationName", PLANTED["StationName"]))
    code, failed, report = verified(site, *pairs(site))
    assert code == 1
    assert failed["unchanged value"] == failed["residual"] == failed["removal score"] == 1
    assert report["leaks"] == {"top": 1, "nested": 0, "words": 1}
    assert report["lost"] == [["text_removed", "", 1]]


def test_what_should_have_stayed_is_scored_and_fails_nothing(site: Path) -> None:
    run(site)

    def remove(ds: Dataset) -> None:
        del ds.AccessionNumber, ds.ImageType

    edited(site, remove)
    _, failed, report = verified(site, *pairs(site))
    assert failed == {"bytes not in the audit": 1}
    assert ["tag_retained", "(0008,0050)", 1] in report["lost"]  # type: ignore[operator]
    assert ["text_retained", "(0008,0008)", 1] in report["lost"]  # type: ignore[operator]
    correct, required = report["scores"]["all"]  # type: ignore[index]
    assert 0 < required - correct < 5


def test_a_study_date_in_a_retired_spelling_tells_the_shift(site: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        ds = dcmread(site / "in" / name)
        write(site / "in" / name, ct_dataset(SOPInstanceUID=ds.SOPInstanceUID,
                                             StudyDate="2020.01.31"))  # fmt: skip
    assert run(site).exit_code == 0
    assert verified(site, *pairs(site))[:2] == (0, {})


def test_a_source_that_was_damaged_since_is_none(site: Path) -> None:
    run(site)
    source = site / "in" / "a.dcm"
    whole = source.read_bytes()
    source.write_bytes(whole[:400])
    assert verified(site, *pairs(site))[0] == 1
    source.write_bytes(whole[:200] + b"\xff" * 40 + whole[240:])
    code, failed, report = verified(site, *pairs(site))
    assert (code, failed) == (1, {"no source": 1})
    assert report["scores"]["pixels_retained"] == [1, 1]  # type: ignore[index]


def test_safe_private_elements_are_sound_where_the_marks_claim_them(site: Path) -> None:
    for number, name in enumerate(("a.dcm", "b.dcm")):
        ds = ct_dataset(SOPInstanceUID=f"1.2.{number}")
        block = ds.private_block(0x0043, "GEMS_PARM_01", create=True)
        block.add_new(0x27, "SH", "0.984:1")
        write(site / "in" / name, ds)
    run(site, profile="research_dates")
    path = sorted((site / "out").rglob("*.dcm"))[0]
    assert dcmread(path)[0x00431027].value == "0.984:1"
    assert verified(site, *pairs(site))[:2] == (0, {})
    edited(site, lambda ds: ds.private_block(0x0043, "GEMS_PARM_01").add_new(0x28, "SH", "x"))
    _, failed, _ = verified(site, *pairs(site))
    assert failed["private element"] == failed["residual"] == 1


def test_the_uid_of_a_device_is_foreign_unless_the_marks_claim_to_keep_it(site: Path) -> None:
    for number, name in enumerate(("a.dcm", "b.dcm")):
        ds = ct_dataset(SOPInstanceUID=f"1.2.{number}", DeviceUID="1.2.3.4.5.6")
        write(site / "in" / name, ds)
    run(site, profile="research_dates")
    (first, _) = sorted((site / "out").rglob("*.dcm"))
    assert dcmread(first).DeviceUID == "1.2.3.4.5.6"
    assert verified(site, *pairs(site))[:2] == (0, {})

    def disclaim(ds: Dataset) -> None:
        codes = ds.DeidentificationMethodCodeSequence
        ds.DeidentificationMethodCodeSequence = [c for c in codes if c.CodeValue != "113109"]

    edited(site, disclaim)
    _, failed, report = verified(site, *pairs(site))
    assert failed["foreign UID"] == failed["residual"] == 1
    assert report["leaks"] == {"top": 3, "nested": 0, "words": 2}  # serial number, station


def test_every_output_needs_its_own_source_below_the_folder(site: Path) -> None:
    run(site)
    (site / "other").mkdir()
    words = ("--against", site / "other", "--name-map", site / "names")
    code, failed, report = verified(site, *words)
    assert (code, failed, report["pairs"]) == (1, {"no source": 2}, 0)
    (first, second) = sorted((site / "out").rglob("*.dcm"))
    first.with_name("more.dcm").write_bytes(first.read_bytes())
    assert verified(site, *pairs(site))[1]["output without a pair"] == 1
    first.with_name("more.dcm").unlink()
    second.unlink()
    _, failed, report = verified(site, *pairs(site))
    assert (failed, report["pairs"], report["absent"]) == ({}, 1, 1)
    first.write_bytes(b"no DICOM")
    _, failed, _ = verified(site, *pairs(site))
    assert failed["unreadable"] == failed["residual"] == 1


def test_one_patient_under_two_names_and_one_study_under_two_uids_are_found(site: Path) -> None:
    run(site)

    def rename(ds: Dataset) -> None:
        ds.PatientName = ds.PatientID = "PAAAAAAAAAAAAAAAA"
        ds.StudyInstanceUID = "2.25.7"

    edited(site, rename)
    _, failed, report = verified(site, *pairs(site))
    assert failed["patient named twice"] == failed["UID mapped twice"] == 1
    assert failed["removal score"] == 2
    assert report["scores"]["patid_consistent"] == [1, 2]  # type: ignore[index]
    correct, required = report["scores"]["uid_consistent"]  # type: ignore[index]
    assert required - correct == 1


def test_one_study_that_moved_unlike_the_patients_others_is_found(site: Path) -> None:
    run(site)
    edited(site, lambda ds: setattr(ds, "StudyDate", "20100101"))
    edited(site, lambda ds: setattr(ds, "SeriesDate", "20100102"))
    _, failed, report = verified(site, *pairs(site))
    assert failed["shift differs"] == 1
    assert failed["removal score"] == 2
    assert ["text_removed", "", 1] not in report["lost"]  # type: ignore[operator]


def test_a_miss_names_listed_attributes_only() -> None:
    lost = Counter({("uid_changed", 0x0020000D): 1, ("uid_changed", 0x00189999): 2})
    lost += Counter({("uid_changed", 0x00209999): 1, ("patid_consistent", 0): 1})
    assert Compared(lost=lost).to_dict()["lost"] == [
        ["patid_consistent", "", 1],
        ["uid_changed", "(0020,000D)", 1],
        ["uid_changed", "unlisted", 3],
    ]


def test_an_empty_folder_is_not_sound(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert call("verify", tmp_path / "out").exit_code == 1


def test_comparing_needs_both_and_a_sound_name_map(site: Path) -> None:
    run(site)
    assert call("verify", site / "out", "--against", site / "in").exit_code == 2
    (site / "names").write_text("{}\n")
    result = call("verify", site / "out", *pairs(site))
    assert result.exit_code == 3
    assert "DEID-NAME-MAP" in result.stderr
