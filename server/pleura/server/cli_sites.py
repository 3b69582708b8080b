"""`pleura server sites`: invite, list, approve and revoke, on the coordinator's host.

Works on the registry's file; the gateway sees each change with its next request.
Standard output carries the code or the list, everything else goes to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from pleura.common.cli import console, operator_errors
from pleura.common.clock import SystemClock, to_rfc3339
from pleura.common.enrolment import FINGERPRINT_DIGITS, InviteCode
from pleura.common.exit_codes import ExitCode
from pleura.common.ids import parse_site_id
from pleura.server.settings import ServerSettings, load_settings
from pleura.server.sites import Site, SiteRegistry
from pleura.server.tls import authority_fingerprint

app = typer.Typer(help="Invite, approve, list and revoke sites.", no_args_is_help=True)

ConfigOption = Annotated[
    Path,
    typer.Option("--config", envvar="PLEURA_SERVER_CONFIG", help="The coordinator's server.toml."),
]
SiteArgument = Annotated[str, typer.Argument(metavar="SITE", help="The site's id.")]
DEFAULT_CONFIG = Path("server.toml")


@app.command()
def invite(site: SiteArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print a one-time code for a site; the coordinator keeps only its hash."""
    with operator_errors(), _registry(config) as (settings, registry):
        site_id = parse_site_id(site)
        fingerprint = authority_fingerprint(settings)
        secret = registry.invite(site_id, timedelta(hours=settings.invite_hours))
        code = InviteCode(secret, fingerprint[:FINGERPRINT_DIGITS])
        sys.stdout.write(code.text + "\n")
        out = console()
        out.print(f"Code for [bold]{site_id}[/], valid {settings.invite_hours} h, for one use.")
        out.print(f"Send it with the CA file {settings.ca_file.name}, by two separate ways.")


@app.command("list")
def list_sites(
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every site, its state and the id of its signing key."""
    with operator_errors(), _registry(config) as (_, registry):
        rows = [_row(site) for site in registry.all()]
        if as_json:
            sys.stdout.write(json.dumps(rows, indent=2) + "\n")
            return
        table = Table(
            *(
                Column(name, overflow="fold")
                for name in ("site", "state", "key", "node", "last seen")
            )
        )
        for row in rows:
            table.add_row(
                row["site_id"],
                row["state"],
                row["key_id"],
                row["node_id"] or "-",
                row["last_seen"] or "never",
            )
        Console().print(table)


@app.command()
def approve(site: SiteArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let a pending site take part, after its key id was compared by phone."""
    with operator_errors(), _registry(config) as (_, registry):
        approved = registry.approve(parse_site_id(site))
        console().print(f"{approved.site_id} is approved; key {approved.signing_key.key_id}.")


@app.command()
def revoke(
    site: SiteArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Really revoke.")] = False,
) -> None:
    """Shut a site out from its next request on; it must enrol again with new keys."""
    with operator_errors(), _registry(config) as (_, registry):
        site_id = parse_site_id(site)
        if not yes:
            console().print(f"Nothing was done: repeat with --yes to revoke {site_id}.")
            sys.exit(int(ExitCode.USAGE))
        registry.revoke(site_id)
        console().print(f"{site_id} is revoked.")


@contextmanager
def _registry(config: Path) -> Iterator[tuple[ServerSettings, SiteRegistry]]:
    settings = load_settings(config)
    registry = SiteRegistry(settings.sites_db_file, SystemClock())
    try:
        yield settings, registry
    finally:
        registry.close()


def _row(site: Site) -> dict[str, str | None]:
    return {
        "site_id": site.site_id,
        "state": site.state.value,
        "key_id": site.signing_key.key_id,
        "transport_key_id": site.transport_key.key_id,
        "node_id": None if site.node_id is None else str(site.node_id),
        "activated_at": None if site.activated_at is None else to_rfc3339(site.activated_at),
        "last_seen": None if site.last_seen is None else to_rfc3339(site.last_seen),
    }
