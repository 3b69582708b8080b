"""A full volume: a named error, nothing lost, and the study goes on once space is freed.

The volumes are small memory filesystems; mounting them needs root, so the tests are
skipped where that is not allowed.
"""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.builders.federations import (
    Federation,
    StudyPlan,
    federation,
    paused,
    process_named,
    write_hospitals,
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
SITES = ("north", "river")
SMALL = "north"
PLAN = StudyPlan(SITES, rounds=3, local_steps=6, deadline_s=300)


@contextmanager
def small_volume(folder: Path, megabytes: int) -> Iterator[None]:
    """Mount a memory filesystem of that size on `folder`."""
    folder.mkdir(parents=True, mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode != 0:
        pytest.skip("mounting a memory filesystem is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Use up every free byte of the volume while the block runs."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for piece in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"\0" * piece):
                    pass
            except OSError as exc:
                assert exc.errno == errno.ENOSPC
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("disk")
    hospitals = write_hospitals(folder / "pacs", SITES)
    root = folder / "federation"
    root.mkdir(mode=0o700)
    with (
        small_volume(root / SMALL, 64),
        federation(folder, hospitals, join=False) as found,
    ):
        for site in SITES:
            found.join(site)
        found.await_ingest()
        yield found


@pytest.fixture(scope="module")
def digest(running: Federation) -> str:
    """The final model of an undisturbed study."""
    run_id = running.begin(PLAN)
    assert running.await_end(run_id)["event"] == "run.finished"
    return running.final_digest(run_id)


def test_full_volume_of_a_site_is_named_and_the_study_ends_with_the_same_model(
    running: Federation, digest: str
) -> None:
    volume = running.local.site_state(SMALL)
    run_id = running.begin(PLAN)
    running.server.until("round.closed", run=run_id, round=1)
    with paused(process_named(running.local, SITES[1], "trainer")), filled(volume):
        running.server.until("order.sent", run=run_id, round=2, site=SMALL, count=3)
    running.sites[SMALL].until(
        frozenset({"job.failed", "order.refused", "error.raised", "disk.filled"}),
        code="HOST-DISK",
    )
    assert running.await_end(run_id)["event"] == "run.finished"
    assert running.final_digest(run_id) == digest
    for round_ in range(1, PLAN.rounds + 1):
        assert running.decisions(run_id, round_) == dict.fromkeys(SITES, "admitted")
