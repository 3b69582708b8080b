"""`pleura anonymize preview`: where the picture may go, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pleura.anonymizer import previewing
from pleura.anonymizer.burnedin.apply import Unburned
from pleura.anonymizer.burnedin.clean import Reading
from tests.builders.anonymize_cli import call, two_files
from tests.builders.identified import ct_dataset, write


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = two_files(tmp_path)
    ds = ct_dataset(Rows=64, Columns=64, PixelData=bytes(2 * 64 * 64))
    write(site / "in" / "a.dcm", ds)
    return site


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make any reading of pixels an error: refusals come before it."""

    def refuse(*words: object, **more: object) -> None:
        raise AssertionError("the file was read")

    monkeypatch.setattr(previewing, "unburn", refuse)


def test_a_preview_is_private_and_a_file_without_that_frame_is_refused(site: Path) -> None:
    pytest.importorskip("rapidocr_onnxruntime", reason="the extra ocr is not installed")
    source = site / "in" / "a.dcm"
    result = call("preview", source, site / "p.png")
    assert result.exit_code == 0, result.output
    assert (site / "p.png").stat().st_mode & 0o777 == 0o600
    said = [line.split() for line in result.stderr.splitlines()]
    assert "frame 1 of 1" in result.stderr
    for words in ("text blacked out", "known areas blacked out", "side markers kept"):
        assert [*words.split(), "0"] in said
    assert call("preview", source, site / "q.png", "--frame", 2).exit_code != 0
    blind = ct_dataset(SOPInstanceUID="1.2.10")
    del blind.PixelData
    assert call("preview", write(site / "in" / "c.dcm", blind), site / "q.png").exit_code != 0
    assert not (site / "q.png").exists()


def test_a_picture_is_overwritten_only_with_force(site: Path) -> None:
    pytest.importorskip("rapidocr_onnxruntime", reason="the extra ocr is not installed")
    source, png = site / "in" / "a.dcm", site / "p.png"
    png.write_bytes(b"drawn by hand")
    result = call("preview", source, png)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert png.read_bytes() == b"drawn by hand"
    assert call("preview", source, png, "--force").exit_code == 0
    assert png.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("name", ["p.jpg", "p", "p.png.dcm"])
def test_a_target_that_is_no_png_is_refused_before_anything_is_read(site: Path, name: str) -> None:
    result = call("preview", site / "in" / "a.dcm", site / name)
    assert result.exit_code == 2
    assert ".png" in result.stderr
    assert not (site / name).exists()


@pytest.mark.usefixtures("unread")
def test_a_target_without_a_folder_is_refused_before_anything_is_read(site: Path) -> None:
    result = call("preview", site / "in" / "a.dcm", site / "none" / "p.png")
    assert result.exit_code == 4
    assert "DEID-WRITE" in result.stderr
    assert "what to do" in result.stderr
    assert str(site) not in result.stderr


@pytest.mark.usefixtures("unread")
def test_force_never_writes_over_the_file_that_is_looked_at(site: Path) -> None:
    source = (site / "in" / "a.dcm").rename(site / "in" / "a.png")
    (site / "b.png").symlink_to(source)
    before = source.read_bytes()
    for target in (source, site / "b.png"):
        result = call("preview", source, target, "--force")
        assert result.exit_code == 2, result.output
    assert source.read_bytes() == before


def test_a_palette_image_is_drawn_in_its_colours_and_not_as_numbers(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Index 200 stands on index 201, and index 0 beside them: white on dark, seen as colours."""
    monkeypatch.setattr(
        previewing, "unburn", lambda parsed, *_: Unburned(parsed, Reading(1, 0, 0, True))
    )
    frame = np.full((64, 64), 201, np.uint8)
    frame[:32] = 0
    frame[40:50, 8:56] = 200
    ds = ct_dataset(Rows=64, Columns=64, PixelData=frame.tobytes())
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PhotometricInterpretation = "PALETTE COLOR"
    table = np.full(256, 40 << 8, np.uint16)
    table[200] = 0xFFFF
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", table.tobytes())
    write(site / "in" / "a.dcm", ds)
    result = call("preview", site / "in" / "a.dcm", site / "p.png")
    assert result.exit_code == 0, result.output
    with Image.open(site / "p.png") as picture:
        left = np.asarray(picture.convert("L"))[-64:, :64]
    assert left[45, 20] > 200
    assert left[60, 20] < 60
    assert left[10, 20] == left[60, 20]
