"""`pleura client`: everything an operator of a site does.

Standard output is data, standard error is talk. Every command takes `--config`
or the environment variable PLEURA_SITE_CONFIG.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pleura.client.settings import load_settings
from pleura.common.cli import console, operator_errors
from pleura.common.clock import SystemClock

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Run one site."
)
labels_app = typer.Typer(no_args_is_help=True, help="Labels of a task.")
app.add_typer(labels_app, name="labels")

CONFIG_ENV: Final = "PLEURA_SITE_CONFIG"
Config = Annotated[Path, typer.Option("--config", envvar=CONFIG_ENV, help="The site's site.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]


@app.command()
def join(code: Annotated[str, typer.Argument(help="One-time code from the lead.")],
         config: Config = Path("site.toml")) -> None:  # fmt: skip
    """Enrol this site: make its keys here and pin the coordinator."""
    from pleura.client.enrol import join as enrol

    with operator_errors():
        settings = load_settings(config)
        enrolled = enrol(settings, code, SystemClock())
        out = console()
        out.print(f"Joined [bold]{enrolled.standing.federation_id}[/] as {settings.site_id}.")
        out.print(f"State: {enrolled.standing.state}; the lead approves the site next.")
        out.print("Read this key id to the lead by phone; it must match on both sides:")
        sys.stdout.write(enrolled.key_id + "\n")


@app.command("retire-keys")
def retire_keys(
    config: Config = Path("site.toml"),
    yes: Annotated[bool, typer.Option("--yes", help="Set the keys aside for good.")] = False,
) -> None:
    """After a revocation: set this site's keys aside, so that `join` makes new ones."""
    from pleura.client.enrol import retire_keys as retire

    if not yes:
        raise typer.BadParameter("this ends the site's membership; repeat with --yes")
    with operator_errors():
        retire(load_settings(config))
    console().print("Keys set aside. Ask the lead for a new code: pleura client join CODE")


@app.command()
def run(config: Config = Path("site.toml")) -> None:
    """Run the site: trainer (no network), ingest, and agent, until stopped."""
    from pleura.client.supervisor import prepare
    from pleura.client.supervisor import run as supervise
    from pleura.common import events
    from pleura.common.supervision import stop_on_signals

    def tell(is_sandboxed: bool) -> None:
        if is_sandboxed:
            console().print("trainer: sandboxed, it has no network")
        else:
            console().print("[bold red]trainer: NOT sandboxed[/], allowed by the site policy")

    with operator_errors():
        settings = load_settings(config)
        prepare(settings)
        stop = stop_on_signals()
        console().print(f"site {settings.site_id}: starting trainer, ingest and agent")
        events.configure("supervisor", file=settings.log_dir / "supervisor.jsonl")
        status = supervise(settings, config.resolve(), stop, on_sandbox=tell)
    if status:
        console().print(f"stopped: a process ended with status {int(status)}; see log/*.jsonl")
    sys.exit(int(status))


@app.command()
def status(config: Config = Path("site.toml"), as_json: AsJson = False) -> None:
    """Show what the site holds and what its processes are doing."""
    from pleura.client.status import site_status

    with operator_errors():
        found = site_status(load_settings(config))
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2, sort_keys=True) + "\n")
        return
    for name, value in found.items():
        sys.stdout.write(f"{name:<24}{_as_text(value)}\n")


@app.command()
def doctor(config: Config = Path("site.toml"), as_json: AsJson = False) -> None:
    """Check what the site needs to run; exit 0 if all pass, 1 if not, 4 if it cannot check."""
    from pleura.client.doctor import examine, exit_status

    findings = examine(config)
    if as_json:
        rows = [{"check": f.check, "passed": f.passed, "problem": f.problem, "fix": f.fix}
                for f in findings]  # fmt: skip
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        for finding in findings:
            mark = "[green]pass[/]" if finding.passed else "[bold red]fail[/]"
            console().print(f"{mark}  {finding.check}")
            if not finding.passed:
                console().print(f"      problem: {finding.problem}", markup=False)
                console().print(f"      fix:     {finding.fix}", markup=False)
    sys.exit(int(exit_status(findings)))


