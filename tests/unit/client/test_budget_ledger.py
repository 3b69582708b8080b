"""The budget ledger never loses a charge and never lets one too many through."""

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
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pleura.client.errors import (
    BudgetDamaged,
    BudgetExceeded,
    BudgetTermsDiffer,
    RoundOvercharged,
    UpdateAlreadySpent,
)
from pleura.client.privacy import budget_rows
from pleura.client.privacy.budget import BudgetLedger, Reservation
from pleura.client.privacy.budget_rows import Charge, Terms
from pleura.common.errors import AccountingFailed, DiskFull
from pleura.common.privacy.accounting import Mechanism, epsilon

KEY = bytes(range(32))
DELTA = Decimal("1e-5")
PLAN = Mechanism(Decimal("4.0"), 1, 10, 100)  # 0.982854: V4
ROUND = Mechanism(Decimal("4.0"), 1, 10, 10)
TINY = Mechanism(Decimal("200"), 1, 100, 1)
HASH, BASE, UPDATE = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budget.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[BudgetLedger]:
    opened = BudgetLedger(path, seal_key=KEY)
    yield opened
    opened.close()


def reserve(ledger: BudgetLedger, round_number: int = 1, **changes: Any) -> Reservation:
    arguments: dict[str, Any] = {
        "run_id": "run-1",
        "plan_hash": HASH,
        "round": round_number,
        "attempt": 1,
        "mechanism": ROUND,
        "base_digest": f"{round_number:064d}",
        "cohort": "cohort-1",
        "delta": DELTA,
        "cap": Decimal(1),
        "plan_total": PLAN,
    }
    return ledger.reserve(**(arguments | changes))


def steps_charged(ledger: BudgetLedger) -> int:
    return sum(run.steps for run in ledger.summary().runs)


def reopened(path: Path, **changes: Any) -> BudgetLedger:
    return BudgetLedger(path, **({"seal_key": KEY} | changes))


# --- vectors of PRIVACY.md section 4 --------------------------------------------------


def test_genesis_and_first_charge_hash_to_the_vectors() -> None:
    terms = Terms("cohort-1", DELTA, Decimal(8), 4)
    genesis = budget_rows.row_hash(budget_rows.genesis_row(terms))
    assert genesis == "c9b5c561a9f6404ec5b49005b1852bcdbeba76a07caaa57285163472b82293b3"
    event = Mechanism(Decimal("1.8120"), 64, 1000, 16)
    row = budget_rows.charge_row(Charge(1, "run-1", 1, 1, event, "", ""), "cohort-1", genesis)
    assert row["event"] == {"T": 16, "q": "0.064", "sigma": "1.8120"}
    expected = "992dbc543a835c95ec1339418234e803f9410583313c0f72f9611f500f15a11d"
    assert budget_rows.row_hash(row) == expected


def test_first_reservation_writes_the_vector_genesis(ledger: BudgetLedger, path: Path) -> None:
    reserve(ledger, cap=Decimal(8))
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT row_hash FROM rows WHERE seq = 0").fetchone()[0]
    db.close()
    assert found == "c9b5c561a9f6404ec5b49005b1852bcdbeba76a07caaa57285163472b82293b3"


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (Fraction(64, 1000), "0.064"),
        (Fraction(1), "1"),
        (Fraction(1, 1024), "0.0009765625"),
        (Fraction(64, 300), "16/75"),
    ],
)
def test_rate_is_written_without_rounding(rate: Fraction, text: str) -> None:
    assert budget_rows.exact_text(rate) == text
    assert Fraction(text) == rate


# --- charging -------------------------------------------------------------------------


def test_each_round_is_charged_and_the_figures_add_up(ledger: BudgetLedger) -> None:
    assert ledger.summary().epsilon_spent == 0.0
    for number in range(1, 11):
        reservation = reserve(ledger, number)
        expected = epsilon([Mechanism(Decimal(4), 1, 10, 10 * number)], DELTA)
        assert reservation.epsilon_run == reservation.epsilon_total_after == expected
    summary = ledger.summary()
    assert summary.epsilon_spent == pytest.approx(0.982854, abs=1e-5)
    assert (summary.cap, summary.delta) == (Decimal(1), DELTA)
    assert [(run.run_id, run.steps) for run in summary.runs] == [("run-1", 100)]


def test_reservation_counts_as_spent_after_a_restart(ledger: BudgetLedger, path: Path) -> None:
    reserve(ledger)
    again = reopened(path)
    assert steps_charged(again) == 10
    assert again.stored("run-1", 1, f"{1:064d}") is None
    again.close()


def test_plan_above_the_cap_is_refused_before_its_first_round(ledger: BudgetLedger) -> None:
    with pytest.raises(BudgetExceeded, match="plan_over_cap"):
        reserve(ledger, cap=Decimal("0.98"))
    assert ledger.summary().count == 0
    reserve(ledger, cap=Decimal("0.983"))


