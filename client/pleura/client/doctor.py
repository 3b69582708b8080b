"""Doctor: could this site start? Each check names its problem and how to mend it.

Prints no secret and no patient value. The sandbox is tried in a child process,
because entering it cannot be undone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pleura.client.agent.channel import Channel
from pleura.client.enrol import site_standing
from pleura.client.errors import NotSandboxed
from pleura.client.node_key import load_node_key
from pleura.client.settings import SiteSettings, load_settings
from pleura.client.supervisor import require_enrolled
from pleura.common.clock import SystemClock
from pleura.common.errors import ConfigError, DiskFull, PleuraError, SiteNotApproved
from pleura.common.exit_codes import ExitCode
from pleura.common.files import ensure_private_folder, free_bytes
from pleura.common.keys import load_key

GB: Final = 10**9
_TRY_SANDBOX: Final = "from pleura.client.trainer.sandbox import enter; enter()"
_SANDBOX_TIMEOUT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check; `problem` and `fix` are empty if it passed."""

    check: str
    passed: bool
    problem: str = ""
    fix: str = ""
    is_fatal: bool = False  # nothing else could be checked


def examine(config: Path) -> tuple[Finding, ...]:
    """Run every check in turn; a check that cannot run is a failed one."""
    try:
        settings = load_settings(config)
    except ConfigError as exc:
        return (Finding("configuration", False, str(exc), exc.hint, is_fatal=True),)
    checks: tuple[tuple[str, Callable[[SiteSettings], None]], ...] = (
        ("state folder is private", _check_folders),
        ("key files", _check_keys),
        ("free space", _check_space),
        ("trainer can leave the network", _check_sandbox),
        ("coordinator answers and approves", _check_coordinator),
    )
    found = [Finding("configuration", True)]
    for name, check in checks:
        found.append(_finding(name, check, settings))
    return tuple(found)


def exit_status(findings: tuple[Finding, ...]) -> ExitCode:
    """Return 0 if all passed, 1 if some failed, 4 if the doctor could not work."""
    if any(finding.is_fatal for finding in findings):
        return ExitCode.ENVIRONMENT
    return ExitCode.OK if all(f.passed for f in findings) else ExitCode.INCOMPLETE


def _finding(name: str, check: Callable[[SiteSettings], None], settings: SiteSettings) -> Finding:
    try:
        check(settings)
    except PleuraError as exc:
        return Finding(name, False, str(exc), exc.hint)
    except OSError as exc:
        return Finding(name, False, type(exc).__name__, "Check owner and mode of the state folder.")
    return Finding(name, True)


def _check_folders(settings: SiteSettings) -> None:
    ensure_private_folder(settings.state_dir)
    for folder in (settings.trainer_dir, settings.agent_dir):
        if folder.exists():
            ensure_private_folder(folder)


def _check_keys(settings: SiteSettings) -> None:
    require_enrolled(settings)
    load_key(settings.site_key_file)
    load_key(settings.transport_key_file)
    load_node_key(settings.node_key_file)


def _check_space(settings: SiteSettings) -> None:
    needed = settings.ingest.reserve_gb * GB
    if free_bytes(settings.state_dir) < needed:
        raise DiskFull(f"less than ingest.reserve_gb = {settings.ingest.reserve_gb} GB is free")


def _check_sandbox(settings: SiteSettings) -> None:
    if settings.policy.allow_unsandboxed_trainer:
        return
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _TRY_SANDBOX],
            check=False,
            capture_output=True,
            timeout=_SANDBOX_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as exc:
        raise NotSandboxed("the trial took too long") from exc
    if tried.returncode != 0:
        raise NotSandboxed("no network namespace can be made here")


def _check_coordinator(settings: SiteSettings) -> None:
    with Channel.from_settings(settings, SystemClock()) as channel:
        state = site_standing(settings, channel).state
    if state != "approved":
        raise SiteNotApproved(state)
