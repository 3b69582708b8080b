"""`pleura anonymize`: de-identify folders of DICOM files on the site's own machine.

Talks on stderr and prints data on stdout. Exit status: 0 all clean, 1 some objects in
quarantine, 2 usage, 3 key, rules or configuration.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pleura.anonymizer.batch import BatchSummary, run_batch
from pleura.anonymizer.errors import OutputNotSeparate
from pleura.anonymizer.profile import PROFILE_NAMES, load_profile
from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.common.errors import PleuraError
from pleura.common.exit_codes import ExitCode

app = typer.Typer(no_args_is_help=True, help="De-identify DICOM files; nothing leaves the site.")


@app.command()
def run(
    source: Annotated[Path, typer.Argument(metavar="IN", exists=True, help="File or folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False)],
    profile: Annotated[str, typer.Option(help=f"One of: {', '.join(PROFILE_NAMES)}.")],
    key: Annotated[Path, typer.Option(help="Project key file, mode 0600 (see keygen).")],
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    quarantine: Annotated[
        Path | None, typer.Option(file_okay=False, help="Default: OUT.quarantine")
    ] = None,
    accept_unread_text: Annotated[
        bool,
        typer.Option(
            "--accept-unread-text",
            help="Accept radiographs and captures although nobody looked for burned-in text.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """De-identify IN into OUT/<patient>/<study>/<series>/<sop>.dcm."""
    console = Console(stderr=True)
    try:
        folder = quarantine or out.with_name(out.name + ".quarantine")
        _check_folders(source, out, folder)
        files = find_files(source)
        with _bar(console) as bar:
            task = bar.add_task("de-identifying", total=len(files))
            summary = run_batch(
                files,
                out,
                folder,
                profile=load_profile(profile),
                key=ProjectKey.load(key),
                jobs=jobs,
                allow_unread_text=accept_unread_text,
                on_progress=lambda done: bar.update(task, completed=done),
            )
    except PleuraError as exc:
        _fail(console, exc)
    _show(summary, console, as_json=as_json)
    raise typer.Exit(ExitCode.OK if summary.is_clean else ExitCode.INCOMPLETE)


@app.command()
def keygen(
    file: Annotated[Path, typer.Argument(help="New file; it is never overwritten.")],
    version: Annotated[int, typer.Option(min=1, max=999_999, help="Key version.")] = 1,
) -> None:
    """Draw a project key (32 random bytes, mode 0600) and print its key id."""
    console = Console(stderr=True)
    try:
        created = ProjectKey.create(file, version)
    except PleuraError as exc:
        _fail(console, exc)
    sys.stdout.write(created.key_id + "\n")


def find_files(source: Path) -> Sequence[Path]:
    """Return the regular files below `source` in a fixed order; links are not followed."""
    if source.is_file():
        return [source]
    return sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())


def _check_folders(source: Path, out: Path, quarantine: Path) -> None:
    origin = source.resolve()
    for folder in (out.resolve(), quarantine.resolve()):
        if folder == origin or origin in folder.parents or folder in origin.parents:
            raise OutputNotSeparate("the input folder overlaps with another folder")


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _show(summary: BatchSummary, console: Console, *, as_json: bool) -> None:
    if as_json:
        record = {
            "accepted": summary.accepted,
            "duplicates": summary.duplicates,
            "quarantined": dict(summary.quarantined),
            "seconds": round(summary.seconds, 3),
            "audit_head": summary.audit_head,
        }
        sys.stdout.write(json.dumps(record) + "\n")
        return
    console.print(f"accepted {summary.accepted}, duplicates {summary.duplicates}")
    for code, count in summary.quarantined.items():
        console.print(f"quarantined {code}: {count}")


def _fail(console: Console, exc: PleuraError) -> NoReturn:
    console.print(f"{exc}\n{exc.hint}", markup=False, highlight=False)
    raise typer.Exit(exc.exit_code) from None
