"""The command `verify`: what each check promises, which files fail it and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pleura.anonymizer.checks import AUDIT, END_UNKNOWN, EVERY
from pleura.anonymizer.cli_common import (
    AsJson,
    OutFolder,
    beside,
    console,
    counted,
    exits_on_error,
    print_data,
    progress,
)
from pleura.anonymizer.comparing import compare
from pleura.anonymizer.journal import audit_mark_of
from pleura.anonymizer.naming import read_name_map
from pleura.anonymizer.scoring import total
from pleura.anonymizer.verifying import Compared, Report, entries, verify_output
from pleura.common.exit_codes import ExitCode

_MOST_FILES: Final = 20


def verify_command(
    out: OutFolder,
    against: Annotated[
        Path | None,
        typer.Option(metavar="IN", exists=True, help="What run read; needs --name-map."),
    ] = None,
    name_map: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="What run --name-map wrote."
        ),
    ] = None,
    names: Annotated[
        Literal["uid", "mirror"], typer.Option(help="As in run; with mirror any place is right.")
    ] = "uid",
    as_json: AsJson = False,
) -> None:
    """Check the files of OUT; with --against, beside their sources too.

    Every check is listed with what it promises; files that fail one are named, with what to do.
    --json lists all of them.

    With --against each output is compared with its source too: leaks, pixels (equal but for what
    was blacked out) and the ten scores of the MIDI-B validation, correct of required, as far as
    two files can show them. A dash: nothing was asked. Whether text was burned in where nothing
    was blacked out, and which words of prose are harmless, cannot be seen, so pixels_hidden asks
    nothing and text_retained asks for no word of prose.

    Scores of what must go or be consistent (text_removed, date_shifted, uid_changed,
    uid_consistent, patid_consistent) that are not full fail, and so do pixels that changed or
    cannot be decoded; tag_retained, text_notnull and text_retained are told and fail nothing.
    """
    if (against is None) != (name_map is None):
        raise typer.BadParameter("--against and --name-map need each other")
    with exits_on_error():
        mark = audit_mark_of(beside(out, ".journal.db"))  # before the audit, which may grow
        with progress("verifying", sum(1 for _ in entries(out))) as bar:
            report = verify_output(
                out, names=names, audit=beside(out, ".audit.jsonl"), passes=mark,
                on_progress=bar.show,
            )  # fmt: skip
        if against is not None and name_map is not None:
            pairs = read_name_map(name_map)
            with progress("comparing", len(pairs)) as bar:
                compare(out, against, pairs, report, on_progress=bar.show)
    if as_json:
        print_data(json.dumps(report.to_dict()))
    else:
        _show_report(report)
    raise typer.Exit(ExitCode.OK if report.is_sound else ExitCode.INCOMPLETE)


def _table() -> Table:
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    return table


def _show_report(report: Report) -> None:
    talk = console()
    pairs = f", {report.pairs:,} compared with their source" if report.compared is not None else ""
    talk.print(counted(report.checked, "file") + pairs)
    talk.print(_checks(report))
    if AUDIT not in report.failed:
        talk.print("no audit beside OUT: nobody knows whether these bytes are those run wrote")
    if len(report.keys) > 1:
        for use, count in report.keys.items():
            kind = "computed" if use.mapping == "hmac" else f"drawn in mapping {use.mapping_id}"
            talk.print(f"key {use.key_id} v{use.key_version}, {kind}: {counted(count, 'file')}")
    if report.compared is not None:
        _show_compared(talk, report.compared)
    _show_files(talk, report)
    if report.absent:
        talk.print(f"{report.absent:,} objects of the audit are not there any more")
    if report.audit_head:
        talk.print(f"audit head {report.audit_head}", soft_wrap=True)
    if not report.checked:
        talk.print("nothing to verify: the folder has no files")
    talk.print("sound" if report.is_sound else "[bold red]not sound[/]")


def _checks(report: Report) -> Table:
    """Return a row a check: what holds, and where it does not, what to do."""
    table = Table(box=None, padding=(0, 1), show_edge=False, header_style="dim")
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True, justify="right")
    table.add_column("what has to hold")
    for name, count in report.failed.items():
        is_end_known = name != AUDIT or report.audit_end_known
        check = EVERY[name] if is_end_known else END_UNKNOWN
        if count:
            said = f"{escape(check.promise)}\n[bold]what to do:[/] {escape(check.remedy)}"
            table.add_row(name, f"[bold red]{count:,} failed[/]", said)
        else:
            table.add_row(name, "ok", escape(check.promise), style="dim")
    return table


def _show_files(talk: Console, report: Report) -> None:
    listed = report.listed()
    if not listed:
        return
    talk.print(f"files of OUT that fail a check: {len(listed):,}")
    for path, problems in listed[:_MOST_FILES]:
        talk.print(f"  {printable(path)}", soft_wrap=True, markup=False)
        talk.print(f"      [red]{', '.join(problems)}[/]")
    if len(listed) > _MOST_FILES:
        talk.print(f"  and {len(listed) - _MOST_FILES:,} more; --json lists all")


def printable(path: str) -> str:
    """Return a path with `?` for what a terminal would act on or cannot show."""
    return "".join(sign if sign.isprintable() else "?" for sign in path)


def _show_compared(talk: Console, compared: Compared) -> None:
    leaks = compared.leaks
    talk.print(
        f"leaks: {leaks['top']} attributes at the top, {leaks['nested']} nested, "
        f"{leaks['words']} words"
    )
    table = _table()
    for name, ratio in (*compared.scores.items(), ("all", total(compared.scores.values()))):
        if ratio.required:
            count = f"{ratio.correct:,} of {ratio.required:,}"
            table.add_row(name, count, f"{100 * ratio.share:.3f} %")
        else:
            table.add_row(name, "-", "-")
    talk.print(table)
    pixels = compared.pixels
    if pixels["blacked out"]:
        percent = 100 * pixels["pixels blacked out"] / pixels["pixels"]
        pictures = pixels["blacked out"]
        talk.print(f"{pictures} pictures blacked out in part: {percent:.3f} % of all pixels")
    if pixels["undecodable"]:
        talk.print(f"{pixels['undecodable']} pictures could not be decoded to compare them")
