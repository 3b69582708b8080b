"""The run store: everything a restarted ServerApp needs, in one SQLite file.

Every public method is one durable transaction (`synchronous=FULL`). A round's
order is stored before it is sent, its set of answers is frozen (`closing`) before
anything is computed from it, and the new model, the closed round and the run's
progress are committed together. Repeating a step after a crash changes nothing.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from pleura.common.canonical import sha256_hex
from pleura.common.clock import to_rfc3339
from pleura.common.database import open_database, transaction
from pleura.common.ids import RunId, SiteId
from pleura.common.orders import BlobRef, Order, RunPlan
from pleura.common.results import EvaluationStatement
from pleura.server.errors import RunExists, RunStopped, RunUnknown
from pleura.server.runs import (
    ADMITTED,
    AnswerRecord,
    Evaluation,
    ModelRecord,
    RoundKey,
    RoundKind,
    RoundRecord,
    RoundState,
    Run,
    RunState,
    kind_of,
)

SCHEMA = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    plan TEXT NOT NULL,
    plan_hash TEXT NOT NULL CHECK (length(plan_hash) = 64),
    state TEXT NOT NULL CHECK (state IN ('created', 'running', 'finished', 'failed', 'stopped')),
    round INTEGER NOT NULL CHECK (round >= 0),
    initial TEXT NOT NULL,
    code TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;
CREATE TABLE rounds (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    round INTEGER NOT NULL CHECK (round >= 0),
    kind TEXT NOT NULL CHECK (kind IN ('train', 'test', 'external')),
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    order_json TEXT NOT NULL,
    envelope BLOB NOT NULL,
    digest TEXT NOT NULL UNIQUE CHECK (length(digest) = 64),
    nonce TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('open', 'closing', 'closed', 'failed')),
    opened_at TEXT NOT NULL,
    deadline_at TEXT NOT NULL,
    closed_at TEXT,
    code TEXT,
    PRIMARY KEY (run_id, round, kind, attempt)
) STRICT;
CREATE TABLE answers (
    run_id TEXT NOT NULL,
    round INTEGER NOT NULL,
    kind TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    site_id TEXT NOT NULL,
    answer_kind TEXT NOT NULL,
    envelope BLOB NOT NULL,
    digest TEXT NOT NULL CHECK (length(digest) = 64),
    decision TEXT NOT NULL,
    statement TEXT,
    received_at TEXT NOT NULL,
    PRIMARY KEY (run_id, round, kind, attempt, site_id),
    FOREIGN KEY (run_id, round, kind, attempt) REFERENCES rounds (run_id, round, kind, attempt)
) STRICT;
CREATE TABLE models (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    round INTEGER NOT NULL CHECK (round >= 0),
    ref TEXT NOT NULL,
    statement_digest TEXT NOT NULL CHECK (length(statement_digest) = 64),
    PRIMARY KEY (run_id, round)
) STRICT;
"""
_ORDER: TypeAdapter[Order] = TypeAdapter(Order)
_ROUND = "run_id = ? AND round = ? AND kind = ? AND attempt = ?"


