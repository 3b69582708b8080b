"""The measurement of the reader: what counts as found, and the file it writes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="the extra ocr is not installed")
pytest.importorskip("matplotlib", reason="the extra of the benches is not installed")

from pleura.anonymizer.burnedin.boxes import Box
from pleura.anonymizer.burnedin.clean import Reading
from pleura.anonymizer.errors import RulesDamaged, TextResidual
from pleura.anonymizer.recall import Share, parse_recall
from tests.benchmarks import burned_in
from tests.benchmarks.burned_in import Figures
from tests.benchmarks.burned_in_cases import Case, Planted

TEXT = Planted("QUILL", (10, 10, 30, 20), 25, 12, "font")
FAINT = Planted("VARGA", (10, 30, 30, 40), 12, 12, "font")
MARKER = Planted("L", (50, 10, 56, 20), 100, 12, "font", is_marker=True)
CASE = Case("one", np.zeros((64, 64), np.uint8), (TEXT, FAINT, MARKER))


def boxes(*found: Box) -> Reading:
    return Reading(1, len(found), 0, True, {0: found})


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Reading | None]:
    """Return what is read next; None refuses the image."""
    readings: list[Reading | None] = []

    def read(_: Case) -> Reading:
        found = readings.pop(0)
        if found is None:
            raise TextResidual
        return found

    monkeypatch.setattr(burned_in, "read", read)
    return readings


def measured(*cases: Case) -> Figures:
    figures = Figures()
    for case in cases:
        figures.add_planted(case)
    figures.add_clean(Case("clean", np.zeros((64, 64), np.uint8), ()))
    return figures


def test_a_string_counts_from_95_percent_and_a_marker_below_5(reads: list[Reading | None]) -> None:
    reads += [boxes(Box(10, 10, 29, 20), Box(10, 30, 28, 40), Box(50, 10, 51, 20)), boxes()]
    found = measured(CASE).recall("held", "1.4.4")
    assert found.strings == {12: Share(count=0, of=1), 25: Share(count=1, of=1)}
    assert found.markers_kept == Share(count=0, of=1)
    assert (found.images, found.refused) == (1, {})
    assert found.clean_pixels_covered == Share(count=0, of=64 * 64)


def test_a_refused_image_is_no_hit_and_a_clean_one_covered_whole(
    reads: list[Reading | None],
) -> None:
    reads += [None, None]
    found = measured(CASE).recall("held", "1.4.4")
    assert found.refused == {"TEXT_RESIDUAL": 1}
    assert found.every == Share(count=0, of=2)
    assert found.markers_kept == Share(count=0, of=1)
    assert found.clean_images_touched == Share(count=1, of=1)
    assert found.clean_pixels_covered.percent == 100


def test_the_command_writes_what_is_shipped_and_says_the_same(
    reads: list[Reading | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def cases(*_: object) -> Iterator[Case]:
        yield CASE

    monkeypatch.setattr(burned_in, "shared_data", lambda: tmp_path)
    monkeypatch.setattr(burned_in, "planted_cases", cases)
    monkeypatch.setattr(burned_in, "clean_cases", cases)
    monkeypatch.setattr(burned_in, "installed_reader", lambda: "1.4.4")
    file = tmp_path / "recall.json"
    for split in ("held", "dev"):
        reads += [boxes(Box(10, 10, 30, 20)), boxes()]
        words = ["burned_in", "--split", split, "--misses", "--json", str(file)]
        monkeypatch.setattr(sys, "argv", words)
        burned_in.main()
        if split == "held":
            found = parse_recall(file.read_bytes())
            assert (found.reader_version, str(found.every)) == ("1.4.4", "1 of 2")
            said = capsys.readouterr().out
            assert "contrast  25 %: 1/1" in said
            assert "all: 1/2 = 50.0 %" in said
            assert said.count("miss") == 1
    with pytest.raises(RulesDamaged):
        parse_recall(file.read_bytes())


def test_nothing_is_measured_without_the_reader(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(burned_in, "installed_reader", lambda: None)
    monkeypatch.setattr(sys, "argv", ["burned_in"])
    with pytest.raises(SystemExit) as caught:
        burned_in.main()
    assert caught.value.code == 2
    assert "ocr" in capsys.readouterr().err
