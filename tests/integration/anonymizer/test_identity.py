"""Identity through the engine: mapping, times that move, years only, erased patients."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from pleura.anonymizer.batch import run_batch
from pleura.anonymizer.engine import Deidentified, deidentify_file
from pleura.anonymizer.erasure import ErasureIndex, erase
from pleura.anonymizer.errors import Erased, MappingRequired
from pleura.anonymizer.mapping import RandomMapping
from pleura.anonymizer.pseudonyms import ProjectKey, Pseudonyms
from pleura.common.clock import FakeClock
from tests.builders.deidentified import GDPR, HIPAA, KEY, run
from tests.builders.identified import SOP, STUDY, ct_dataset, item, project_key, write


def _made(source: Path, out: Path, key: Pseudonyms) -> Deidentified:
    profile = HIPAA if key.kind == "random" else GDPR
    return deidentify_file(source, out, profile=profile, key=key)


def _names(made: Deidentified) -> tuple[str, ...]:
    return made.patient, made.study_uid, made.series_uid, made.sop_uid


def _both(first: Callable[[], Pseudonyms], second: Callable[[], Pseudonyms], tmp: Path) -> list[
    tuple[str, ...]
]:  # fmt: skip
    """Return the names that two processes give the objects of one study."""
    one = write(tmp / "in" / "1.dcm", ct_dataset())
    two = write(tmp / "in" / "2.dcm", ct_dataset(SOPInstanceUID=SOP + ".2"))
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context) as a, ProcessPoolExecutor(1, context) as b:
        futures = [
            a.submit(_made, one, tmp / "a", first()),
            b.submit(_made, two, tmp / "b", second()),
        ]
        return [_names(future.result()) for future in futures]


@pytest.mark.parametrize("kind", ["hmac", "random"])
def test_two_processes_agree_on_every_name(tmp_path: Path, kind: str) -> None:
    def names() -> Pseudonyms:
        return KEY if kind == "hmac" else RandomMapping(tmp_path / "map.db", KEY)

    one, two = _both(names, names, tmp_path)
    assert one[:3] == two[:3]
    assert one[3] != two[3]


def test_two_projects_have_no_name_in_common(tmp_path: Path) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())
    seen: set[str] = set()
    projects: list[Pseudonyms] = [
        KEY,
        project_key(1),
        RandomMapping(tmp_path / "1.db", KEY),
        RandomMapping(tmp_path / "2.db", project_key(1)),
    ]
    digests = set()
    for number, key in enumerate(projects):
        made = _made(source, tmp_path / str(number), key)
        seen |= set(_names(made)) | {made.sop_key}
        digests.add(made.receipt.input_digest)
    assert len(seen) == 4 * 4 + 2  # the join key is keyed, so the two kinds share it
    assert len(digests) == 2


def test_a_drawn_name_survives_in_the_receipt_as_such(tmp_path: Path) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())
    with closing(RandomMapping(tmp_path / "map.db", KEY)) as mapping:
        made = _made(source, tmp_path / "out", mapping)
        again = _made(source, tmp_path / "out2", mapping)
    assert made.receipt.mapping == "random"
    assert made.receipt.key_version == 1
    assert made.sha256 == again.sha256
    assert made.patient != KEY.patient("MRN-7733", STUDY)


def test_a_justification_is_in_the_receipt_as_a_digest(tmp_path: Path) -> None:
    source = write(tmp_path / "a.dcm", ct_dataset())
    profile = GDPR.with_justification("Follow-up over several studies")
    receipt = deidentify_file(source, tmp_path / "out", profile=profile, key=KEY).receipt
    assert receipt.justification_sha256 == profile.justification_sha256
    assert b"Follow-up" not in receipt.to_json()


def test_safe_harbor_with_computed_names_is_refused_before_anything_is_read(
    tmp_path: Path,
) -> None:
    with pytest.raises(MappingRequired):
        deidentify_file(tmp_path / "none", tmp_path / "out", profile=HIPAA, key=KEY)
    with pytest.raises(MappingRequired):
        run_batch([], tmp_path / "out", tmp_path / "q", profile=HIPAA, key=KEY)
    assert not (tmp_path / "out").exists()


# --- times ----------------------------------------------------------------------


def _pet(series: tuple[str, str], injected: str) -> Dataset:
    ds = ct_dataset(StudyDate="20200131", SeriesDate=series[0], SeriesTime=series[1])
    ds.Modality, ds.SOPClassUID = "PT", "1.2.840.10008.5.1.4.1.1.128"
    ds.StudyTime, ds.ContentTime = "235000", "120000"  # ContentTime has no date beside it
    ds.RadiopharmaceuticalInformationSequence = Sequence(
        [item(RadiopharmaceuticalStartDateTime=injected, RadiopharmaceuticalStartTime="2358")]
    )
    return ds


@pytest.mark.parametrize("seed", range(4))
def test_case_7_moved_times_keep_their_intervals_across_midnight(tmp_path: Path, seed: int) -> None:
    key = project_key(seed)
    source = write(
        tmp_path / "a.dcm", _pet(series=("20200201", "000130"), injected="20200131235830.25")
    )
    profile = GDPR.with_options(["shift_time"], keep="standard")
    after = dcmread(deidentify_file(source, tmp_path / "out", profile=profile, key=key).path)
    inner = after.RadiopharmaceuticalInformationSequence[0]
    scan = datetime.strptime(after.SeriesDate + after.SeriesTime, "%Y%m%d%H%M%S")
    study = datetime.strptime(after.StudyDate + after.StudyTime, "%Y%m%d%H%M%S")
    injected = datetime.strptime(inner.RadiopharmaceuticalStartDateTime, "%Y%m%d%H%M%S.%f")
    assert (scan - injected).total_seconds() == 179.75
    assert (scan - study).total_seconds() == 690
    moved = (scan - datetime(2020, 2, 1, 0, 1, 30)).total_seconds()
    expected = key.date_shift_days("MRN-7733") * 86_400 + key.time_shift_seconds("MRN-7733")
    assert moved == expected
    assert after.ContentTime == ""  # type 2C: what cannot be moved leaves no value
    assert "RadiopharmaceuticalStartTime" not in inner


def test_without_the_option_the_time_of_day_stays(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a.dcm", _pet(series=("20200201", "000130"), injected="20200131235830")
    )
    profile = GDPR.with_options([], keep="standard")
    after = dcmread(deidentify_file(source, tmp_path / "out", profile=profile, key=KEY).path)
    assert (after.SeriesTime, after.StudyTime) == ("000130", "235000")


def test_year_only_keeps_the_year_of_a_date_and_no_more(tmp_path: Path) -> None:
    ds = _pet(series=("20200201", "000130"), injected="20191231235830")
    ds.AcquisitionDateTime = "20200201000130"
    source = write(tmp_path / "a.dcm", ds)
    profile = HIPAA.with_options(["year_only"])
    made = run(source, tmp_path / "out", profile=profile)
    after = dcmread(made.path)
    assert (after.StudyDate, after.SeriesDate) == ("20200101", "20200101")
    assert after.AcquisitionDateTime == "2020"
    assert after.PatientBirthDate == ""
    assert not after.get("StudyTime")
    assert after.get("SeriesTime", "000000") in ("000000", "")
    assert after.LongitudinalTemporalInformationModified == "MODIFIED"
    assert "113107" not in made.receipt.method_codes


# --- erased patients ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hmac", "random"])
def test_an_erased_patient_does_not_come_back_and_the_others_do(tmp_path: Path, kind: str) -> None:
    key: ProjectKey | RandomMapping = KEY
    if kind == "random":
        key = RandomMapping(tmp_path / "map.db", KEY)
    profile = HIPAA if kind == "random" else GDPR
    first = write(tmp_path / "in" / "a.dcm", ct_dataset())
    other = write(
        tmp_path / "in" / "b.dcm",
        ct_dataset(PatientID="B2", StudyInstanceUID="1.2.9", SOPInstanceUID="1.2.9.1"),
    )
    out, quarantine = tmp_path / "out", tmp_path / "quarantine"
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    with ErasureIndex(tmp_path / "erasure.db") as index:

        def batch() -> dict[str, int]:
            summary = run_batch(
                [first, other], out, quarantine, profile=profile, key=key, clock=clock,
                tombstones=index.tombstones,
                on_result=lambda i: index.add_files(
                    [(str(i.result.path.relative_to(out)), i.result.patient)] if i.result else []
                ),
            )  # fmt: skip
            return dict(summary.quarantined)

        assert batch() == {}
        gone = key.patient("MRN-7733", STUDY)
        assert erase(index, out, key, gone).files == 1
        assert not (out / gone).exists()
        assert batch() == {"ERASED": 1}
        assert batch() == {"ERASED": 1}
        assert len(list(out.rglob("*.dcm"))) == 1
        assert not list(quarantine.rglob("*.dcm"))  # no copy of the source either
        with pytest.raises(Erased):
            deidentify_file(
                first, tmp_path / "x", profile=profile, key=key, tombstones=index.tombstones()
            )
