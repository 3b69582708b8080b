"""Outbox: an answer survives until the coordinator has it, and a month more."""

from __future__ import annotations

from pathlib import Path

import pytest

from pleura.client.agent.outbox import KEEP, Outbox
from pleura.common.clock import FakeClock
from pleura.common.errors import DatabaseDamaged

DIGEST, BLOB = "a" * 64, "b" * 64


def test_an_answer_is_there_after_the_process_died(tmp_path: Path) -> None:
    clock = FakeClock()
    outbox = Outbox(tmp_path / "agent.db")
    kept = outbox.put(DIGEST, b"signed", BLOB, 7, clock.now())
    reopened = Outbox(tmp_path / "agent.db")  # the first was never closed
    assert reopened.get(DIGEST) == kept
    assert reopened.pending() == (kept,)
    outbox.close()
    reopened.close()


def test_the_first_answer_of_an_order_stays(tmp_path: Path) -> None:
    clock, outbox = FakeClock(), Outbox(tmp_path / "agent.db")
    first = outbox.put(DIGEST, b"one", BLOB, 7, clock.now())
    assert outbox.put(DIGEST, b"two", "", 0, clock.now()) == first
    outbox.close()


def test_an_acknowledged_answer_is_kept_a_month(tmp_path: Path) -> None:
    clock, outbox = FakeClock(), Outbox(tmp_path / "agent.db")
    outbox.put(DIGEST, b"signed", BLOB, 7, clock.now())
    outbox.mark(DIGEST, "uploaded", clock.now())
    outbox.mark(DIGEST, "acknowledged", clock.now())
    assert outbox.pending() == ()
    clock.advance(KEEP.total_seconds() - 1)
    assert outbox.sweep(clock.now()) == 0
    assert outbox.get(DIGEST) is not None
    clock.advance(2)
    assert outbox.sweep(clock.now()) == 1
    assert outbox.get(DIGEST) is None
    outbox.close()


def test_an_unacknowledged_answer_is_never_swept(tmp_path: Path) -> None:
    clock, outbox = FakeClock(), Outbox(tmp_path / "agent.db")
    outbox.put(DIGEST, b"signed", BLOB, 7, clock.now())
    clock.advance(10 * KEEP.total_seconds())
    assert outbox.sweep(clock.now()) == 0
    assert len(outbox.pending()) == 1
    outbox.close()


def test_acknowledged_is_final(tmp_path: Path) -> None:
    clock, outbox = FakeClock(), Outbox(tmp_path / "agent.db")
    outbox.put(DIGEST, b"signed", BLOB, 7, clock.now())
    outbox.mark(DIGEST, "acknowledged", clock.now())
    outbox.mark(DIGEST, "uploaded", clock.now())
    kept = outbox.get(DIGEST)
    assert kept is not None
    assert kept.state == "acknowledged"
    outbox.close()


def test_a_damaged_outbox_is_named(tmp_path: Path) -> None:
    (tmp_path / "agent.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(DatabaseDamaged):
        Outbox(tmp_path / "agent.db")