class RunStore:
    """Runs, rounds, answers and models of one coordinator."""

    def __init__(self, path: Path) -> None:
        """Open or create the store.

        Raises:
            DatabaseDamaged: the file failed its check.
        """
        self._db = open_database(path, schema=SCHEMA, version=1)

    def close(self) -> None:
        self._db.close()

    # runs

    def create(self, plan: RunPlan, initial: BlobRef, statement_digest: str, now: datetime) -> Run:
        """Store a new run in state `created` with its initial model as the model of round 0.

        Raises:
            RunExists: the plan's run id is taken.
        """
        moment = to_rfc3339(now)
        try:
            with transaction(self._db) as db:
                db.execute(
                    "INSERT INTO runs VALUES (?, ?, ?, 'created', 0, ?, NULL, ?, ?)",
                    (
                        plan.run_id,
                        plan.model_dump_json(by_alias=True),
                        plan.digest,
                        initial.model_dump_json(),
                        moment,
                        moment,
                    ),
                )
                db.execute(
                    "INSERT INTO models VALUES (?, 0, ?, ?)",
                    (plan.run_id, initial.model_dump_json(), statement_digest),
                )
        except sqlite3.IntegrityError as exc:
            raise RunExists(plan.run_id) from exc
        return self.get(plan.run_id)

    def get(self, run_id: RunId) -> Run:
        """Return a run.

        Raises:
            RunUnknown: there is none of this id.
        """
        row = self._db.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            raise RunUnknown(run_id)
        return _run(row)

    def state_of(self, run_id: RunId) -> RunState:
        """Return only the state of a run.

        Raises:
            RunUnknown: there is none of this id.
        """
        row = self._db.execute("SELECT state FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            raise RunUnknown(run_id)
        return RunState(row["state"])

    def unfinished(self) -> tuple[RunId, ...]:
        """Return the ids of the runs that are created or running, oldest first."""
        rows = self._db.execute(
            "SELECT run_id FROM runs WHERE state IN ('created', 'running') ORDER BY created_at"
        )
        return tuple(RunId(row["run_id"]) for row in rows)

    def all(self) -> tuple[Run, ...]:
        """Return every run, oldest first."""
        rows = self._db.execute("SELECT * FROM runs ORDER BY created_at, run_id")
        return tuple(_run(row) for row in rows)

    def set_state(
        self, run_id: RunId, state: RunState, now: datetime, code: str | None = None
    ) -> bool:
        """Move a run to `state` unless it already ended; return whether it moved."""
        with transaction(self._db) as db:
            changed = db.execute(
                "UPDATE runs SET state = ?, code = ?, updated_at = ?"
                " WHERE run_id = ? AND state IN ('created', 'running')",
                (state.value, code, to_rfc3339(now), run_id),
            ).rowcount
        return changed == 1

    # rounds

    def open_round(self, order: Order, envelope: bytes, now: datetime) -> RoundRecord:
        """Store a signed order before it is sent.

        Updates admitted in the attempt before count in this one: the base model is
        the same, and asking those sites again would cost their patients budget twice.
        """
        key = RoundKey(order.run_id, order.round, kind_of(order), order.attempt)
        with transaction(self._db) as db:
            db.execute(
                "INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, NULL, NULL)",
                (
                    *_params(key),
                    order.model_dump_json(by_alias=True),
                    envelope,
                    sha256_hex(envelope),
                    order.nonce,
                    to_rfc3339(now),
                    to_rfc3339(order.expires_at),
                ),
            )
            db.execute(
                "INSERT INTO answers SELECT run_id, round, kind, ?, site_id, answer_kind, envelope,"
                " digest, decision, statement, received_at FROM answers"
                f" WHERE {_ROUND} AND decision = ?",
                (key.attempt, key.run_id, key.round, key.kind, key.attempt - 1, ADMITTED),
            )
        return self._round(key)

    def latest_round(self, run_id: RunId, round_: int, kind: RoundKind) -> RoundRecord | None:
        """Return the last attempt of a round, or None if it was never opened."""
        row = self._db.execute(
            "SELECT * FROM rounds WHERE run_id = ? AND round = ? AND kind = ?"
            " ORDER BY attempt DESC LIMIT 1",
            (run_id, round_, kind.value),
        ).fetchone()
        return None if row is None else _round(row)

    def rounds(self, run_id: RunId) -> tuple[RoundRecord, ...]:
        """Return every attempt of every round of a run, in order of opening."""
        rows = self._db.execute(
            "SELECT * FROM rounds WHERE run_id = ?"
            " ORDER BY round, kind = 'external', kind = 'test', attempt",
            (run_id,),
        )
        return tuple(_round(row) for row in rows)

    def freeze_answers(self, key: RoundKey) -> None:
        """Fix the set of answers: from now on the round accepts none."""
        with transaction(self._db) as db:
            db.execute(
                f"UPDATE rounds SET state = 'closing' WHERE {_ROUND} AND state = 'open'",
                _params(key),
            )

    def end_round(self, key: RoundKey, now: datetime, code: str | None = None) -> None:
        """Close a round without a model, or fail it with `code`."""
        state = RoundState.CLOSED if code is None else RoundState.FAILED
        with transaction(self._db) as db:
            _end_round(db, key, state, now, code)

    def commit_model(self, key: RoundKey, model: ModelRecord, now: datetime) -> None:
        """Store the round's model, close the round and move the run on, all or nothing.

        Raises:
            RunStopped: the run ended meanwhile; its closing statement names the model
                before, so nothing is stored.
        """
        with transaction(self._db) as db:
            if self.state_of(key.run_id).is_final:
                raise RunStopped(key.run_id)
            db.execute(
                "INSERT INTO models VALUES (?, ?, ?, ?)",
                (key.run_id, model.round, model.ref.model_dump_json(), model.statement_digest),
            )
            _end_round(db, key, RoundState.CLOSED, now, None)
            db.execute(
                "UPDATE runs SET round = ?, updated_at = ? WHERE run_id = ?",
                (model.round, to_rfc3339(now), key.run_id),
            )

    # answers

    def record_answer(self, answer: AnswerRecord) -> bool:
        """Store a site's first answer to an open round; return whether it was stored."""
        with transaction(self._db) as db:
            state = db.execute(
                f"SELECT state FROM rounds WHERE {_ROUND}", _params(answer.key)
            ).fetchone()
            if state is None or state["state"] != RoundState.OPEN:
                return False
            stored = db.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (
                    *_params(answer.key),
                    answer.site_id,
                    answer.kind,
                    answer.envelope,
                    answer.digest,
                    answer.decision,
                    answer.statement,
                    to_rfc3339(answer.received_at),
                ),
            ).rowcount
        return stored == 1

    def answers(self, key: RoundKey) -> tuple[AnswerRecord, ...]:
        """Return the answers of one attempt, sites in byte order."""
        rows = self._db.execute(
            f"SELECT * FROM answers WHERE {_ROUND} ORDER BY site_id", _params(key)
        )
        return tuple(_answer(row) for row in rows)

    def all_answers(self, run_id: RunId) -> tuple[AnswerRecord, ...]:
        """Return the answers of a whole run, by round, attempt and site."""
        rows = self._db.execute(
            "SELECT * FROM answers WHERE run_id = ? ORDER BY round, kind, attempt, site_id",
            (run_id,),
        )
        return tuple(_answer(row) for row in rows)

    def evaluations(self, run_id: RunId) -> tuple[Evaluation, ...]:
        """Return every admitted evaluation of a run, by round, split and site."""
        return tuple(
            Evaluation(
                answer.key.round,
                answer.site_id,
                answer.digest,
                EvaluationStatement.model_validate_json(answer.statement),
            )
            for answer in self.all_answers(run_id)
            if answer.kind == "evaluation" and answer.is_admitted and answer.statement is not None
        )

    # models

    def models(self, run_id: RunId) -> tuple[ModelRecord, ...]:
        """Return the run's models; the first is the initial one, of round 0."""
        rows = self._db.execute("SELECT * FROM models WHERE run_id = ? ORDER BY round", (run_id,))
        return tuple(_model(row) for row in rows)

    def model(self, run_id: RunId, round_: int) -> ModelRecord | None:
        """Return the model after a round, or None if that round is not complete."""
        row = self._db.execute(
            "SELECT * FROM models WHERE run_id = ? AND round = ?", (run_id, round_)
        ).fetchone()
        return None if row is None else _model(row)

    def is_model(self, blob_sha256: str) -> bool:
        """Tell whether a blob is a model of any run."""
        row = self._db.execute(
            "SELECT 1 FROM models WHERE json_extract(ref, '$.blob_sha256') = ? LIMIT 1",
            (blob_sha256,),
        ).fetchone()
        return row is not None

    def _round(self, key: RoundKey) -> RoundRecord:
        row = self._db.execute(f"SELECT * FROM rounds WHERE {_ROUND}", _params(key)).fetchone()
        return _round(row)


