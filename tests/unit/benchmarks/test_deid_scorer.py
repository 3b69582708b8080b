"""The scorer: it sees every kind of leak and loss, and nothing where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from pleura.anonymizer.scoring import NAMES, Ratio
from tests.benchmarks.deid.conformance import NewErrors, new_errors
from tests.benchmarks.deid.consistency import compare
from tests.benchmarks.deid.manifest import Corpus
from tests.benchmarks.deid.report import LEAKS, json_of, markdown_of, missed
from tests.benchmarks.deid.report import Row as ReportRow
from tests.benchmarks.deid.scorer import KINDS, Score, score
from tests.benchmarks.deid.table import Row
from tests.builders.planted import plant_corpus

NONE: frozenset[str] = frozenset()
REMOVALS = ("text_removed", "date_shifted", "uid_changed", "pixels_hidden")
DEVICE = 0x00181000


def _unchanged(corpus: Corpus) -> dict[str, Path | None]:
    return {file.path.name: file.path for file in corpus.files}


def _edited(
    corpus: Corpus, folder: Path, edit: Callable[[Dataset], object]
) -> dict[str, Path | None]:
    folder.mkdir()
    outputs: dict[str, Path | None] = {}
    for file in corpus.files:
        ds = dcmread(file.path)
        edit(ds)
        ds.save_as(folder / file.path.name)
        outputs[file.path.name] = folder / file.path.name
    return outputs


def _found(result: Score, kind: str, tag: int, place: str = "top") -> int:
    return sum(
        count
        for finding, count in result.findings.items()
        if (finding.kind, finding.tag, finding.place) == (kind, tag, place)
    )


def test_scoring_the_planted_files_finds_everything_that_was_planted(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path, ["1.2.3.1", "1.2.3.2"], text=True)
    result = score(corpus, _unchanged(corpus), NONE)
    for kind in ("raw", "same_top", "same_nested", "names"):
        assert result.found[kind] == result.planted[kind] > 0, kind
    assert result.found["private"] >= result.planted["private"] > 0
    assert result.found["wrong"] == result.found["words_lost"] == 0
    for name in NAMES:
        is_removal = name in REMOVALS
        correct = 0 if is_removal or name == "patid_consistent" else None
        ratio = result.categories[name]
        assert ratio.correct == (ratio.required if correct is None else 0), name


def test_deleting_everything_passes_removal_and_fails_what_must_stay(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path, text=True)
    result = score(corpus, dict.fromkeys(_unchanged(corpus)), NONE)
    assert result.written == 0
    for name in NAMES:
        ratio = result.categories[name]
        assert ratio.share == (1.0 if name in REMOVALS or not ratio.required else 0.0), name
    assert result.categories["tag_retained"].required > 0
    assert result.mean == pytest.approx(0.5)
    assert missed(ReportRow("tool", result)) == ["tool: 1 files not written"]


@pytest.mark.parametrize(
    ("tag", "is_wrong"), [(0x00080050, True), (0x0020000E, True), (0x00081030, False)]
)
def test_removed_attribute_is_wrong_only_where_the_table_wants_it_there(
    tmp_path: Path, tag: int, is_wrong: bool
) -> None:
    corpus = plant_corpus(tmp_path)
    outputs = _edited(corpus, tmp_path / "out", lambda ds: ds.__delitem__(tag))
    assert _found(score(corpus, outputs, NONE), "wrong", tag) == is_wrong


def test_removing_a_whole_sequence_is_not_wrong_for_what_was_in_it(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path)
    outputs = _edited(corpus, tmp_path / "out", lambda ds: ds.__delitem__(0x00082218))
    result = score(corpus, outputs, NONE)
    assert result.found["wrong"] == 0
    assert _found(result, "same_nested", 0x00080050, "unlisted") == 0
    assert _found(result, "same_nested", 0x00080050, "kept") == 1


def test_value_that_an_active_option_keeps_is_no_leak(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path)
    plain = score(corpus, _unchanged(corpus), NONE)
    kept = score(corpus, _unchanged(corpus), frozenset({"rtn_dev_id"}))
    assert _found(plain, "same_top", DEVICE) == _found(plain, "raw", DEVICE, "seen") / 3 == 1
    assert _found(kept, "same_top", DEVICE) == _found(kept, "raw", DEVICE, "seen") == 0


def test_value_that_an_active_option_keeps_counts_as_lost_when_it_goes(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path)
    outputs = _edited(corpus, tmp_path / "out", lambda ds: ds.__delitem__(DEVICE))
    for active, lost in ((NONE, 0), (frozenset({"rtn_dev_id"}), 1)):
        before = score(corpus, _unchanged(corpus), active).categories["text_retained"]
        after = score(corpus, outputs, active).categories["text_retained"]
        assert before.required == after.required
        assert before.correct - after.correct == lost


def test_time_of_day_is_counted_apart_where_dates_move(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path)
    moved = score(corpus, _unchanged(corpus), frozenset({"rtn_long_modif_dates"}))
    plain = score(corpus, _unchanged(corpus), NONE)
    assert moved.found["times_kept"] == 3
    assert plain.found["times_kept"] == 0
    assert _found(plain, "same_top", 0x00080030) == 1


def test_private_element_that_survives_is_found_with_safe_private_too(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path)
    for active in (NONE, frozenset({"rtn_safe_priv"})):
        result = score(corpus, _unchanged(corpus), active)
        assert _found(result, "private", 0x00091002, "seen") == 3
    outputs = _edited(corpus, tmp_path / "out", lambda ds: ds.remove_private_tags())
    assert score(corpus, outputs, NONE).found["private"] == 0


def test_cleaned_prose_is_scored_by_names_gone_and_words_kept(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path)
    outputs = _edited(corpus, tmp_path / "out", lambda ds: setattr(ds, "StudyDescription", "CT of"))
    result = score(corpus, outputs, NONE)
    assert _found(result, "names", 0x00081030) == 0
    assert _found(result, "words_lost", 0x00081030) == 1
    assert _found(result, "names", 0x0008103E) == 1


def test_date_that_moves_unlike_its_patients_others_is_wrong(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path, ["1.2.3.1", "1.2.3.1"])
    active = frozenset({"rtn_long_modif_dates"})
    out = _edited(corpus, tmp_path / "out", lambda ds: _move(ds, 10))
    even = score(corpus, out, active).categories["date_shifted"]
    (first, *_) = corpus.files
    path = out[first.path.name]
    assert path is not None
    ds = dcmread(path)
    _move(ds, 1)
    ds.save_as(path)
    odd = score(corpus, out, active).categories["date_shifted"]
    assert odd.required == even.required
    assert even.correct - odd.correct == 1


def _move(ds: Dataset, days: int) -> None:
    text = str(ds.StudyDate).replace("-", "").replace(".", "")
    moved = np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:8]}") + np.timedelta64(days, "D")
    ds.StudyDate = str(moved).replace("-", "")


def test_patients_that_become_one_are_inconsistent(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path, ["1.2.3.1", "1.2.3.2"])
    one = _edited(corpus, tmp_path / "one", lambda ds: setattr(ds, "PatientID", "P1"))
    apart = _edited(
        corpus, tmp_path / "two", lambda ds: setattr(ds, "PatientID", f"P{ds.PatientID[-2:]}")
    )
    assert score(corpus, one, NONE).categories["patid_consistent"] == Ratio(1, 2)
    assert score(corpus, apart, NONE).categories["patid_consistent"] == Ratio(2, 2)


def test_uid_that_becomes_two_is_inconsistent(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path, ["1.2.3.1", "1.2.3.1"])
    numbers = iter(("2.25.1", "2.25.2"))
    out = _edited(
        corpus, tmp_path / "out", lambda ds: setattr(ds, "StudyInstanceUID", next(numbers))
    )
    ratio = score(corpus, out, NONE).categories["uid_consistent"]
    assert ratio.required - ratio.correct == 1


def _blacken(ds: Dataset) -> None:
    pixels = np.array(ds.pixel_array)
    pixels[:60] = pixels[-60:] = 0
    ds.PixelData = pixels.tobytes()


def test_burned_in_text_is_hidden_only_when_its_box_is(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path, text=True)
    out = _edited(corpus, tmp_path / "out", _blacken)
    assert score(corpus, _unchanged(corpus), NONE).categories["pixels_hidden"] == Ratio(0, 1)
    assert score(corpus, out, NONE).categories["pixels_hidden"] == Ratio(1, 1)


def test_one_changed_pixel_is_not_retained(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path)
    assert score(corpus, _unchanged(corpus), NONE).categories["pixels_retained"] == Ratio(1, 1)
    out = _edited(
        corpus, tmp_path / "out", lambda ds: setattr(ds, "PixelData", b"\1\1" + ds.PixelData[2:])
    )
    assert score(corpus, out, NONE).categories["pixels_retained"] == Ratio(0, 1)


def test_output_that_is_no_dicom_counts_as_missing(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path)
    (name,) = _unchanged(corpus)
    (tmp_path / "broken").write_bytes(b"no image")
    assert score(corpus, {name: tmp_path / "broken"}, NONE).written == 0


def test_runs_agree_only_if_every_file_is_alike_and_keys_share_no_name(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path, ["1.2.3.1", "1.2.3.2"])
    same = _unchanged(corpus)
    other = _unchanged(plant_corpus(tmp_path / "other", ["1.2.3.1", "1.2.3.2"], seed=8))
    apart = compare(same, same, other)
    assert apart.same == Ratio(2, 2)
    assert apart.shared == 0 < apart.names
    linked = compare(same, other, same)
    assert linked.same == Ratio(0, 2)
    assert linked.shared == linked.names


def test_report_names_every_column_and_what_leaked(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path)
    row = ReportRow("tool", score(corpus, _unchanged(corpus), NONE), "2 REFUSED")
    text = markdown_of([row])
    assert text.count("\n") == 2 + 1 + len(KINDS) + len(NAMES) + 5
    assert "2 REFUSED" in text
    assert '"raw"' in json_of([row], {})
    assert len(missed(row)) == len(LEAKS) - 1  # nothing is wrongly removed


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
def test_attribute_that_an_object_needs_is_a_new_error_once_it_is_gone(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path)
    assert new_errors(corpus, _unchanged(corpus)) == NewErrors(0, 0)
    out = _edited(corpus, tmp_path / "out", lambda ds: ds.__delitem__(0x00280010))
    found = new_errors(corpus, out)
    assert found is not None
    assert found.own > 0 == found.ordered


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
def test_what_the_tables_own_removals_break_is_counted_apart(tmp_path: Path) -> None:
    name, number = 0x00120081, 0x00120082  # 1C: the name only beside the number
    corpus = plant_corpus(tmp_path, extra=(Row(name, "LO", "D"), Row(number, "LO", "X")))
    obeyed = _edited(corpus, tmp_path / "obeyed", lambda ds: ds.__delitem__(number))
    assert new_errors(corpus, obeyed) == NewErrors(0, 1)
    disobeyed = _edited(corpus, tmp_path / "other", lambda ds: ds.__delitem__(name))
    assert new_errors(corpus, disobeyed) == NewErrors(1, 0)


def test_without_dciodvfy_no_figure_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert new_errors(plant_corpus(tmp_path), {}) is None