def test_round_above_the_cap_is_refused_though_its_plan_fits(ledger: BudgetLedger) -> None:
    terms = {"cap": Decimal("0.99")}
    for number in range(1, 11):
        reserve(ledger, number, **terms)
    with pytest.raises(BudgetExceeded):  # a second attempt is one round more than the plan
        reserve(ledger, 10, attempt=2, **terms)
    assert steps_charged(ledger) == 100


def test_second_run_within_the_cap_is_refused_by_the_filter(ledger: BudgetLedger) -> None:
    for number in range(1, 11):
        reserve(ledger, number)
    with pytest.raises(BudgetExceeded, match="filter_over_cap"):
        reserve(
            ledger,
            run_id="run-2",
            plan_hash="d" * 64,
            mechanism=TINY,
            plan_total=TINY,
        )
    assert [run.run_id for run in ledger.summary().runs] == ["run-1"]


def test_second_run_that_passes_the_filter_is_charged_beside_the_first(
    ledger: BudgetLedger,
) -> None:
    first = reserve(ledger, mechanism=TINY, plan_total=TINY)
    second = reserve(ledger, run_id="run-2", mechanism=TINY, plan_total=TINY)
    assert second.epsilon_run == first.epsilon_run
    assert second.epsilon_total_after == epsilon([TINY, TINY], DELTA)


def test_first_run_meets_the_filter_once_a_second_has_begun(ledger: BudgetLedger) -> None:
    reserve(ledger, 1)
    reserve(ledger, run_id="run-2", mechanism=TINY, plan_total=TINY)
    with pytest.raises(BudgetExceeded, match="filter_over_cap"):
        for number in range(2, 11):
            reserve(ledger, number)
    assert steps_charged(ledger) < 101


def test_lower_cap_is_obeyed_and_a_higher_one_refused(ledger: BudgetLedger) -> None:
    reserve(ledger)
    with pytest.raises(BudgetTermsDiffer):
        reserve(ledger, 2, cap=Decimal("1.01"))
    with pytest.raises(BudgetExceeded, match="plan_over_cap"):
        reserve(ledger, 2, cap=Decimal("0.2"))
    reserve(ledger, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"cohort": "cohort-2"},
        {"delta": Decimal("1e-6")},
        {"plan_hash": "e" * 64},
        {"mechanism": Mechanism(Decimal("3.9"), 1, 10, 10)},
        {"mechanism": Mechanism(Decimal("4.0"), 1, 11, 10)},
        {"mechanism": Mechanism(Decimal("4.0"), 1, 10, 101)},
    ],
    ids=["cohort", "delta", "plan", "sigma", "q", "steps"],
)
def test_terms_other_than_the_fixed_ones_are_refused(
    ledger: BudgetLedger, changes: dict[str, Any]
) -> None:
    reserve(ledger)
    with pytest.raises(BudgetTermsDiffer):
        reserve(ledger, 2, **changes)
    assert steps_charged(ledger) == 10


def test_round_is_charged_for_each_attempt_up_to_the_limit(ledger: BudgetLedger) -> None:
    reserve(ledger, 1, attempt=1)
    reserve(ledger, 1, attempt=2)
    assert steps_charged(ledger) == 20
    with pytest.raises(RoundOvercharged):
        reserve(ledger, 1, attempt=3)
    with pytest.raises(RoundOvercharged):  # other base, same round: still the third charge
        reserve(ledger, 1, attempt=1, base_digest=BASE)


def test_plan_without_a_finite_figure_is_refused(ledger: BudgetLedger) -> None:
    endless = Mechanism(Decimal("1e-200"), 1, 1, 1)
    with pytest.raises(AccountingFailed):
        reserve(ledger, mechanism=endless, plan_total=endless)
    assert ledger.summary().count == 0


# --- stored updates ---------------------------------------------------------------------


def test_spent_round_gives_its_stored_update_and_no_second_charge(
    ledger: BudgetLedger, path: Path
) -> None:
    reservation = reserve(ledger, base_digest=BASE)
    ledger.spent(reservation, UPDATE)
    ledger.spent(reservation, UPDATE)  # said twice, written once
    again = reopened(path)
    for opened in (ledger, again):
        assert opened.stored("run-1", 1, BASE) == UPDATE
        assert opened.stored("run-1", 1, HASH) is None
        assert opened.stored("run-1", 2, BASE) is None
        with pytest.raises(UpdateAlreadySpent):
            reserve(opened, attempt=2, base_digest=BASE)
    assert steps_charged(again) == 10
    assert again.summary().count == 3
    again.close()


def test_reservation_that_led_to_other_bytes_is_damage(ledger: BudgetLedger) -> None:
    reservation = reserve(ledger)
    ledger.spent(reservation, UPDATE)
    with pytest.raises(BudgetDamaged):
        ledger.spent(reservation, HASH)


def test_reservation_of_another_ledger_is_refused(ledger: BudgetLedger) -> None:
    reserve(ledger)
    with pytest.raises(BudgetDamaged):
        ledger.spent(Reservation(7, "run-1", 1, 1, 0.1, 0.1, HASH), UPDATE)


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
