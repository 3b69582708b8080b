"""From the coordinator's stores to a study result; only admitted statements are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pleura.common.clock import to_rfc3339
from pleura.common.ids import RunId, SiteId
from pleura.common.results import DpReport, UpdateStatement
from pleura.server.ledger.log import StatementLog
from pleura.server.reports.study import SiteResult, StudyResult
from pleura.server.runs import (
    AnswerRecord,
    Evaluation,
    RoundKey,
    RoundKind,
    RoundRecord,
    RoundState,
    Run,
)
from pleura.server.settings import ServerSettings
from pleura.server.store import RunStore

NOT_ASKED = "not asked"


def load_study(run_id: RunId, settings: ServerSettings) -> StudyResult:
    """Return everything the report of a run shows.

    Raises:
        RunUnknown: no such run.
        DatabaseDamaged: the statement log does not verify.
    """
    store, log = RunStore(settings.runs_db_file), StatementLog(settings.log_db_file)
    try:
        run = store.get(run_id)
        head = log.verify()
        models = store.models(run_id)
        rounds, answers = store.rounds(run_id), store.all_answers(run_id)
        evaluations = store.evaluations(run_id)
    finally:
        store.close()
        log.close()
    plan = run.plan
    training = [
        _site(s, "training", run, rounds, answers, evaluations) for s in plan.training_sites
    ]
    external = [
        _site(s, "external", run, rounds, answers, evaluations) for s in plan.external_sites
    ]
    return StudyResult(
        plan=plan,
        state=run.state.value,
        rounds_done=run.round,
        started=to_rfc3339(run.created_at),
        finished=to_rfc3339(run.updated_at),
        initial_model=run.initial,
        final_model=models[-1].ref,
        sites=(*training, *external),
        curve=_curve(evaluations),
        log_size=head.size,
        log_head=head.digest,
    )


def _site(
    site: SiteId,
    role: str,
    run: Run,
    rounds: Sequence[RoundRecord],
    answers: Sequence[AnswerRecord],
    evaluations: Sequence[Evaluation],
) -> SiteResult:
    last = max((e for e in evaluations if e.site_id == site), key=lambda e: e.round, default=None)
    if last is not None and last.round != run.round:
        last = None  # an older model's metrics are not this model's
    kind = RoundKind.TEST if role == "training" else RoundKind.EXTERNAL
    report = last.statement if last else None
    return SiteResult(
        site=site,
        role=role,
        rounds=tuple(
            _word(site, n, RoundKind.TRAIN, rounds, answers) for n in range(1, run.round + 1)
        )
        if role == "training"
        else (),
        metrics=report.metrics if report else (),
        note="" if report else _word(site, run.round, kind, rounds, answers),
        patients=report.patients if report else "–",
        images=report.images if report else "–",
        privacy=_privacy(site, answers),
        removals=report.removals if report else (),
        quarantined=report.quarantined if report else "–",
    )


def _word(
    site: SiteId,
    number: int,
    kind: RoundKind,
    rounds: Iterable[RoundRecord],
    answers: Iterable[AnswerRecord],
) -> str:
    """Return `trained`, `absent`, or the code that the decisive attempt ended with."""
    asked = [
        r
        for r in rounds
        if r.key.round == number and r.key.kind is kind and r.state is not RoundState.FAILED
    ]
    if not asked:
        return NOT_ASKED
    key: RoundKey = max(asked, key=lambda r: r.key.attempt).key
    decision = next((a.decision for a in answers if a.key == key and a.site_id == site), None)
    if decision is None:
        return "absent"
    return "trained" if decision == "admitted" else decision


def _privacy(site: SiteId, answers: Iterable[AnswerRecord]) -> DpReport | None:
    updates = [
        UpdateStatement.model_validate_json(a.statement)
        for a in answers
        if a.site_id == site and a.is_admitted and a.kind == "update" and a.statement
    ]
    spent = [u.dp for u in updates if u.dp.mode == "dp"]
    return max(spent, key=lambda dp: dp.epsilon_run, default=None)


def _curve(evaluations: Iterable[Evaluation]) -> dict[str, tuple[tuple[int, float], ...]]:
    points: dict[str, list[tuple[int, float]]] = {}
    for evaluation in evaluations:
        auroc = next((m for m in evaluation.statement.metrics if m.name == "auroc"), None)
        if auroc is not None and auroc.value is not None:
            points.setdefault(evaluation.site_id, []).append((evaluation.round, auroc.value))
    return {site: tuple(sorted(values)) for site, values in points.items()}
