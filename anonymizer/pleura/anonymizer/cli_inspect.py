"""The commands that look at one file: explain, preview; the places of all commands in the help.

`verify` is in `cli_verify`, `receipt` in `cli_receipt`, `pseudonym` in `cli_pseudonym`.
"""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import click
import typer
from rich.table import Table
from typer.core import TyperGroup

from pleura.anonymizer.cli_common import (
    AsJson,
    KeepOption,
    Options,
    ProfileName,
    chosen_profile,
    console,
    exits_on_error,
    hint_of,
    print_data,
)
from pleura.anonymizer.cli_pseudonym import pseudonym_command
from pleura.anonymizer.cli_receipt import receipt_command
from pleura.anonymizer.cli_verify import verify_command
from pleura.anonymizer.explain import Explained, explain, legend_of, refusal_of

InFile = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="DICOM file.")
]


_NAME: Final = 36  # letters of an attribute's name: nine of ten fit
_HEAD: Final = f"{'attribute':<22} {'name':<{_NAME}} VR {'what is done':<14} rule"
_ORDER: Final = (
    "keygen", "explain", "preview", "run", "verify", "receipt", "pseudonym", "erase",
)  # fmt: skip


class AsMet(TyperGroup):
    """A group that lists its commands in the order a user meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands; one without a place comes last."""
        known = [name for name in _ORDER if name in self.commands]
        return known + [name for name in self.commands if name not in _ORDER]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to an app."""
    commands = (
        explain_command, preview_command, verify_command, receipt_command, pseudonym_command,
    )  # fmt: skip
    for command in commands:
        text = inspect.cleandoc(command.__doc__ or "")
        name = command.__name__.removesuffix("_command")
        app.command(name, help=unwrapped(text))(command)


def unwrapped(text: str) -> str:
    """Return paragraphs on one line each: the help is wrapped to the terminal, not to ours."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def explain_command(
    file: InFile,
    profile: ProfileName,
    options: Options = "",
    keep: KeepOption = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Values too; on a terminal only.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a profile does with each element of FILE, and why."""
    if show_values and not sys.stdout.isatty():
        raise typer.BadParameter("values identify people and are shown on a terminal only")
    with exits_on_error():
        chosen = chosen_profile(profile, options, keep, "")
        if code := refusal_of(file):
            console().print(f"run would refuse this file: {code}. {hint_of(code)}", soft_wrap=True)
        lines = list(explain(file, chosen, show_values=show_values))
    if as_json:
        print_data(*map(_as_json, lines))
        return
    print_data(_HEAD, *map(_as_text, lines))
    talk = console()
    talk.print()
    for word, meaning in legend_of(lines).items():
        talk.print(f"{word:<17} {meaning}", soft_wrap=True, markup=False)


def _as_json(line: Explained) -> str:
    record = asdict(line)
    if line.value is None:
        del record["value"]
    return json.dumps(record)


def _as_text(line: Explained) -> str:
    """Return a row of the table; what lies in an item is indented below its sequence."""
    depth = line.path.count("[")
    place = "  " * depth + (line.path[line.path.rindex("[") :] if depth else line.path)
    name = line.keyword if len(line.keyword) <= _NAME else line.keyword[: _NAME - 2] + ".."
    row = f"{place:<22} {name:<{_NAME}} {line.vr} {line.action:<14} {line.source:<17}"
    return (row if line.value is None else f"{row} {line.value}").rstrip()


def preview_command(
    file: InFile,
    png: Annotated[
        Path,
        typer.Argument(metavar="PNG", dir_okay=False, help="Picture to write; ends in .png."),
    ],
    profile: ProfileName = "gdpr_pseudonymous",
    frame: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Frame, from 1. Default: the first with text."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite PNG if it is there.")] = False,
) -> None:
    """Draw FILE before and after its text is blacked out.

    Both halves stand side by side. The picture shows what is burned in; it must not leave the
    site.
    """
    from pleura.anonymizer.previewing import preview

    _check_picture(file, png, force=force)
    with exits_on_error():
        chosen = chosen_profile(profile, "", None, "")
        shown = preview(file, png, chosen, frame=None if frame is None else frame - 1)
    table = Table(box=None, padding=(0, 2), show_edge=False, header_style="")
    table.add_column("", no_wrap=True)
    table.add_column(f"frame {shown.frame + 1} of {shown.frames}", justify="right")
    columns = [shown.here]
    if shown.frames > 1:
        table.add_column("whole file", justify="right")
        columns.append(shown.whole)
    for words, kind in (
        ("text blacked out", "text"),
        ("known areas blacked out", "known"),
        ("side markers kept", "kept"),
    ):
        table.add_row(words, *(f"{getattr(counts, kind):,}" for counts in columns))
    talk = console()
    talk.print(table)
    talk.print("The left half shows what is burned in: keep the picture inside the site.")


def _check_picture(file: Path, png: Path, *, force: bool) -> None:
    if png.suffix.lower() != ".png":
        raise typer.BadParameter("the picture is a PNG: give it a name that ends in .png")
    if not png.exists():
        return
    if png.samefile(file):
        raise typer.BadParameter("the picture would be written over FILE itself")
    if not force:
        raise typer.BadParameter("the picture is there already; --force overwrites it")
