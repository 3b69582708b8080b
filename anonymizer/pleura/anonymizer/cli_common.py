"""What the commands of `pleura anonymize` share: options, key and mapping, bars and failures."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from pleura.anonymizer.errors import Quarantined, WriteRefused
from pleura.anonymizer.profile import OPTION_NAMES, PROFILE_NAMES, Profile, load_profile
from pleura.anonymizer.refusals import refusal_by_host
from pleura.common.cli import say_error
from pleura.common.errors import PleuraError
from pleura.common.exit_codes import ExitCode

ProfileName = Annotated[
    str, typer.Option("--profile", metavar="NAME", help=f"One of: {', '.join(PROFILE_NAMES)}.")
]
Options = Annotated[
    str,
    typer.Option(
        "--options",
        metavar="A,B",
        help=f"Options the profile offers, of: {', '.join(OPTION_NAMES)}.",
    ),
]
KeyFile = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="Project key file, mode 0600 (see keygen).")
]
MappingFile = Annotated[
    Path | None,
    typer.Option("--mapping", metavar="FILE", help="Names drawn at random. Default: KEY.map.db"),
]
OutFolder = Annotated[
    Path,
    typer.Argument(
        metavar="OUT", exists=True, file_okay=False, resolve_path=True, help="What run wrote."
    ),
]
Keep = Literal["standard", "minimal"] | None
KeepOption = Annotated[
    Keep,
    typer.Option(help="Attributes kept. Default: what the profile says."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]


def console() -> Console:
    """Return the console for talk: standard error; standard output is for data."""
    return Console(stderr=True, highlight=False)


@contextmanager
def exits_on_error() -> Iterator[None]:
    """End the command with code, hint and exit status of an error of the tree.

    What the host refuses becomes one; any other error is a fault of ours and passes.
    """
    try:
        yield
    except (PleuraError, OSError, sqlite3.DatabaseError) as exc:
        fault = exc if isinstance(exc, PleuraError) else refusal_by_host(exc)
        if fault is None:
            raise
        say_error(fault)
        raise typer.Exit(int(fault.exit_code)) from None


def print_data(*lines: str) -> None:
    """Print lines on standard output; the command ends with 4 if they cannot be written."""
    with exits_on_error():
        try:
            sys.stdout.writelines(f"{line}\n" for line in lines)
            sys.stdout.flush()
        except OSError as exc:
            _forget_output()
            raise WriteRefused(f"standard output: {os.strerror(exc.errno or 0)}") from None


def _forget_output() -> None:
    """Lead standard output nowhere: Python would try once more at its end, and fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def stops_politely() -> Iterator[None]:
    """Say at Ctrl-C that nothing is lost, and end with 130."""
    try:
        yield
    except KeyboardInterrupt:
        console().print("stopped: what is done is kept; give the same command again to go on")
        raise typer.Exit(ExitCode.STOPPED) from None


class Bar:
    """A bar on standard error, and a second one once something is looked at again."""

    def __init__(self, bars: Progress, label: str, total: int) -> None:
        self._bars = bars
        self._task = bars.add_task(label, total=total)
        self._looks: TaskID | None = None

    def show(self, done: int) -> None:
        """Show how many are done."""
        self._bars.update(self._task, completed=done)

    def expect(self, total: int) -> None:
        """Show how many there are."""
        self._bars.update(self._task, total=total)

    def look(self, done: int, total: int) -> None:
        """Show how many slices were looked at for text, of how many."""
        if self._looks is None:
            self._looks = self._bars.add_task("looking for text", total=total)
        self._bars.update(self._looks, completed=done, total=total)


@contextmanager
def progress(label: str, total: int) -> Iterator[Bar]:
    """Show a bar on standard error while it works; it leaves no line behind."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(),
        transient=True,
    )
    with bars:
        yield Bar(bars, label, total)


def chosen_profile(name: str, options: str, keep: Keep, justification: str) -> Profile:
    """Return the profile a command line asks for.

    Raises:
        UnknownProfile: no profile of that name is shipped.
        OptionRefused: the profile does not offer an option or asks for no justification.
    """
    profile = load_profile(name)
    names = [part.strip() for part in options.split(",") if part.strip()]
    profile = profile.with_options(names, keep=keep)
    return profile.with_justification(justification) if justification else profile


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: 1 file, 2 files."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def beside(out: Path, suffix: str) -> Path:
    """Return the file beside an output folder that belongs to it."""
    return out.with_name(out.name + suffix)


def mapping_file(profile: Profile, key_file: Path, given: Path | None) -> Path | None:
    """Return where names drawn at random are kept, or None where they are computed."""
    if profile.pseudonyms != "random":
        return None
    return given or beside(key_file, ".map.db")


def hint_of(code: str) -> str:
    """Return what an operator does about a quarantine code."""
    return next((e.hint for e in Quarantined.__subclasses__() if e.code == code), Quarantined.hint)
