"""`pleura server`: set up and run the coordinator, and read its statement log."""

from __future__ import annotations

import base64
import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pleura.common.cli import console, operator_errors
from pleura.common.clock import SystemClock
from pleura.common.exit_codes import ExitCode
from pleura.common.files import ensure_private_folder
from pleura.common.keys import load_or_create_key
from pleura.common.supervision import stop_on_signals
from pleura.server import cli_runs, cli_sites
from pleura.server.cli_runs import DEFAULT_CONFIG, ConfigOption, JsonOption, open_desk
from pleura.server.settings import load_settings
from pleura.server.superlink import prepare

app = typer.Typer(
    help="The coordinator of a federation.", no_args_is_help=True, pretty_exceptions_enable=False
)
log_app = typer.Typer(help="Read the log of signed statements.", no_args_is_help=True)
app.add_typer(cli_runs.app, name="runs")
app.add_typer(cli_sites.app, name="sites")
app.add_typer(log_app, name="log")


@app.command()
def init(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Create the state folder, the signing key and the TLS certificates; safe to repeat."""
    with operator_errors():
        from pleura.server.tls import ensure_tls

        settings = load_settings(config)
        for folder in (settings.state_dir, settings.log_dir, settings.leases_dir):
            ensure_private_folder(folder)
        key = load_or_create_key(settings.signing_key_file)
        fingerprint = ensure_tls(settings, SystemClock().now())
        prepare(settings)
        sys.stdout.write(f"{key.public.to_b64()}\n")
        out = console()
        out.print(f"Coordinator of [bold]{settings.federation_id}[/], key {key.public.key_id}.")
        out.print(f"CA certificate {settings.ca_file}, SHA-256 {fingerprint}.", soft_wrap=True)
        out.print("Next: 1. pleura server run   2. pleura server sites invite SITE")
        out.print("      3. give the site its code and the CA file by two separate ways")
        out.print("      4. compare key ids by phone, then pleura server sites approve SITE")


@app.command()
def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the coordinator until it is told to stop (SIGTERM or Ctrl-C)."""
    with operator_errors():
        from pleura.server.supervisor import run as supervise

        settings = load_settings(config)
        console().print(f"Coordinator of {settings.federation_id} at {settings.public_url}.")
        status = supervise(settings, config, stop_on_signals())
        if status is not ExitCode.OK:
            raise typer.Exit(int(status))


@log_app.command()
def head(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Recompute the log's chain and print its size and digest."""
    with open_desk(config) as desk:
        found = desk.log.verify()
        if as_json:
            sys.stdout.write(json.dumps({"size": found.size, "digest": found.digest}) + "\n")
        else:
            sys.stdout.write(f"{found.size} {found.digest}\n")


@log_app.command("list")
def list_entries(
    config: ConfigOption = DEFAULT_CONFIG,
    start: Annotated[int, typer.Option("--from", min=0, help="First index.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Most entries.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Show entries: index, kind and digest; with --json one entry a line with its bytes."""
    with open_desk(config) as desk:
        entries = desk.log.entries(start, limit)
        if as_json:
            for entry in entries:
                envelope = base64.b64encode(entry.envelope).decode("ascii")
                row = {"index": entry.index, "kind": entry.kind, "envelope": envelope}
                sys.stdout.write(json.dumps(row) + "\n")
            return
        table = Table("index", "kind", "digest")
        for entry in entries:
            table.add_row(str(entry.index), entry.kind, entry.digest)
        Console().print(table)
