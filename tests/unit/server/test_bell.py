"""Bells: heard at once, also when rung before the wait; never needed for progress."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from pleura.server.bell import Bell, BellWatch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.bell"


def seconds_of_wait(bell: Bell, timeout_s: float) -> float:
    started = time.monotonic()
    bell.wait(timeout_s)
    return time.monotonic() - started


def test_ring_of_another_object_ends_a_wait(path: Path) -> None:
    timer = threading.Timer(0.05, Bell(path).ring)
    timer.start()
    assert seconds_of_wait(Bell(path), 5.0) < 2.0


def test_ring_between_two_waits_is_heard_by_the_next_one_once(path: Path) -> None:
    bell = Bell(path)
    Bell(path).ring()
    assert seconds_of_wait(bell, 5.0) < 1.0
    assert seconds_of_wait(bell, 0.1) >= 0.1


def test_wait_ends_without_a_ring(path: Path) -> None:
    assert 0.1 <= seconds_of_wait(Bell(path), 0.1) < 1.0


def test_rings_in_quick_succession_differ_even_if_the_clock_stands_still(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    bell, marks = Bell(path), set()
    for _ in range(3):
        bell.ring()
        marks.add(bell.mark())
    assert len(marks) == 3


def test_bell_is_private(path: Path) -> None:
    Bell(path).ring()
    assert path.stat().st_mode & 0o077 == 0


def test_one_ring_wakes_everybody_who_waits_on_a_loop(path: Path) -> None:
    async def scene() -> float:
        watch = BellWatch(Bell(path))
        started = time.monotonic()
        waits = [asyncio.create_task(watch.changed(watch.mark(), 5.0)) for _ in range(3)]
        await asyncio.sleep(0.05)
        Bell(path).ring()
        await asyncio.gather(*waits)
        return time.monotonic() - started

    assert asyncio.run(scene()) < 2.0


def test_ring_after_the_mark_was_taken_is_not_missed(path: Path) -> None:
    async def scene() -> float:
        watch = BellWatch(Bell(path))
        mark = watch.mark()
        Bell(path).ring()
        started = time.monotonic()
        await watch.changed(mark, 5.0)
        return time.monotonic() - started

    assert asyncio.run(scene()) < 1.0


def test_watch_waits_again_after_a_silence(path: Path) -> None:
    async def scene() -> tuple[float, float]:
        watch = BellWatch(Bell(path))
        started = time.monotonic()
        await watch.changed(watch.mark(), 0.1)
        silent = time.monotonic() - started
        await asyncio.sleep(0.05)  # the look has ended with its last waiter
        wait = asyncio.create_task(watch.changed(watch.mark(), 5.0))
        await asyncio.sleep(0.05)
        Bell(path).ring()
        await wait
        return silent, time.monotonic() - started

    silent, whole = asyncio.run(scene())
    assert silent >= 0.1 and whole < 2.0
