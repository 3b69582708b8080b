"""Geometry: anatomical order comes from the plane, not from numbers or names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
import pytest

from pleura.client.ingest.geometry import Geometry, pick_stack, read_geometry
from tests.builders.tiny_dicom import TinyDicom, write_cr, write_ct

AXIAL = "1.00\\0.00\\0.00\\0.00\\1.00\\0.00"


@dataclass(frozen=True)
class Row:
    sop_uid: str
    series_uid: str
    geometry: Geometry


def row(sop: str, position: float | None, *, series: str = "s", plane: str = AXIAL) -> Row:
    return Row(sop, series, Geometry(position_mm=position, orientation=plane))


def test_position_is_measured_along_the_normal_of_the_plane(tmp_path: Path) -> None:
    axial = write_ct(tmp_path / "a", TinyDicom(position_mm=(-10.0, -20.0, 42.5)))
    coronal = write_ct(
        tmp_path / "c", TinyDicom(position_mm=(1.0, 7.0, 3.0), orientation=(1, 0, 0, 0, 0, -1))
    )
    assert read_geometry(axial).position_mm == pytest.approx(42.5)
    assert read_geometry(axial).orientation == AXIAL
    assert read_geometry(coronal).position_mm == pytest.approx(7.0)
    assert read_geometry(axial).manufacturer == "Acme Imaging"


def test_a_radiograph_has_no_place(tmp_path: Path) -> None:
    place = read_geometry(write_cr(tmp_path / "a", TinyDicom()))
    assert (place.position_mm, place.orientation, place.frames) == (None, "", 1)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImageOrientationPatient", ["0", "0", "0", "0", "0", "0"]),
        ("ImageOrientationPatient", ["1", "0", "0"]),
        ("ImagePositionPatient", ["1", "2"]),
        ("ImagePositionPatient", ""),
    ],
)
def test_a_malformed_place_is_no_place(keyword: str, value: object, tmp_path: Path) -> None:
    path = write_ct(tmp_path / "a", TinyDicom())
    ds = pydicom.dcmread(path)
    setattr(ds, keyword, value)
    ds.save_as(path)
    assert read_geometry(path).position_mm is None


def test_slices_are_ordered_by_position_whatever_their_names() -> None:
    rows = [row("1", 3.0), row("2", -1.0), row("3", 0.5)]
    assert [r.sop_uid for r in pick_stack(rows)] == ["2", "3", "1"]


def test_the_largest_plane_is_the_stack_and_ties_are_settled_by_series() -> None:
    sagittal = "0.00\\1.00\\0.00\\0.00\\0.00\\-1.00"
    rows = [row("1", 1.0), row("2", 2.0), row("3", 1.0, plane=sagittal)]
    assert {r.sop_uid for r in pick_stack(rows)} == {"1", "2"}
    twins = [row("1", 1.0, series="b"), row("2", 1.0, series="a")]
    assert [r.sop_uid for r in pick_stack(twins)] == ["2"]


def test_one_anatomy_is_in_a_stack_once() -> None:
    late = row("1", 5.0)
    late = replace(late, geometry=replace(late.geometry, instance_number=9))
    early = row("2", 5.0)
    early = replace(early, geometry=replace(early.geometry, instance_number=2))
    assert pick_stack([late, early, row("3", 6.0)])[0] == early


def test_several_files_without_place_make_no_stack_but_one_does() -> None:
    assert pick_stack([row("1", None), row("2", None)]) == ()
    assert pick_stack([row("1", None)]) == (row("1", None),)
    assert pick_stack([]) == ()
