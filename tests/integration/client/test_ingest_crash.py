"""Ingest under kill -9, SIGTERM and full disks: no file twice, none partial, none lost."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pleura.client.errors import CatalogMissing
from pleura.client.ingest.catalog import Catalog
from pleura.client.ingest.process import run_until, scan_once
from pleura.client.settings import SiteSettings
from pleura.common.errors import AlreadyRunning, DiskFull
from tests.builders.ingest_site import ct_study, site_of, stored_files, write_site_toml

RUN = """
import sys
from pleura.client.process import main
sys.exit(main(["ingest", "--config", sys.argv[1]]))
"""
# the same, but the process kills itself at the n-th call of one named step
RUN_AND_DIE = """
import os, signal, sys
from pleura.client import process
from pleura.client.ingest import catalog, commit, rows
place, when, nth = sys.argv[2], sys.argv[3], int(sys.argv[4])
owner, name = {
    "announce": (rows.IngestRows, "open_moves"),
    "move": (commit.Committer, "_move"),
    "catalog": (catalog.Catalog, "add"),
    "strike": (rows.IngestRows, "close_moves"),
    "finish": (rows.IngestRows, "finish"),
}[place]
real, calls = getattr(owner, name), 0
def dying(*args):
    global calls
    calls += 1
    if calls == nth and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args)
    if calls == nth and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, name, dying)