def _end_round(
    db: sqlite3.Connection, key: RoundKey, state: RoundState, now: datetime, code: str | None
) -> None:
    db.execute(
        f"UPDATE rounds SET state = ?, closed_at = ?, code = ? WHERE {_ROUND}",
        (state.value, to_rfc3339(now), code, *_params(key)),
    )


def _params(key: RoundKey) -> tuple[str, int, str, int]:
    return key.run_id, key.round, key.kind.value, key.attempt


def _key(row: sqlite3.Row) -> RoundKey:
    return RoundKey(RunId(row["run_id"]), row["round"], RoundKind(row["kind"]), row["attempt"])


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _run(row: sqlite3.Row) -> Run:
    return Run(
        run_id=RunId(row["run_id"]),
        plan=RunPlan.model_validate_json(row["plan"]),
        plan_hash=row["plan_hash"],
        state=RunState(row["state"]),
        round=row["round"],
        initial=BlobRef.model_validate_json(row["initial"]),
        code=row["code"],
        created_at=_moment(row["created_at"]),
        updated_at=_moment(row["updated_at"]),
    )


def _round(row: sqlite3.Row) -> RoundRecord:
    closed = row["closed_at"]
    return RoundRecord(
        key=_key(row),
        order=_ORDER.validate_json(row["order_json"]),
        envelope=row["envelope"],
        digest=row["digest"],
        state=RoundState(row["state"]),
        opened_at=_moment(row["opened_at"]),
        deadline_at=_moment(row["deadline_at"]),
        closed_at=None if closed is None else _moment(closed),
        code=row["code"],
    )


def _answer(row: sqlite3.Row) -> AnswerRecord:
    return AnswerRecord(
        key=_key(row),
        site_id=SiteId(row["site_id"]),
        kind=row["answer_kind"],
        envelope=row["envelope"],
        digest=row["digest"],
        decision=row["decision"],
        statement=row["statement"],
        received_at=_moment(row["received_at"]),
    )


def _model(row: sqlite3.Row) -> ModelRecord:
    return ModelRecord(
        row["round"], BlobRef.model_validate_json(row["ref"]), row["statement_digest"]
    )
