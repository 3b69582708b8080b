"""Budget ledger: a site's durable account of what its patients have been charged.

A round is charged before its first gradient and stays charged whatever happens
next: a kill, a full disk or a lost update never gives budget back. What was
trained once is sent again from the store, never trained again. Anything that does
not add up is a refusal. A seal beside the file holds count and head under a key,
so a shortened or older file is found; a copy of the whole folder is found only by
`check_anchor`, against a head that another party kept.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from pleura.client.errors import (
    BudgetDamaged,
    BudgetExceeded,
    BudgetTermsDiffer,
    RoundOvercharged,
    UpdateAlreadySpent,
)
from pleura.client.privacy.budget_rows import (
    Charge,
    LedgerState,
    Row,
    Terms,
    charge_row,
    genesis_row,
    replay,
    row_hash,
    spent_row,
)
from pleura.common import events
from pleura.common.canonical import canonical_json, parse_json
from pleura.common.database import open_database, transaction
from pleura.common.errors import DatabaseDamaged, EnvelopeMalformed, PleuraError
from pleura.common.files import write_atomic
from pleura.common.privacy.accounting import Decision, Mechanism, admits, epsilon, filter_order

_VERSION: Final = 1
_SEAL_DOMAIN: Final = b"pleura-budget-seal-v1\0"
_KEY_BYTES: Final = 32
_SCHEMA: Final = """
CREATE TABLE rows (
    seq INTEGER PRIMARY KEY, body BLOB NOT NULL, row_hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER rows_stay BEFORE UPDATE ON rows BEGIN
    SELECT RAISE(ABORT, 'append only');
END;
CREATE TRIGGER rows_remain BEFORE DELETE ON rows BEGIN
    SELECT RAISE(ABORT, 'append only');
END;
"""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A charged attempt; `epsilon_*` are bounds at the cohort's delta, this attempt included."""

    seq: int
    run_id: str
    round: int
    attempt: int
    epsilon_run: float
    epsilon_total_after: float
    head: str


@dataclass(frozen=True, slots=True)
class RunSpend:
    """What one run was charged so far."""

    run_id: str
    epsilon: float
    steps: int


@dataclass(frozen=True, slots=True)
class BudgetSummary:
    """The account as it stands; `cap` and `delta` are None until the first reservation."""

    epsilon_spent: float
    cap: Decimal | None
    delta: Decimal | None
    runs: tuple[RunSpend, ...]
    count: int
    head: str


class BudgetLedger:
    """The ledger in one file, with `.seal` and `.lock` beside it."""

    def __init__(self, path: Path, *, seal_key: bytes, max_attempts: int = 2) -> None:
        """Open or create the ledger and check every row.

        Args:
            path: the database file, in the trainer's private folder.
            seal_key: 32 bytes from the site's key store, for this use only.
            max_attempts: how often one round may be charged.

        Raises:
            BudgetDamaged: the file is missing, shortened or altered.
            DiskFull: the volume has no room.
        """
        if len(seal_key) != _KEY_BYTES:
            raise BudgetDamaged("the seal key has the wrong length")
        self._seal_key = seal_key
        self._max_attempts = max_attempts
        self._seal_path = path.with_name(path.name + ".seal")
        self._lock_path = path.with_name(path.name + ".lock")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            self._claim(path)
            try:
                self._db = open_database(path, schema=_SCHEMA, version=_VERSION)
            except (DatabaseDamaged, sqlite3.Error) as exc:
                raise BudgetDamaged("the file is not a sound ledger") from exc
            self._read()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def reserve(
        self,
        run_id: str,
        plan_hash: str,
        round: int,
        attempt: int,
        mechanism: Mechanism,
        *,
        base_digest: str,
        cohort: str,
        delta: Decimal,
        cap: Decimal,
        plan_total: Mechanism,
    ) -> Reservation:
        """Charge one attempt at a round, durably, before its first gradient.

        The first reservation of a run also checks that its whole plan fits, and the
        very first of the ledger fixes cohort, delta and cap. A lower cap later is
        obeyed; a higher one needs a new budget.

        Args:
            mechanism: sigma, q and steps of this round.
            base_digest: tensor digest of the round's base model.
            plan_total: sigma, q and steps of the whole run.

        Raises:
            BudgetExceeded: the round or the plan does not fit under the cap.
            BudgetTermsDiffer: cohort, delta, cap or plan are not the fixed ones.
            RoundOvercharged: the round was charged `max_attempts` times.
            UpdateAlreadySpent: `stored` has the update of this round and base.
            AccountingFailed: no finite figure exists.
            BudgetDamaged, DiskFull: nothing may be trained.
        """
        try:
            with self._appending() as state:
                terms = state.terms or Terms(cohort, delta, cap, filter_order(cap, delta))
                _check_terms(terms, cohort, delta, cap)
                _check_run(state, run_id, plan_hash, mechanism, plan_total)
                self._check_repeat(state, run_id, round, base_digest)
                decision = _decide(state, terms, run_id, mechanism, plan_total, cap)
                if state.terms is None:
                    self._append(state, genesis_row(terms))
                charge = Charge(
                    state.count, run_id, round, attempt, mechanism, plan_hash, base_digest
                )
                charged = [one.mechanism for one in state.of_run(run_id)] + [mechanism]
                spent = epsilon(charged, terms.delta)
                head = self._append(state, charge_row(charge, terms.cohort, state.head))
        except PleuraError as exc:
            events.emit("budget.refused", run=run_id, round=round, code=exc.code)
            raise
        events.emit(
            "budget.reserved", run=run_id, round=round, attempt=attempt, epsilon=decision.epsilon
        )
        return Reservation(charge.seq, run_id, round, attempt, spent, decision.epsilon, head)

    def spent(self, reservation: Reservation, stored_digest: str) -> None:
        """Record, durably, which stored bytes a reservation led to; the same twice is fine.

        Raises:
            BudgetDamaged: the reservation is not in the ledger, or led to other bytes.
            DiskFull: the volume has no room; the charge stays.
        """
        with self._appending() as state:
            charge = state.charges.get(reservation.seq)
            if charge is None or state.terms is None or charge.run_id != reservation.run_id:
                raise BudgetDamaged("the reservation is not in the ledger")
            known = state.stored.get(charge.seq)
            if known not in (None, stored_digest):
                raise BudgetDamaged("the reservation led to other bytes")
            if known is None:
                row = spent_row(
                    state.count, charge.seq, state.terms.cohort, state.head, stored_digest
                )
                self._append(state, row)
        events.emit(
            "budget.spent",
            run=charge.run_id,
            round=charge.round,
            attempt=charge.attempt,
            digest=stored_digest[:12],
        )

    def stored(self, run_id: str, round: int, base_digest: str) -> str | None:
        """Return the digest of the stored update of this round and base, to send again.

        Raises:
            BudgetDamaged: the ledger fails its check.
        """
        with self._locked():
            return self._read().stored_update(run_id, round, base_digest)

    def summary(self) -> BudgetSummary:
        """Return what was charged in all and by run; reserved counts as spent.

        Raises:
            BudgetDamaged: the ledger fails its check.
            AccountingFailed: no finite figure exists.
        """
        with self._locked():
            state = self._read()
        if state.terms is None:
            return BudgetSummary(0.0, None, None, (), state.count, state.head)
        delta, runs = state.terms.delta, state.by_run()
        spends = tuple(
            RunSpend(run_id, epsilon(charged, delta), sum(m.steps for m in charged))
            for run_id, charged in runs.items()
        )
        total = epsilon([m for charged in runs.values() for m in charged], delta)
        return BudgetSummary(total, state.terms.cap, delta, spends, state.count, state.head)

    def check_anchor(self, count: int, head: str) -> None:
        """Check that the ledger still holds what it held when another party noted its head.

        Raises:
            BudgetDamaged: it is older than the anchor, or another ledger.
        """
        with self._locked():
            state = self._read()
        if count and (state.count < count or state.hashes[count - 1] != head):
            raise BudgetDamaged("older than its anchor")

    # --- decisions -------------------------------------------------------------

    def _check_repeat(
        self, state: LedgerState, run_id: str, round_number: int, base_digest: str
    ) -> None:
        if state.stored_update(run_id, round_number, base_digest) is not None:
            raise UpdateAlreadySpent(f"round {round_number}")
        tried = sum(1 for charge in state.of_run(run_id) if charge.round == round_number)
        if tried >= self._max_attempts:
            raise RoundOvercharged(f"round {round_number} was charged {tried} times")

    # --- effects ---------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the file lock: one process at a time reads, decides and writes."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _appending(self) -> Iterator[LedgerState]:
        """Yield the checked state inside one write transaction; seal it once it is durable."""
        with self._locked():
            try:
                with transaction(self._db):
                    state = self._read()
                    yield state
            except sqlite3.Error as exc:
                raise BudgetDamaged("the ledger could not be written") from exc
            self._seal(state.count, state.head)

    def _append(self, state: LedgerState, row: Row) -> str:
        digest = row_hash(row)
        self._db.execute(
            "INSERT INTO rows (seq, body, row_hash) VALUES (?, ?, ?)",
            (row["seq"], canonical_json(row), digest),
        )
        state.count, state.head = state.count + 1, digest
        return digest

    def _read(self) -> LedgerState:
        try:
            rows = self._db.execute("SELECT body, row_hash FROM rows ORDER BY seq").fetchall()
        except sqlite3.Error as exc:
            raise BudgetDamaged("the ledger cannot be read") from exc
        state = replay(rows)
        count, head = self._sealed()
        if count > state.count or (count and state.hashes[count - 1] != head):
            raise BudgetDamaged("shorter than its seal, or another ledger")
        return state

    def _claim(self, path: Path) -> None:
        """Before a new file is made, write the seal of an empty one; refuse a lost file."""
        if path.exists():
            return
        if self._seal_path.exists():
            if self._sealed()[0]:
                raise BudgetDamaged("the file is gone, its seal is not")
            return
        self._seal(0, "")

    def _seal(self, count: int, head: str) -> None:
        seal = {"count": count, "head": head, "mac": self._mac(count, head)}
        write_atomic(self._seal_path, canonical_json(seal))

    def _sealed(self) -> tuple[int, str]:
        try:
            seal = parse_json(self._seal_path.read_bytes(), max_bytes=1024)
            count, head, mac = seal["count"], seal["head"], seal["mac"]
            genuine = hmac.compare_digest(mac, self._mac(count, head))
        except (OSError, EnvelopeMalformed, LookupError, TypeError) as exc:
            raise BudgetDamaged("the seal is missing or unreadable") from exc
        if not genuine:
            raise BudgetDamaged("the seal does not fit its key")
        return count, head

    def _mac(self, count: int, head: str) -> str:
        message = _SEAL_DOMAIN + canonical_json({"count": count, "head": head})
        return hmac.new(self._seal_key, message, "sha256").hexdigest()


def _check_terms(terms: Terms, cohort: str, delta: Decimal, cap: Decimal) -> None:
    if cohort != terms.cohort:
        raise BudgetTermsDiffer("another cohort")
    if delta != terms.delta:
        raise BudgetTermsDiffer("another delta")
    if cap > terms.cap:
        raise BudgetTermsDiffer("a higher cap")


def _check_run(
    state: LedgerState, run_id: str, plan_hash: str, mechanism: Mechanism, plan_total: Mechanism
) -> None:
    if any(charge.plan_hash != plan_hash for charge in state.of_run(run_id)):
        raise BudgetTermsDiffer("the run began with another plan")
    same = (mechanism.sigma, mechanism.q) == (plan_total.sigma, plan_total.q)
    if not same or mechanism.steps > plan_total.steps:
        raise BudgetTermsDiffer("the round is not part of the plan")


def _decide(
    state: LedgerState,
    terms: Terms,
    run_id: str,
    mechanism: Mechanism,
    plan_total: Mechanism,
    cap: Decimal,
) -> Decision:
    """Return the admitted decision for this attempt.

    Raises:
        BudgetExceeded: the whole plan, at its start, or this attempt does not fit.
    """
    runs = state.by_run()
    charged = runs.pop(run_id, [])
    others = list(runs.values())
    wishes = [[*charged, mechanism]] if charged else [[plan_total], [mechanism]]
    for wish in wishes:
        decision = admits(others, wish, cap=cap, delta=terms.delta, order=terms.order)
        if not decision.admitted:
            raise BudgetExceeded(decision.reason)
    return decision