sys.exit(process.main(["ingest", "--config", sys.argv[1]]))
"""


@contextmanager
def running(
    settings: SiteSettings, script: str = RUN, *extra: str
) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", script, str(write_site_toml(settings)), *extra]
    with stderr_of(settings).open("ab") as stderr:
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


def stderr_of(settings: SiteSettings) -> Path:
    return settings.ingest.watch[0].parent / "stderr.txt"


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition was not met in time"
        time.sleep(0.02)


def instances(settings: SiteSettings) -> int:
    try:
        with Catalog(settings.catalog_file, read_only=True) as catalog:
            return catalog.counts().instances
    except CatalogMissing:
        return 0


def in_staging(settings: SiteSettings) -> int:
    tree = os.walk(settings.store_dir / "staging")  # unlike rglob, it bears vanishing folders
    return sum(name.endswith(".dcm") for _, _, files in tree for name in files)


def orphans(pids: set[int]) -> set[int]:
    """Return which of these processes still run."""
    return {pid for pid in pids if Path("/proc", str(pid), "exe").exists()}


def descendants(pid: int) -> set[int]:
    """Return the living processes below one process."""
    children = Path("/proc", str(pid), "task", str(pid), "children")
    direct = {int(child) for child in children.read_text().split()}
    return direct.union(*(descendants(child) for child in direct))


def assert_store_is_whole(settings: SiteSettings, expected: int) -> None:
    """Every row has its file with the right bytes, and every file has its row."""
    with closing(sqlite3.connect(settings.catalog_file)) as db:
        rows = dict(db.execute("SELECT path, sha256 FROM instances").fetchall())
    assert len(rows) == expected
    files = {str(p.relative_to(settings.store_dir)): p for p in stored_files(settings)}
    assert files.keys() == rows.keys()
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == rows[name]
    assert not list(settings.state_dir.rglob("*.part"))
    staging = settings.store_dir / "staging"
    assert not staging.exists() or not any(staging.iterdir())


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("place", "when"),
    [
        ("announce", "after"),
        ("move", "before"),
        ("move", "after"),
        ("catalog", "after"),
        ("strike", "after"),
        ("finish", "before"),
        ("finish", "after"),
    ],
)
def test_a_kill_at_any_step_of_a_commit_is_mended(place: str, when: str, tmp_path: Path) -> None:
    settings = site_of(tmp_path)
    for study in (1, 2):
        ct_study(tmp_path, study)
    # close_moves runs once in recover, so its second call is the first commit's
    nth = "2" if place == "strike" else "1"
    with running(settings, RUN_AND_DIE, place, when, nth) as process:
        assert process.wait(60) == -signal.SIGKILL
    summary = scan_once(settings)
    assert dict(summary.quarantined) == {}
    assert summary.stored + summary.duplicates + summary.known == 6
    assert_store_is_whole(settings, expected=6)
    with Catalog(settings.catalog_file, read_only=True) as catalog:
        assert max(catalog.removals().values()) == 6


@pytest.mark.chaos
@pytest.mark.parametrize("workers", [1, 2])
def test_kills_at_random_moments_lose_and_double_nothing(workers: int, tmp_path: Path) -> None:
    settings = site_of(tmp_path, workers=workers)
    for study in range(8):
        ct_study(tmp_path, study + 1, slices=5)
    moments: list[Callable[[], bool]] = [
        lambda: in_staging(settings) >= 3,
        lambda: in_staging(settings) >= 20,
        lambda: instances(settings) >= 1,
        lambda: instances(settings) >= 25,
    ]
    workers_seen: set[int] = set()
    for moment in moments[::workers]:
        with running(settings) as process:
            wait_for(lambda m=moment: m() or instances(settings) == 40)
            assert process.poll() is None
            workers_seen |= descendants(process.pid)
    scan_once(settings)
    assert_store_is_whole(settings, expected=40)
    assert workers == 1 or workers_seen
    wait_for(lambda: not orphans(workers_seen), timeout_s=10)


@pytest.mark.chaos
def test_sigterm_ends_the_process_cleanly_and_new_files_are_taken_in_before(
    tmp_path: Path,
) -> None:
    settings = site_of(tmp_path)
    ct_study(tmp_path, 1)
    with running(settings) as process:
        wait_for(lambda: instances(settings) == 3)
        ct_study(tmp_path, 2)
        wait_for(lambda: instances(settings) == 6)
        with pytest.raises(AlreadyRunning):
            scan_once(settings)
        process.terminate()
        assert process.wait(20) == 0
    assert_store_is_whole(settings, expected=6)
    log = (settings.log_dir / "ingest.jsonl").read_text()
    said = [json.loads(line)["event"] for line in log.splitlines()]
    assert said[0] == "process.started" and said[-1] == "process.stopped"
    assert said.count("study.ingested") == 2
    for text in ("MRN-4711", "ACC-9900", "Wolkenstein", "IM0000", "ct0001"):
        assert text not in log
    assert stderr_of(settings).read_text() == ""


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "volume"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def on_volume(tmp_path: Path, volume: Path, reserve_gb: float) -> SiteSettings:
    site = site_of(tmp_path, reserve_gb=reserve_gb)
    return site.model_copy(update={"state_dir": volume / "state"})


def test_a_full_disk_stops_intake_whole_and_the_next_scan_goes_on(
    tmp_path: Path, small_volume: Path
) -> None:
    settings = on_volume(tmp_path, small_volume, reserve_gb=0.0)
    for study in range(4):
        ct_study(tmp_path, study + 1, slices=10, size_px=256)  # 5 MB on a volume of 4 MB
    with pytest.raises(DiskFull):
        scan_once(settings)
    kept = len(stored_files(settings))
    assert_store_is_whole(settings, expected=kept)
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_volume)], check=True)
    summary = scan_once(settings)
    assert dict(summary.quarantined) == {}
    assert_store_is_whole(settings, expected=40)


def test_the_process_waits_under_the_reserve_and_resumes_alone(
    tmp_path: Path, small_volume: Path
) -> None:
    settings = on_volume(tmp_path, small_volume, reserve_gb=0.002)
    settings.state_dir.mkdir(mode=0o700)
    ballast = small_volume / "ballast"
    ballast.write_bytes(bytes(2_500_000))
    ct_study(tmp_path, 1)
    stop = threading.Event()
    thread = threading.Thread(target=run_until, args=(settings, stop))
    thread.start()
    try:
        wait_for(settings.catalog_file.exists)
        time.sleep(0.5)
        assert instances(settings) == 0
        ballast.unlink()
        wait_for(lambda: instances(settings) == 3)
    finally:
        stop.set()
        thread.join(20)
    assert_store_is_whole(settings, expected=3)
