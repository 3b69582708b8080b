"""The commands that look and change nothing: explain, preview, verify and receipt."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from pleura.anonymizer.cli_common import (
    AsJson,
    Options,
    ProfileName,
    beside,
    chosen_profile,
    console,
    exits_on_error,
    hint_of,
    progress,
)
from pleura.anonymizer.cohort import OutputReceipt, receipt_of
from pleura.anonymizer.comparing import compare, read_name_map
from pleura.anonymizer.explain import Explained, explain, refusal_of
from pleura.anonymizer.recall import STRONG_PERCENT, ReaderEvidence
from pleura.anonymizer.scoring import total
from pleura.anonymizer.verifying import Compared, Report, entries, verify_output
from pleura.common.exit_codes import ExitCode

Keep = Annotated[
    Literal["standard", "minimal"] | None,
    typer.Option(help="Attributes kept. Default: what the profile says."),
]
InFile = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)]
OutFolder = Annotated[
    Path, typer.Argument(metavar="OUT", exists=True, file_okay=False, resolve_path=True)
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to an app."""
    for command in (explain_command, preview_command, verify_command, receipt_command):
        app.command(command.__name__.removesuffix("_command"))(command)


def explain_command(
    file: InFile,
    profile: ProfileName,
    options: Options = "",
    keep: Keep = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Values too; on a terminal only.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say of each element of FILE what a profile does with it, and by which rule."""
    if show_values and not sys.stdout.isatty():
        raise typer.BadParameter("values identify people and are shown on a terminal only")
    with exits_on_error():
        chosen = chosen_profile(profile, options, keep, "")
        if code := refusal_of(file):
            console().print(f"run would refuse this file: {code}. {hint_of(code)}", soft_wrap=True)
        for line in explain(file, chosen, show_values=show_values):
            sys.stdout.write(_explained(line, as_json=as_json) + "\n")


def _explained(line: Explained, *, as_json: bool) -> str:
    if as_json:
        record = {"path": line.path, "vr": line.vr, "action": line.action, "source": line.source}
        return json.dumps(record if line.value is None else record | {"value": line.value})
    text = f"{line.path:<24} {line.vr}  {line.action:<14} {line.source:<17}"
    return (text if line.value is None else f"{text} {line.value}").rstrip()


def preview_command(
    file: InFile,
    png: Annotated[Path, typer.Argument(metavar="PNG", dir_okay=False)],
    profile: ProfileName = "gdpr_pseudonymous",
    frame: Annotated[
        int | None,
        typer.Option(min=1, help="Frame, from 1. Default: the first with text."),
    ] = None,
) -> None:
    """Draw what would be blacked out of FILE: before and after, side by side.

    The picture shows what is burned in; it must not leave the site.
    """
    from pleura.anonymizer.previewing import preview

    with exits_on_error():
        chosen = chosen_profile(profile, "", None, "")
        shown = preview(file, png, chosen, frame=None if frame is None else frame - 1)
    talk = console()
    talk.print(
        f"frame {shown.frame + 1} of {shown.frames}: {shown.boxes_in_frame} boxes blacked out"
    )
    talk.print(f"whole file: {shown.boxes} boxes, {shown.markers} side markers kept")
    talk.print("The left half shows what is burned in: keep the picture inside the site.")


def verify_command(
    out: OutFolder,
    against: Annotated[
        Path | None,
        typer.Option(metavar="IN", exists=True, help="Sources to compare with; needs --name-map."),
    ] = None,
    name_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="What run wrote."),
    ] = None,
    names: Annotated[
        Literal["uid", "mirror"], typer.Option(help="As in run; mirror: any place is right.")
    ] = "uid",
    as_json: AsJson = False,
) -> None:
    """Check the files of OUT: place, marks, private and foreign elements, audit.

    With --against each output is compared with its source too: leaks, pixels (equal but for what
    was blacked out) and the ten scores of the MIDI-B validation, correct of required, as far as
    two files can show them. A dash: nothing was asked. Whether text was burned in where nothing
    was blacked out, and which words of prose are harmless, cannot be seen, so pixels_hidden asks
    nothing and text_retained asks for no word of prose. Scores of what must go or be consistent
    (text_removed, date_shifted, uid_changed, uid_consistent, patid_consistent) that are not full
    fail, and so do pixels that changed or cannot be decoded; tag_retained, text_notnull and
    text_retained are told and fail nothing.
    """
    if (against is None) != (name_map is None):
        raise typer.BadParameter("--against and --name-map need each other")
    with exits_on_error():
        with progress("verifying", sum(1 for _ in entries(out))) as (bar, task):
            report = verify_output(
                out, names=names, audit=beside(out, ".audit.jsonl"),
                on_progress=lambda done: bar.update(task, completed=done),
            )  # fmt: skip
        if against is not None and name_map is not None:
            pairs = read_name_map(name_map)
            with progress("comparing", len(pairs)) as (bar, task):
                compare(
                    out, against, pairs, report,
                    on_progress=lambda done: bar.update(task, completed=done),
                )  # fmt: skip
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict()) + "\n")
    else:
        _show_report(report)
    raise typer.Exit(ExitCode.OK if report.is_sound else ExitCode.INCOMPLETE)


def _table() -> Table:
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    return table


def _show_report(report: Report) -> None:
    table = _table()
    for check, count in report.failed.items():
        table.add_row(check, "ok" if count == 0 else f"[bold red]{count} failed[/]")
    talk = console()
    talk.print(f"{report.files} files, {report.pairs} compared with their source")
    talk.print(table)
    if report.compared is not None:
        _show_compared(talk, report.compared)
    if report.absent:
        talk.print(f"{report.absent} objects of the audit are not there any more")
    if report.audit_head:
        talk.print(f"audit head {report.audit_head}", soft_wrap=True)
    if not report.files:
        talk.print("nothing to verify: the folder has no files")
    talk.print("sound" if report.is_sound else "[bold red]not sound[/]")


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


def receipt_command(
    out: OutFolder,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Counts per rule, smallest cell, reader's recall.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the receipt of OUT from its audit; counts below five read <5.

    --evidence is for an expert determination (HIPAA 164.514(b)(1)): counts per rule, the smallest
    group of patients with the same sex, age band and modality, and how much text burned into
    pixels the reader finds, measured once on invented text, with the version it was measured for.
    """
    with exits_on_error():
        receipt = receipt_of(out, beside(out, ".audit.jsonl"), with_evidence=evidence)
    for warning in receipt.evidence.reader.warnings if receipt.evidence else ():
        console().print(f"[bold red]warning[/] {warning}", soft_wrap=True)
    if as_json:
        sys.stdout.write(receipt.model_dump_json(exclude_none=True) + "\n")
        return
    for line in _receipt_lines(receipt):
        sys.stdout.write(line + "\n")


def _receipt_lines(receipt: OutputReceipt) -> list[str]:
    lines: list[str] = []
    for name, value in receipt.model_dump(exclude={"evidence"}).items():
        lines += _lines_of(name, value, 0)
    if receipt.evidence is not None:
        lines.append("evidence")
        for name, value in receipt.evidence.model_dump(exclude={"reader"}).items():
            lines += _lines_of(name, value, 2)
        lines += _reader_lines(receipt.evidence.reader)
    return lines


def _reader_lines(found: ReaderEvidence) -> list[str]:
    recall = found.recall
    area = f"{recall.clean_pixels_covered.percent:.3f} % of their area"
    rows = {
        "measured": f"{recall.measured_on} with {recall.reader} {recall.reader_version} and "
        f"Pleura {recall.pleura_version}",
        "installed here": f"{recall.reader} {found.installed_version or 'none'}",
        "images": f"{recall.images}, {recall.split} split, strings from "
        f"{recall.smallest_height_px} pixels high",
        "counted as found": f"from {recall.covered_percent} % of a string blacked out on",
        **{f"contrast {c} %": share for c, share in sorted(recall.strings.items())},
        f"from {STRONG_PERCENT} % on": f"{recall.strong}, {recall.strong.percent:.1f} %",
        "all contrasts": f"{recall.every}, {recall.every.percent:.1f} %",
        "side markers kept": recall.markers_kept,
        "clean images touched": f"{recall.clean_images_touched}, {area}",
        **{f"refused {code}": count for code, count in recall.refused.items()},
    }
    lines = ["  reader of text in pixels, measured on invented text"]
    lines += [f"    {name:<22} {value}" for name, value in rows.items()]
    return [*lines, *(f"    WARNING {warning}" for warning in found.warnings)]


def _lines_of(name: str, value: object, indent: int) -> list[str]:
    head = " " * indent + name.replace("_", " ")
    if isinstance(value, dict):
        rows = [f"{' ' * (indent + 2)}{key:<20} {count}" for key, count in value.items()]
        return [head, *rows] if rows else [f"{head:<24} none"]
    if isinstance(value, (list, tuple)):
        return [f"{head:<24} {', '.join(map(str, value)) or 'none'}"]
    return [f"{head:<24} {value}"]
