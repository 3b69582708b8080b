"""Watcher and intake: only complete files are taken, and only while there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from pleura.client.ingest.intake import plan_batch
from pleura.client.ingest.watcher import Found, Settler, Stamp, list_folders
from pleura.common.errors import DiskFull


def found(name: str, size: int = 10, mtime_ns: int = 1) -> Found:
    return Found(Path("/in") / name, Stamp(size, mtime_ns))


def test_a_file_is_taken_only_after_it_stood_still() -> None:
    settler = Settler(settle_s=2.0)
    assert settler.settled([found("a", size=1)], 0.0) == []
    assert settler.settled([found("a", size=2)], 2.0) == []
    assert settler.settled([found("a", size=2)], 3.9) == []
    assert settler.settled([found("a", size=2)], 4.0) == [found("a", size=2)]


def test_a_rewritten_file_of_equal_size_has_to_settle_again() -> None:
    settler = Settler(settle_s=1.0)
    settler.settled([found("a", mtime_ns=1)], 0.0)
    assert settler.settled([found("a", mtime_ns=2)], 5.0) == []
    assert settler.settled([found("a", mtime_ns=2)], 6.0) == [found("a", mtime_ns=2)]


def test_a_file_that_came_back_is_new() -> None:
    settler = Settler(settle_s=1.0)
    settler.settled([found("a")], 0.0)
    settler.settled([], 5.0)
    assert settler.settled([found("a")], 9.0) == []


def test_links_hidden_and_unfinished_files_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    good = tmp_path / "study" / "IM1"
    good.write_bytes(b"x")
    (tmp_path / "IM2.part").write_bytes(b"x")
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "IM3").write_bytes(b"x")
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "folder").symlink_to(tmp_path / "study")
    assert [item.path for item in list_folders([tmp_path, tmp_path])] == [good]


def test_an_absent_folder_is_seen_again_at_the_next_poll(tmp_path: Path) -> None:
    assert list_folders([tmp_path / "later"]) == []


def test_a_batch_ends_between_folders() -> None:
    ready = [found(f"{study}/{n}") for study in "abc" for n in range(3)]
    batch = plan_batch(ready, free_bytes=10_000, reserve_bytes=0, limit=4)
    assert [str(item.path)[4] for item in batch] == list("aaabbb")


def test_a_batch_never_eats_into_the_reserve() -> None:
    ready = [found(str(n), size=10) for n in range(5)]
    assert len(plan_batch(ready, free_bytes=125, reserve_bytes=100)) == 2


@pytest.mark.parametrize("free", [99, 105])
def test_intake_is_refused_under_the_reserve(free: int) -> None:
    with pytest.raises(DiskFull):
        plan_batch([found("a", size=10)], free_bytes=free, reserve_bytes=100)