@app.command()
def ingest(config: Config = Path("site.toml"), as_json: AsJson = False) -> None:
    """Scan the watched folders once: de-identify, verify, store."""
    from pleura.client.ingest.process import scan_once

    with operator_errors():
        settings = load_settings(config)
        with _bar("objects") as bar:
            task = bar.add_task("objects", total=None)
            summary = scan_once(
                settings, lambda p: bar.update(task, completed=p.done, total=p.total)
            )
    quarantined = sum(summary.quarantined.values())
    if as_json:
        row = {
            "found": summary.found,
            "waiting": summary.waiting,
            "known": summary.known,
            "stored": summary.stored,
            "duplicates": summary.duplicates,
            "left_out": summary.left_out,
            "quarantined": dict(summary.quarantined),
        }
        sys.stdout.write(json.dumps(row, sort_keys=True) + "\n")
    else:
        sys.stdout.write(
            f"found {summary.found}, stored {summary.stored}, known {summary.known},"
            f" duplicates {summary.duplicates}, waiting {summary.waiting},"
            f" left out {summary.left_out}, quarantined {quarantined}\n"
        )
        for code, count in sorted(summary.quarantined.items()):
            console().print(f"  quarantined {code}: {count}")
    sys.exit(1 if quarantined else 0)


@app.command()
def erase(
    pseudonym: Annotated[
        str, typer.Argument(help="The patient's pseudonym, P and 16 letters or digits.")
    ],
    config: Config = Path("site.toml"),
    yes: Annotated[bool, typer.Option("--yes", help="Delete for good.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete all data of one patient and list the rounds trained on it; stop the site first."""
    from pleura.client.erasing import erase_patient

    if not yes:
        raise typer.BadParameter("this deletes a patient's data; repeat with --yes")
    with operator_errors():
        done = erase_patient(load_settings(config), pseudonym)
    rounds = [{"cohort": u.cohort, "run": u.run, "round": u.round} for u in done.rounds]
    if as_json:
        row = {"files": done.files, "mapping_rows": done.mapping_rows, "rounds": rounds}
        sys.stdout.write(json.dumps(row, sort_keys=True) + "\n")
        return
    sys.stdout.write(f"files {done.files}, rounds {len(rounds)}\n")
    for use in rounds:
        sys.stdout.write(f"  {use['run']} round {use['round']} {use['cohort']}\n")


@labels_app.command("import")
def labels_import(
    file: Annotated[Path, typer.Argument(help="CSV: accession or sop_uid, label, split.")],
    task: Annotated[str, typer.Option("--task", help="Name of a built-in task.")],
    config: Config = Path("site.toml"),
) -> None:
    """Replace the labels of one task by those of a CSV file, all or nothing."""
    from pleura.client.ingest.catalog import Catalog
    from pleura.client.ingest.labels import import_labels
    from pleura.client.ingest.vault import open_pseudonym_key

    with operator_errors():
        settings = load_settings(config)
        key = open_pseudonym_key(settings.pseudonym_key_file)
        with Catalog(settings.catalog_file) as catalog:
            summary = import_labels(file, task, catalog, key)
    sys.stdout.write(
        f"rows {summary.rows}, matched {summary.matched}, unmatched {summary.unmatched}\n"
    )


@app.command("init-model")
def init_model(
    plan: Annotated[Path, typer.Option("--plan", help="Run plan in TOML.")],
    out: Annotated[Path, typer.Option("--out", help="Where the first weights go.")],
) -> None:
    """Write the first weights of a plan; the same plan gives the same bytes."""
    from pleura.client.training.init_model import write_initial_model
    from pleura.common.config import read_toml, validate
    from pleura.common.orders import RunPlan

    unnamed = {"federation_id": "unnamed", "run_id": "unnamed"}  # weights depend on neither
    with operator_errors():
        packed = write_initial_model(validate(unnamed | read_toml(plan), RunPlan), out)
    sys.stdout.write(packed.model_dump_json(indent=2) + "\n")


def _bar(unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=console(),
    )


def _as_text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in sorted(value.items())) or "none"
    return str(value)
