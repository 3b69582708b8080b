"""The budget ledger refuses what was changed, cut, lost or rolled back, and survives kill -9."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pleura.client.errors import (
    BudgetDamaged,
    BudgetExceeded,
)
from pleura.client.privacy import budget_rows
from pleura.client.privacy.budget import BudgetLedger, Reservation
from pleura.client.privacy.budget_rows import Charge, Terms
from pleura.common.errors import DiskFull
from pleura.common.privacy.accounting import Mechanism, epsilon
from tests.builders.budget import (
    BASE,
    DELTA,
    HASH,
    KEY,
    PLAN,
    TINY,
    UPDATE,
    reopened,
    reserve,
    steps_charged,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budget.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[BudgetLedger]:
    opened = BudgetLedger(path, seal_key=KEY)
    yield opened
    opened.close()


# --- damage and rollback ----------------------------------------------------------------


def without_triggers(path: Path, statement: str, *values: Any) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute("DROP TRIGGER rows_stay")
        db.execute("DROP TRIGGER rows_remain")
        db.execute(statement, values)
    db.close()


@pytest.mark.parametrize("statement", ["UPDATE rows SET body = x'00'", "DELETE FROM rows"])
def test_rows_can_be_neither_changed_nor_deleted(
    ledger: BudgetLedger, path: Path, statement: str
) -> None:
    reserve(ledger)
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        db.execute(statement)
    db.close()


FORGED = budget_rows.charge_row(
    Charge(1, "run-1", 1, 1, Mechanism(Decimal("400.0"), 1, 10, 10), HASH, BASE),
    "cohort-1",
    budget_rows.row_hash(budget_rows.genesis_row(Terms("cohort-1", DELTA, Decimal(1), 18))),
)
TAMPERINGS = {
    "byte of a row": (
        "UPDATE rows SET body = CAST(replace(body, 'run-1', 'run-9') AS BLOB) WHERE seq = 1",
        (),
    ),
    "last row gone": ("DELETE FROM rows WHERE seq = 2", ()),
    "middle row gone": ("DELETE FROM rows WHERE seq = 1", ()),
    "all rows gone": ("DELETE FROM rows", ()),
    "hash of a row": (f"UPDATE rows SET row_hash = '{HASH}' WHERE seq = 2", ()),
    "foreign row": (f"INSERT INTO rows VALUES (3, x'7b7d', '{HASH}')", ()),
    "row rewritten with its hash": (
        "UPDATE rows SET body = ?, row_hash = ? WHERE seq = 1",
        (budget_rows.canonical_json(FORGED), budget_rows.row_hash(FORGED)),
    ),
}


@pytest.mark.parametrize("kind", list(TAMPERINGS))
def test_tampered_row_is_refused(ledger: BudgetLedger, path: Path, kind: str) -> None:
    reserve(ledger, 1)
    reserve(ledger, 2)
    statement, values = TAMPERINGS[kind]
    without_triggers(path, statement, *values)
    for use in (ledger.summary, lambda: reserve(ledger, 3), lambda: reopened(path)):
        with pytest.raises(BudgetDamaged):
            use()


def test_cut_off_and_rehashed_chain_is_refused(ledger: BudgetLedger, path: Path) -> None:
    """One charge is replaced by a smaller one, with all hashes made to fit."""
    reserve(ledger, 1)
    without_triggers(
        path,
        "UPDATE rows SET body = ?, row_hash = ? WHERE seq = 1",
        budget_rows.canonical_json(FORGED),
        budget_rows.row_hash(FORGED),
    )
    with pytest.raises(BudgetDamaged, match="seal"):
        reopened(path)


def lose(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def lose_seal(path: Path) -> None:
    path.with_name(path.name + ".seal").unlink()


def forge_seal(path: Path) -> None:
    seal = path.with_name(path.name + ".seal")
    seal.write_bytes(seal.read_bytes().replace(b'"count":2', b'"count":0'))


def garble(path: Path) -> None:
    lose(path)
    path.write_bytes(b"not a database" * 100)


def empty(path: Path) -> None:
    lose(path)
    path.touch()


@pytest.mark.parametrize("harm", [lose, lose_seal, forge_seal, garble, empty])
def test_lost_or_forged_file_is_refused(path: Path, harm: Callable[[Path], None]) -> None:
    ledger = reopened(path)
    reserve(ledger)
    ledger.close()
    harm(path)
    with pytest.raises(BudgetDamaged):
        reopened(path)


def test_lost_file_is_not_made_anew(path: Path) -> None:
    ledger = reopened(path)
    reserve(ledger)
    ledger.close()
    lose(path)
    with pytest.raises(BudgetDamaged):
        reopened(path)
    assert not path.exists()


def test_older_copy_of_the_database_is_refused(path: Path, tmp_path: Path) -> None:
    ledger = reopened(path)
    reserve(ledger, 1)
    ledger.close()
    shutil.copy(path, tmp_path / "old.db")
    ledger = reopened(path)
    reserve(ledger, 2)
    ledger.close()
    lose(path)
    shutil.copy(tmp_path / "old.db", path)
    with pytest.raises(BudgetDamaged):
        reopened(path)


def test_older_copy_of_the_whole_folder_is_found_by_its_anchor(tmp_path: Path) -> None:
    ledger = reopened(tmp_path / "a" / "budget.db")
    reserve(ledger, 1)
    ledger.close()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    ledger = reopened(tmp_path / "a" / "budget.db")
    reserve(ledger, 2)
    anchor = ledger.summary()
    ledger.check_anchor(anchor.count, anchor.head)
    ledger.close()
    restored = reopened(tmp_path / "b" / "budget.db")
    with pytest.raises(BudgetDamaged, match="anchor"):
        restored.check_anchor(anchor.count, anchor.head)
    restored.close()


def test_seal_under_another_key_is_refused(path: Path) -> None:
    ledger = reopened(path)
    reserve(ledger)
    ledger.close()
    with pytest.raises(BudgetDamaged):
        reopened(path, seal_key=bytes(32))
    with pytest.raises(BudgetDamaged):
        reopened(path, seal_key=b"short")


def test_newer_schema_is_refused(path: Path) -> None:
    reopened(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(BudgetDamaged):
        reopened(path)


def test_full_disk_charges_nothing_and_says_so(ledger: BudgetLedger) -> None:
    reserve(ledger, 1)
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFull):
        for number in range(2, 11):
            reserve(ledger, number)
    before = steps_charged(ledger)
    ledger._db.execute("PRAGMA max_page_count = 100000")
    reserve(ledger, 10)
    assert steps_charged(ledger) == before + 10


# --- kill -9 and two processes ----------------------------------------------------------


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; return its exit status, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            work()
            status = 0
        except BudgetExceeded:
            status = 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killing(ledger: BudgetLedger, after: int) -> None:
    """Kill this process at its `after`-th SQL statement, fsync or rename."""
    left = [after]

    def tick(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    fsync, replace = os.fsync, Path.replace
    ledger._db.set_trace_callback(tick)

    def ticking_fsync(descriptor: int) -> None:
        tick()
        fsync(descriptor)
        tick()

    def ticking_replace(self: Path, target: Any) -> Path:
        tick()
        return replace(self, target)

    os.fsync = ticking_fsync  # type: ignore[assignment]
    Path.replace = ticking_replace  # type: ignore[method-assign]


def test_kill_at_any_write_of_a_reservation_loses_no_charge_that_was_granted(path: Path) -> None:
    epsilon([PLAN], DELTA)
    killed = 0
    for after in range(1, 100):
        base, read, write = f"{after:064d}", *os.pipe()
        opened = reopened(path, max_attempts=10**6)
        before = steps_charged(opened)
        opened.close()

        def work(after: int = after, base: str = base, write: int = write) -> None:
            child = reopened(path, max_attempts=10**6)
            killing(child, after)
            reserve(child, mechanism=TINY, plan_total=TINY, base_digest=base)
            os.write(write, b"g")  # from here on a gradient might be computed

        status = in_child(work)
        os.close(write)
        granted = os.read(read, 1) == b"g"
        os.close(read)
        opened = reopened(path, max_attempts=10**6)
        charged = steps_charged(opened) - before
        assert charged in (0, 1)
        assert charged == 1 or not granted
        opened.close()
        if status == 0:
            break
        assert status == -signal.SIGKILL
        killed += 1
    assert status == 0
    assert killed >= 5


def test_kill_at_any_write_of_a_stored_update_keeps_the_charge(path: Path) -> None:
    ledger = reopened(path, max_attempts=10**6)
    killed = 0
    for after in range(1, 100):
        base = f"{after:064d}"
        reservation = reserve(ledger, mechanism=TINY, plan_total=TINY, base_digest=base)
        before = steps_charged(ledger)

        def work(after: int = after, reservation: Reservation = reservation) -> None:
            child = reopened(path)
            killing(child, after)
            child.spent(reservation, UPDATE)

        status = in_child(work)
        assert steps_charged(ledger) == before
        assert ledger.stored("run-1", 1, base) in (None, UPDATE)
        if status == 0:
            assert ledger.stored("run-1", 1, base) == UPDATE
            break
        killed += 1
    assert status == 0
    assert killed >= 5
    ledger.close()


def test_kill_at_any_write_of_a_new_ledger_leaves_one_that_opens(tmp_path: Path) -> None:
    killed = 0
    for after in range(1, 40):
        path = tmp_path / str(after) / "budget.db"

        def work(after: int = after, path: Path = path) -> None:
            fsync = os.fsync
            left = [after]

            def ticking(descriptor: int) -> None:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                fsync(descriptor)

            os.fsync = ticking  # type: ignore[assignment]
            reserve(reopened(path), mechanism=TINY, plan_total=TINY)

        status = in_child(work)
        opened = reopened(path)
        assert steps_charged(opened) in ((1,) if status == 0 else (0, 1))
        reserve(opened, mechanism=TINY, plan_total=TINY, base_digest=BASE)
        opened.close()
        if status == 0:
            break
        killed += 1
    assert status == 0
    assert killed >= 2


def test_ledger_waits_while_another_process_holds_its_lock(
    ledger: BudgetLedger, path: Path
) -> None:
    holder = os.open(path.with_name(path.name + ".lock"), os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    waiting = threading.Thread(target=lambda: reserve(ledger, mechanism=TINY, plan_total=TINY))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    os.close(holder)
    waiting.join(10)
    assert not waiting.is_alive()
    assert steps_charged(ledger) == 1


def test_of_two_processes_at_once_only_what_fits_is_granted(path: Path) -> None:
    reopened(path).close()
    half = Mechanism(Decimal("4.0"), 1, 10, 100)
    start = time.monotonic() + 0.3

    def work(run_id: str) -> Callable[[], None]:
        def run() -> None:
            ledger = reopened(path)
            time.sleep(max(0.0, start - time.monotonic()))
            reserve(ledger, run_id=run_id, mechanism=half, plan_total=half)

        return run

    pids = []
    for run_id in ("run-1", "run-2", "run-3"):
        pid = os.fork()
        if pid == 0:
            status = 3
            try:
                work(run_id)()
                status = 0
            except BudgetExceeded:
                status = 1
            finally:
                os._exit(status)
        pids.append(pid)
    statuses = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
    assert statuses == [0, 1, 1]
    opened = reopened(path)
    assert opened.summary().epsilon_spent <= 1
    opened.close()
