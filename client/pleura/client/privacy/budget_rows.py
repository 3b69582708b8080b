"""Budget rows: what one line of the budget ledger says, and what all lines add up to.

A row is RFC 8785 JSON that names the hash of the row before it, so none can be
changed, dropped or put in between. Rows only add: what a killed process reserved
stays charged. Pure; files and locks are `budget`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from pleura.client.errors import BudgetDamaged
from pleura.common.canonical import canonical_json, parse_json
from pleura.common.errors import AccountingFailed, EnvelopeMalformed
from pleura.common.privacy.accounting import Mechanism

ZERO_HASH: Final = "0" * 64
MECHANISM: Final = "p1-gaussian"
_DOMAIN: Final = b"pleura-budget-v1\0"
_MAX_ROW_BYTES: Final = 4096

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a cohort's genesis fixes for good."""

    cohort: str
    delta: Decimal
    cap: Decimal
    order: int


@dataclass(frozen=True, slots=True)
class Charge:
    """One attempt at one round: charged from the moment it is written."""

    seq: int
    run_id: str
    round: int
    attempt: int
    mechanism: Mechanism
    plan_hash: str
    base_digest: str


@dataclass(slots=True)
class LedgerState:
    """All rows read so far."""

    head: str = ZERO_HASH
    count: int = 0
    terms: Terms | None = None
    charges: dict[int, Charge] = field(default_factory=dict)  # by seq, oldest first
    stored: dict[int, str] = field(default_factory=dict)  # seq of a charge -> digest
    hashes: list[str] = field(default_factory=list)

    def of_run(self, run_id: str) -> list[Charge]:
        """Return the charges of a run, oldest first."""
        return [charge for charge in self.charges.values() if charge.run_id == run_id]

    def by_run(self) -> dict[str, list[Mechanism]]:
        """Return what each run was charged, in the order in which runs began."""
        runs: dict[str, list[Mechanism]] = {}
        for charge in self.charges.values():
            runs.setdefault(charge.run_id, []).append(charge.mechanism)
        return runs

    def stored_update(self, run_id: str, round_number: int, base_digest: str) -> str | None:
        """Return the digest of the update this round made from this base, if it was stored."""
        for charge in self.charges.values():
            key = (charge.run_id, charge.round, charge.base_digest)
            if key == (run_id, round_number, base_digest) and charge.seq in self.stored:
                return self.stored[charge.seq]
        return None


def row_hash(row: Row) -> str:
    """Return the hash that binds a row (without its own hash), 64 hex digits."""
    return hashlib.sha256(_DOMAIN + canonical_json(row)).hexdigest()


def genesis_row(terms: Terms) -> Row:
    """Return the first row of a cohort's budget."""
    return {
        "seq": 0,
        "prev_hash": ZERO_HASH,
        "kind": "genesis",
        "unit": "patient",
        "cohort_id": terms.cohort,
        "delta": _scientific(terms.delta),
        "eps_cap": _plain(terms.cap),
        "rdp_order": terms.order,
    }


def charge_row(charge: Charge, cohort: str, prev_hash: str) -> Row:
    """Return the row that reserves one attempt; empty digests are left out."""
    mechanism = charge.mechanism
    row: Row = {
        "seq": charge.seq,
        "prev_hash": prev_hash,
        "kind": "charge",
        "state": "reserved",
        "cohort_id": cohort,
        "run_id": charge.run_id,
        "round": charge.round,
        "attempt": charge.attempt,
        "mechanism": MECHANISM,
        "event": {
            "T": mechanism.steps,
            "q": exact_text(mechanism.q),
            "sigma": f"{mechanism.sigma:f}",
        },
    }
    optional = {"plan_hash": charge.plan_hash, "base_digest": charge.base_digest}
    return row | {name: value for name, value in optional.items() if value}


def spent_row(seq: int, ref_seq: int, cohort: str, prev_hash: str, stored_update: str) -> Row:
    """Return the row that says which stored bytes a charge led to."""
    return {
        "seq": seq,
        "prev_hash": prev_hash,
        "kind": "state",
        "state": "spent",
        "cohort_id": cohort,
        "ref_seq": ref_seq,
        "stored_update": stored_update,
    }


def exact_text(rate: Fraction) -> str:
    """Return a rate without rounding: `0.064`, or `16/75` where no decimal ends."""
    rest = rate.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return f"{rate.numerator}/{rate.denominator}"
    places = 0
    while (rate * 10**places).denominator != 1:
        places += 1
    return f"{Decimal((rate * 10**places).numerator).scaleb(-places):f}"


def replay(rows: Iterable[Sequence[bytes | str]]) -> LedgerState:
    """Check (body, hash) pairs in order and add them up.

    Raises:
        BudgetDamaged: a hash, number or shape does not fit.
    """
    state = LedgerState()
    for body, claimed in rows:
        data = body if isinstance(body, bytes) else body.encode()
        if hashlib.sha256(_DOMAIN + data).hexdigest() != claimed:
            raise BudgetDamaged(f"hash of row {state.count}")
        try:
            row = parse_json(data, max_bytes=_MAX_ROW_BYTES)
            if row["seq"] != state.count or row["prev_hash"] != state.head:
                raise BudgetDamaged(f"order of row {state.count}")
            _apply(state, row)
        except (EnvelopeMalformed, AccountingFailed, LookupError, TypeError) as exc:
            raise BudgetDamaged(f"shape of row {state.count}") from exc
        except (ValueError, ArithmeticError) as exc:
            raise BudgetDamaged(f"value in row {state.count}") from exc
        state.head = str(claimed)
        state.hashes.append(state.head)
        state.count += 1
    return state


def _apply(state: LedgerState, row: Row) -> None:
    kind = row["kind"]
    if (kind == "genesis") != (state.count == 0):
        raise BudgetDamaged("the genesis row is not the first, or stands twice")
    if kind == "genesis":
        state.terms = Terms(
            row["cohort_id"], Decimal(row["delta"]), Decimal(row["eps_cap"]), row["rdp_order"]
        )
    elif kind == "charge" and row["mechanism"] == MECHANISM:
        charge = _charge(row)
        state.charges[charge.seq] = charge
    elif kind == "state" and row["state"] == "spent":
        if row["ref_seq"] not in state.charges:
            raise BudgetDamaged("a state row names no charge")
        if row["ref_seq"] in state.stored:
            raise BudgetDamaged("a charge was spent twice")
        state.stored[row["ref_seq"]] = row["stored_update"]
    else:
        raise BudgetDamaged("unknown kind of row")


def _charge(row: Row) -> Charge:
    event = row["event"]
    rate = Fraction(event["q"])
    return Charge(
        seq=row["seq"],
        run_id=row["run_id"],
        round=row["round"],
        attempt=row["attempt"],
        mechanism=Mechanism(
            Decimal(event["sigma"]), rate.numerator, rate.denominator, int(event["T"])
        ),
        plan_hash=row.get("plan_hash", ""),
        base_digest=row.get("base_digest", ""),
    )


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _scientific(value: Decimal) -> str:
    """Return `1e-5`, `2.5e-6`: one digit before the point, no trailing zero."""
    _, digits, exponent = value.normalize().as_tuple()
    text = "".join(map(str, digits))
    mantissa = text[0] + ("." + text[1:] if text[1:] else "")
    return f"{mantissa}e{int(exponent) + len(text) - 1}"
