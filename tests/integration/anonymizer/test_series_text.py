"""Slices of a series are looked at for text: first, middle, last, and all where one has some."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from pleura.anonymizer import staging
from pleura.anonymizer.batch import BatchItem, BatchSummary, run_batch
from pleura.anonymizer.burnedin.policy import Mode
from pleura.anonymizer.errors import Undecodable
from pleura.anonymizer.journal import Journal
from pleura.anonymizer.sampling import sample_of
from pleura.common.errors import DiskFull
from tests.builders.deidentified import GDPR, KEY, run
from tests.builders.identified import ct_dataset, write
from tests.builders.pictures import ground, ink, picture

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr_onnxruntime") is None,
    reason="the extra ocr is not installed",
)

NAME = "QUIBBLEWORTH 7733"
PLAIN, WRITTEN = "1.2.5.1", "1.2.5.2"


def add(folder: Path, series: str, number: int, *, text: str = "") -> Path:
    """Write slice `number`; the names of the files are in no order."""
    pixels = ground(number).astype(np.uint16) * 4
    if text:
        pixels[ink(text, 12, 10)] = 1000
    values = {"SOPInstanceUID": f"{series}.{number}", "SeriesInstanceUID": series}
    values |= {"InstanceNumber": str(number)}
    ds = picture(ct_dataset(**values), pixels[None], "MONOCHROME2")
    del ds.NumberOfFrames
    return write(folder / f"{series}-{number * 7 % 10}.dcm", ds)


class Site:
    """A folder with files, and what a batch over it gave."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder / "in", folder / "out"
        self.items: dict[str, BatchItem] = {}
        self.looks: list[tuple[int, int]] = []

    def run(self, *, jobs: int = 0, ocr: Mode = "policy") -> BatchSummary:
        self.items.clear()
        return run_batch(
            sorted(self.folder.iterdir()), self.out, self.out.with_name("q"),
            profile=GDPR, key=KEY, jobs=jobs, ocr=ocr,
            on_look=lambda done, total: self.looks.append((done, total)),
            on_result=lambda item: self.items.__setitem__(item.source.name, item),
        )  # fmt: skip

    def claims(self, path: Path) -> bool:
        """Return whether 113101, Clean Pixel Data, is claimed for what a file became."""
        result = self.items[path.name].result
        assert result is not None
        return "113101" in result.receipt.method_codes


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("count", "looked_at"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (8, [0, 4, 7])]
)
def test_first_middle_and_last_are_looked_at(count: int, looked_at: list[int]) -> None:
    assert sample_of(range(count)) == looked_at


@pytest.mark.parametrize("jobs", [0, 2])
def test_text_in_the_middle_slice_has_every_slice_of_the_series_read(site: Site, jobs: int) -> None:
    written = [add(site.folder, WRITTEN, n, text=NAME if n == 5 else "") for n in range(1, 9)]
    plain = [add(site.folder, PLAIN, n) for n in range(1, 6)]
    summary = site.run(jobs=jobs)
    assert (summary.accepted, summary.is_clean) == (13, True)
    assert all(site.claims(path) for path in written)
    assert not any(site.claims(path) for path in plain)
    result = site.items[written[4].name].result
    assert result is not None
    after = dcmread(result.path).pixel_array
    assert (after[ink(NAME, 12, 10)] == 0).all()
    assert site.looks[-1] == (6 + 8, 6 + 8)
    assert not site.out.with_name("out.staging").exists()


def test_a_look_leaves_no_mark_in_a_series_without_text(site: Site, tmp_path: Path) -> None:
    paths = [add(site.folder, PLAIN, n) for n in range(1, 4)]
    site.run()
    alone = [run(path, tmp_path / "alone") for path in paths]
    found = [site.items[path.name].result for path in paths]
    assert [r.sha256 for r in found if r] == [r.sha256 for r in alone]


def test_text_between_the_slices_looked_at_stays_and_nothing_is_claimed(site: Site) -> None:
    """What the policy does not promise, written down."""
    paths = [add(site.folder, PLAIN, n, text=NAME if n == 2 else "") for n in range(1, 9)]
    site.run()
    assert not any(site.claims(path) for path in paths)


def test_a_slice_that_cannot_be_looked_at_has_its_series_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [add(site.folder, PLAIN, n) for n in range(1, 6)]

    def look(path: Path, *_: object) -> bool:
        if path == paths[-1]:
            raise Undecodable
        return False

    monkeypatch.setattr(staging, "shows_text", look)
    assert site.run().accepted == 5
    assert all(site.claims(path) for path in paths)


def test_reader_switched_off_looks_at_nothing(site: Site) -> None:
    path = add(site.folder, WRITTEN, 1, text=NAME)
    assert site.run(ocr="off").accepted == 1
    assert not site.claims(path)


def test_without_the_extra_slices_pass_unread_and_claim_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "has_finder", lambda: False)
    path = add(site.folder, WRITTEN, 1, text=NAME)
    assert site.run().accepted == 1
    assert not site.claims(path)


def test_two_inputs_of_one_slice_with_text_stay_one_object(site: Site) -> None:
    first = add(site.folder, WRITTEN, 1, text=NAME)
    (site.folder / "again.dcm").write_bytes(first.read_bytes())
    summary = site.run()
    assert (summary.accepted, summary.duplicates) == (1, 1)
    assert site.claims(first)


@pytest.mark.parametrize("stop_at", [3, 6, 8])
def test_a_batch_that_ends_while_it_reads_again_comes_to_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    paths = [add(site.folder, WRITTEN, n, text=NAME if n == 1 else "") for n in range(1, 5)]
    done, put = [0], Journal.put

    def fails(journal: Journal, row: object) -> None:
        done[0] += 1
        if done[0] == stop_at:
            raise DiskFull
        put(journal, row)  # type: ignore[arg-type]

    monkeypatch.setattr(Journal, "put", fails)
    with pytest.raises(DiskFull):
        site.run()
    monkeypatch.undo()
    assert site.run().accepted == 4
    assert all(site.claims(path) for path in paths)


def test_a_look_is_not_repeated_after_a_batch_that_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        add(site.folder, PLAIN, number)

    def fails(*_: object) -> None:
        raise DiskFull

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "staged_studies", fails)
        with pytest.raises(DiskFull):
            site.run()
    assert site.looks == [(1, 3), (2, 3), (3, 3)]
    site.looks.clear()
    assert site.run().accepted == 5
    assert site.looks == []
