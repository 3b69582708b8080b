"""`pleura server runs`: create, list, show, stop and report, on the coordinator's host.

Works on the coordinator's files; a running coordinator sees a change within a
second. Standard output is data, standard error is talk.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from pleura.common.cli import console, operator_errors
from pleura.common.clock import SystemClock, to_rfc3339
from pleura.common.ids import parse_run_id, short
from pleura.common.keys import load_key
from pleura.server.creating import create_run, read_plan, stop_run
from pleura.server.errors import ConfirmationMissing
from pleura.server.ledger.log import StatementLog
from pleura.server.runs import AnswerRecord, RoundRecord, Run
from pleura.server.settings import CONFIG_ENV, ServerSettings, load_settings
from pleura.server.sites import SiteRegistry
from pleura.server.store import RunStore

app = typer.Typer(help="Create, list, show, stop and report runs.", no_args_is_help=True)

DEFAULT_CONFIG = Path("server.toml")
ConfigOption = Annotated[
    Path, typer.Option("--config", envvar=CONFIG_ENV, help="The coordinator's server.toml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


@dataclass(frozen=True, slots=True)
class Desk:
    """The coordinator's files, opened for one command."""

    settings: ServerSettings
    store: RunStore
    log: StatementLog
    registry: SiteRegistry
    now: datetime


@contextmanager
def open_desk(config: Path) -> Iterator[Desk]:
    """Open the coordinator's files; errors of the tree end the command with their status."""
    with operator_errors():
        settings, clock = load_settings(config), SystemClock()
        store, log = RunStore(settings.runs_db_file), StatementLog(settings.log_db_file)
        registry = SiteRegistry(settings.sites_db_file, clock)
        try:
            yield Desk(settings, store, log, registry, clock.now())
        finally:
            for part in (store, log, registry):
                part.close()


@app.command()
def create(
    plan: Annotated[Path, typer.Option("--plan", help="Plan file (TOML).")],
    initial_model: Annotated[Path, typer.Option("--initial-model", help="Packed model file.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Check a plan and its initial model, sign both and start the run."""
    with open_desk(config) as desk:
        run = create_run(
            read_plan(plan, desk.settings, desk.now),
            initial_model,
            settings=desk.settings,
            registry=desk.registry,
            store=desk.store,
            log=desk.log,
            key=load_key(desk.settings.signing_key_file),
            now=desk.now,
        )
        _say_run(run, as_json)
        privacy = run.plan.privacy
        if privacy.mode == "dp":
            noise = f"sigma {privacy.sigma}, delta {privacy.delta}"
            console().print(
                f"A patient's whole cost is at most epsilon {privacy.epsilon} ({noise})."
            )
        else:
            console().print("[yellow]No differential privacy: no formal guarantee.[/]")


@app.command("list")
def list_runs(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show every run with its state and last completed round."""
    with open_desk(config) as desk:
        rows = [_row(run) for run in desk.store.all()]
        if as_json:
            _print_json(rows)
            return
        table = Table(
            Column("run", no_wrap=True, overflow="fold"),
            "task",
            "state",
            "round",
            "code",
            "created",
        )
        for row in rows:
            done = f"{row['round']}/{row['rounds']}"
            cells = (row["run_id"], row["task"], row["state"], done, row["code"], row["created_at"])
            table.add_row(*(str(cell or "-") for cell in cells))
        Console().print(table)


@app.command()
def show(
    run: RunArgument, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """Show a run: its rounds, what each site answered, and its models."""
    with open_desk(config) as desk:
        run_id = parse_run_id(run)
        found = desk.store.get(run_id)
        rounds = [_round_row(r, desk.store.answers(r.key)) for r in desk.store.rounds(run_id)]
        models = [
            {"round": m.round, **m.ref.model_dump(mode="json")} for m in desk.store.models(run_id)
        ]
        if as_json:
            plan = found.plan.model_dump(mode="json", by_alias=True)
            _print_json({**_row(found), "plan": plan, "rounds": rounds, "models": models})
            return
        _say_run(found, False)
        table = Table("round", "kind", "attempt", "state", "sites")
        for row in rounds:
            sites = ", ".join(f"{a['site_id']}: {a['decision']}" for a in row["answers"])
            table.add_row(
                str(row["round"]), row["kind"], str(row["attempt"]), row["state"], sites or "-"
            )
        Console().print(table)


@app.command()
def stop(
    run: RunArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Really stop; a run cannot go on.")] = False,
) -> None:
    """End a run for good; its last model is kept."""
    with open_desk(config) as desk:
        if not yes:
            raise ConfirmationMissing(run)
        stopped = stop_run(
            parse_run_id(run),
            store=desk.store,
            log=desk.log,
            key=load_key(desk.settings.signing_key_file),
            now=desk.now,
        )
        console().print(f"{stopped.run_id} is stopped after round {stopped.round}.")


@app.command()
def report(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Write the report page of a run and print its path."""
    with operator_errors():
        run_id, settings = parse_run_id(run), load_settings(config)
        writer = importlib.import_module("pleura.server.reports.html")  # brings matplotlib
        sys.stdout.write(f"{writer.write_report(run_id, settings, out)}\n")


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _say_run(run: Run, as_json: bool) -> None:
    if as_json:
        _print_json(_row(run))
        return
    sys.stdout.write(f"{run.run_id}\n")
    state = f"{run.state.value}, round {run.round} of {run.plan.fed.rounds}"
    console().print(f"plan {short(run.plan_hash)}: {state}" + (f", {run.code}" if run.code else ""))


def _row(run: Run) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "task": run.plan.task.name,
        "plan_hash": run.plan_hash,
        "state": run.state.value,
        "round": run.round,
        "rounds": run.plan.fed.rounds,
        "code": run.code,
        "created_at": to_rfc3339(run.created_at),
        "updated_at": to_rfc3339(run.updated_at),
    }


def _round_row(record: RoundRecord, answers: tuple[AnswerRecord, ...]) -> dict[str, Any]:
    return {
        "round": record.key.round,
        "kind": record.key.kind.value,
        "attempt": record.key.attempt,
        "state": record.state.value,
        "order_digest": record.digest,
        "opened_at": to_rfc3339(record.opened_at),
        "closed_at": None if record.closed_at is None else to_rfc3339(record.closed_at),
        "code": record.code,
        "answers": [
            {"site_id": a.site_id, "kind": a.kind, "decision": a.decision, "digest": a.digest}
            for a in answers
        ],
    }
