"""The figures of the reader: shipped as measured, refused in any other shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

from pleura.anonymizer import recall
from pleura.anonymizer.errors import RulesDamaged
from pleura.anonymizer.recall import (
    ReaderRecall,
    Share,
    load_recall,
    parse_recall,
    reader_evidence,
    warnings_for,
)

SHIPPED = json.loads(load_recall().to_json())


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    record = json.loads(json.dumps(SHIPPED))
    change(record)
    return json.dumps(record).encode()


def test_the_shipped_figures_are_a_whole_measurement_of_the_held_out_split() -> None:
    shipped = load_recall()
    assert (shipped.split, shipped.images, shipped.covered_percent) == ("held", 40, 95)
    assert sorted(shipped.strings) == [12, 25, 50, 100]
    assert (shipped.every.of, shipped.strong.of, shipped.markers_kept.of) == (120, 90, 40)
    assert shipped.clean_images_touched.of == 10
    assert shipped.reader_version.startswith("1.4.")


def test_what_is_written_reads_back_as_it_was() -> None:
    assert parse_recall(load_recall().to_json()) == load_recall()
    assert load_recall().to_json() == load_recall().to_json()


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(split="dev"),
        lambda r: r.update(reader="tesseract"),
        lambda r: r.update(reader_version=""),
        lambda r: r.update(measured_on="yesterday"),
        lambda r: r.update(strings={}),
        lambda r: r.update(strings={"0": {"count": 1, "of": 1}}),
        lambda r: r["strings"].update({"12": {"count": 31, "of": 30}}),
        lambda r: r.update(markers_kept={"count": 0, "of": 0}),
        lambda r: r.update(note="by hand"),
        lambda r: r.pop("clean_pixels_covered"),
    ],
)
def test_figures_of_another_shape_or_split_are_refused(
    change: Callable[[dict[str, Any]], object],
) -> None:
    with pytest.raises(RulesDamaged):
        parse_recall(changed(change))


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff"])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(RulesDamaged):
        parse_recall(raw)


def test_a_missing_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "TABLE", "no_such_table.json")
    load_recall.cache_clear()
    with pytest.raises(RulesDamaged):
        load_recall()
    monkeypatch.undo()
    load_recall.cache_clear()
    assert load_recall().images == 40


def test_shares_add_up_over_contrasts() -> None:
    strings = {12: Share(count=1, of=4), 25: Share(count=3, of=4), 100: Share(count=4, of=4)}
    found = load_recall().model_copy(update={"strings": strings})
    assert found.strong == Share(count=7, of=8)
    assert (str(found.every), found.every.percent) == ("8 of 12", pytest.approx(66.67, abs=0.01))
    faint = found.model_copy(update={"strings": {12: Share(count=1, of=4)}})
    assert faint.strong == faint.every


def test_figures_of_another_reader_or_release_are_warned_of() -> None:
    shipped: ReaderRecall = load_recall()
    ours = {"reader_version": shipped.reader_version, "pleura_version": shipped.pleura_version}
    assert warnings_for(shipped, **ours) == ()
    (other,) = warnings_for(shipped, **{**ours, "reader_version": "1.4.9"})
    assert "1.4.9" in other
    assert shipped.reader_version in other
    (none,) = warnings_for(shipped, reader_version=None, pleura_version=shipped.pleura_version)
    assert "not installed" in none
    assert len(warnings_for(shipped, reader_version="9", pleura_version="9")) == 2


def test_evidence_names_the_reader_installed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        installed = version(recall.READER)
    except PackageNotFoundError:
        installed = None
    assert reader_evidence().installed_version == installed
    monkeypatch.setattr(recall, "READER", "a-package-that-is-not-installed")
    found = reader_evidence()
    assert found.installed_version is None
    assert found.warnings
