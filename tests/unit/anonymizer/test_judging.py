"""What one output shows of its source: leaks, and what each of the ten scores asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from pleura.anonymizer.comparing import expectation_for
from pleura.anonymizer.judging import Leaks, Sides, judge
from pleura.anonymizer.leaves import elements_of
from pleura.anonymizer.matching import Match
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.scoring import NAMES, Category, Ratio, Tally
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.verifying import claimed_profile, examine
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, run
from tests.builders.identified import ct_dataset, item, nested, write

SAME = Match("same", 64)
INNER = item(
    ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID="1.2.3.77",
)  # fmt: skip


def source_of(folder: Path, **changes: object) -> Path:
    ds = ct_dataset(**nested("SourceImageSequence", INNER), **changes)
    return write(folder / "in" / "a.dcm", ds)


def judged(
    source: Path, output: Path, tally: Tally | None = None, pixels: Match = SAME
) -> tuple[Leaks, dict[Category, Ratio], Tally]:
    tally = tally or Tally(carries_midnight=True)
    facts, _ = examine(output)
    assert facts is not None
    with FileSource(source) as old, FileSource(output) as new:
        before, after = list(elements_of(old)), list(elements_of(new))
    expected = expectation_for(facts, None)
    leaks = judge(Sides(before, after, claimed_profile(facts), expected), pixels, tally)
    return leaks, tally.ratios(), tally


def edited(output: Path, edit: Callable[[Dataset], object]) -> Path:
    ds = dcmread(output)
    edit(ds)
    ds.save_as(output)
    return output


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    source = source_of(tmp_path)
    return source, run(source, tmp_path / "out", allow=True).path


@pytest.mark.parametrize("profile", [GDPR, HIPAA, RESEARCH], ids=lambda p: p.name)
def test_what_the_engine_makes_has_full_scores_and_no_leak(
    tmp_path: Path, profile: Profile
) -> None:
    source = source_of(tmp_path)
    output = run(source, tmp_path / "out", allow=True, profile=profile).path
    leaks, ratios, tally = judged(source, output)
    assert leaks == Leaks()
    assert not tally.lost
    asked = {name for name, ratio in ratios.items() if ratio.required}
    assert asked == set(NAMES) - {"pixels_hidden"}


def test_the_source_itself_leaks_everything_it_is_asked_for(pair: tuple[Path, Path]) -> None:
    source, _ = pair
    leaks, ratios, _ = judged(source, source)
    assert leaks.top > 20
    assert leaks.nested == 1
    assert leaks.words == ratios["text_removed"].required > 10
    for name in ("date_shifted", "uid_changed", "patid_consistent"):
        assert ratios[name].correct == 0 < ratios[name].required, name
    assert ratios["tag_retained"].missed == ratios["text_retained"].missed == 0


@pytest.mark.parametrize(
    ("edit", "lost"),
    [
        (lambda ds: ds.__delitem__("AccessionNumber"), ("tag_retained", 0x00080050)),
        (lambda ds: setattr(ds, "StudyInstanceUID", ""), ("text_notnull", 0x0020000D)),
        (lambda ds: setattr(ds, "Modality", "MR"), ("text_retained", 0x00080060)),
        (lambda ds: setattr(ds, "Rows", 4), ("text_retained", 0x00280010)),
        (lambda ds: setattr(ds, "ImageComments", "for Quibbleworth"), ("text_removed", 0)),
        (lambda ds: setattr(ds, "StudyDate", "20200131"), ("date_shifted", 0x00080020)),
        (lambda ds: setattr(ds, "SeriesDate", "20190201"), None),  # one stray of two
        (
            lambda ds: setattr(ds.SourceImageSequence[0], "ReferencedSOPInstanceUID", "1.2.3.77"),
            ("uid_changed", 0x00081155),
        ),
        (lambda ds: setattr(ds, "PatientID", "MRN-7733"), ("patid_consistent", 0)),
    ],
)
def test_each_fault_is_missed_by_its_score(
    pair: tuple[Path, Path],
    edit: Callable[[Dataset], object],
    lost: tuple[Category, int] | None,
) -> None:
    source, output = pair
    _, ratios, tally = judged(source, edited(output, edit))
    if lost is None:
        assert ratios["date_shifted"].missed == 1
    else:
        assert tally.lost[lost] >= 1
        assert ratios[lost[0]].missed >= 1


def test_a_uid_that_becomes_another_in_another_file_is_not_consistent(
    pair: tuple[Path, Path],
) -> None:
    source, output = pair
    _, _, tally = judged(source, output)
    edited(output, lambda ds: setattr(ds, "SeriesInstanceUID", "2.25.7"))
    _, ratios, _ = judged(source, output, tally)
    assert ratios["uid_consistent"].missed == 1
    assert ratios["uid_changed"].missed == 0


def test_unchanged_attributes_are_leaks_where_they_are(pair: tuple[Path, Path]) -> None:
    source, output = pair

    def leak(ds: Dataset) -> None:
        ds.StationName = "WENDCT01"
        ds.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.77"

    leaks, _, _ = judged(source, edited(output, leak))
    assert (leaks.top, leaks.nested, leaks.words) == (1, 1, 1)


def test_what_an_active_option_keeps_is_asked_for_and_is_no_leak(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    output = run(source, tmp_path / "out", allow=True, profile=RESEARCH).path
    assert dcmread(output).DeviceSerialNumber == "SN-55667788"
    leaks, _, tally = judged(source, output)
    assert (leaks, tally.lost) == (Leaks(), {})
    edited(output, lambda ds: ds.__delitem__("DeviceSerialNumber"))
    _, _, tally = judged(source, output)
    assert tally.lost["text_retained", 0x00181000] == 1


def test_a_value_that_names_the_patient_is_not_asked_to_stay(tmp_path: Path) -> None:
    source = source_of(tmp_path, Manufacturer="Quibbleworth Imaging")
    output = run(source, tmp_path / "out", allow=True).path
    assert "Quibbleworth" not in dcmread(output).Manufacturer
    assert not judged(source, output)[2].lost


def test_the_new_year_and_dummies_are_not_asked_to_move(tmp_path: Path) -> None:
    source = source_of(tmp_path, StudyDate="20200101", SeriesDate="19000101")
    year_only = HIPAA.with_options(["year_only"])
    output = run(source, tmp_path / "out", allow=True, profile=year_only).path
    assert dcmread(output).StudyDate == "20200101"
    leaks, ratios, _ = judged(source, output)
    assert leaks == Leaks()
    assert ratios["date_shifted"] == Ratio(1, 1)  # the date of birth


def test_only_compared_pixels_are_scored(pair: tuple[Path, Path]) -> None:
    for outcome, ratio in (
        ("same", Ratio(1, 1)), ("blacked out", Ratio(1, 1)), ("changed", Ratio(0, 1)),
        ("undecodable", Ratio(0, 0)), ("none", Ratio(0, 0)),
    ):  # fmt: skip
        found = judged(*pair, pixels=Match(outcome, 64, 3))[1]
        assert found["pixels_retained"] == ratio, outcome
        assert found["pixels_hidden"] == Ratio(0, 0)


def test_image_attributes_of_a_blacked_out_picture_may_be_others(pair: tuple[Path, Path]) -> None:
    source, output = pair
    edited(output, lambda ds: setattr(ds, "BitsStored", 16))
    for outcome, missed in (("same", 1), ("blacked out", 0)):
        assert (
            judged(source, output, pixels=Match(outcome, 64))[1]["text_retained"].missed == missed
        )


def test_every_uid_of_a_list_has_to_go_and_dummy_numbers_and_terms_are_no_leak(
    tmp_path: Path,
) -> None:
    many = item(ReferencedSOPInstanceUID=["1.2.3.1", "1.2.3.2"])
    source = source_of(
        tmp_path, RelatedSeriesSequence=Sequence([many]), PregnancyStatus=0, PatientWeight="0.0"
    )
    output = run(source, tmp_path / "out", allow=True).path
    plain = judged(source, output)[1]["uid_changed"]
    assert plain.missed == 0
    leaks, ratios, _ = judged(source, source)
    assert ratios["uid_changed"].required == plain.required
    assert leaks.top == judged(*_without(tmp_path))[0].top


def _without(folder: Path) -> tuple[Path, Path]:
    path = source_of(folder / "without")
    return path, path
