"""`pleura anonymize`: de-identify folders of DICOM files on the site's own machine.

Talks on stderr and prints data on stdout. Exit status: 0 all clean, 1 some objects in
quarantine or a check failed, 2 usage, 3 key, mapping, profile, folders or audit, 4 this host
cannot do it, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer
from rich.table import Table

from pleura.anonymizer import cli_inspect
from pleura.anonymizer.batch import BatchSummary, run_batch
from pleura.anonymizer.cli_common import (
    AsJson,
    KeepOption,
    KeyFile,
    MappingFile,
    Options,
    OutFolder,
    ProfileName,
    beside,
    chosen_profile,
    console,
    counted,
    exits_on_error,
    hint_of,
    mapping_file,
    print_data,
    progress,
    stops_politely,
)
from pleura.anonymizer.erasure import ErasureIndex
from pleura.anonymizer.errors import NoInput
from pleura.anonymizer.holdings import Recorder, erase_from
from pleura.anonymizer.mapping import open_pseudonyms
from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.anonymizer.targets import check_folders, check_targets
from pleura.anonymizer.writable import check_writable
from pleura.common.exit_codes import ExitCode

app = typer.Typer(
    cls=cli_inspect.AsMet,
    no_args_is_help=True,
    add_completion=False,
    help="De-identify DICOM files; nothing leaves the site.",
    pretty_exceptions_enable=False,  # its tracebacks show values
)
cli_inspect.register(app)


@app.command()
def run(
    source: Annotated[
        Path, typer.Argument(metavar="IN", exists=True, help="File, ZIP archive or folder.")
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", file_okay=False, resolve_path=True, help="New, or what run wrote before."
        ),
    ],
    profile: ProfileName,
    key: KeyFile,
    mapping: MappingFile = None,
    options: Options = "",
    keep: KeepOption = None,
    justification: Annotated[
        str, typer.Option(metavar="TEXT", help="Reason to pseudonymise (EHDS 66), only hashed.")
    ] = "",
    ocr: Annotated[
        Literal["policy", "all", "off"],
        typer.Option(help="Whose pixels are read for burned-in text."),
    ] = "policy",
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, metavar="N", help="Worker processes. Default: cores, at least 2."
        ),
    ] = None,
    names: Annotated[
        Literal["uid", "mirror"],
        typer.Option(help="mirror keeps the names of IN, which may identify people."),
    ] = "uid",
    name_map: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Write which file became which."),
    ] = None,
    quarantine: Annotated[
        Path | None,
        typer.Option(file_okay=False, metavar="FOLDER", help="Default: OUT.quarantine"),
    ] = None,
    accept_unread_text: Annotated[
        bool,
        typer.Option(
            "--accept-unread-text",
            help="Do not look for burned-in text: nothing of any picture is read or blacked out, "
            "known areas of ultrasound neither. Every receipt says so.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """De-identify IN into OUT; give the same command again to go on.

    An object becomes OUT/<patient>/<study>/<series>/<sop>.dcm or goes to the quarantine.
    """
    if accept_unread_text and ocr == "all":
        raise typer.BadParameter("--ocr all reads what --accept-unread-text leaves unread")
    with exits_on_error():
        chosen = chosen_profile(profile, options, keep, justification)
        folder = quarantine or beside(out, ".quarantine")
        drawn = mapping_file(chosen, key, mapping)
        told = {"--key": key, "--mapping": drawn or mapping, "--name-map": name_map}
        check_folders(source, out, folder, told)
        project, inputs = ProjectKey.load(key), find_files(source)
        check_writable(out.parent, "the folder of the output")
        if drawn is not None:
            check_writable(drawn.parent, "the folder of the mapping")
        audit, journal = beside(out, ".audit.jsonl"), beside(out, ".journal.db")
        check_targets(out, folder, audit, journal, name_map)  # before mapping and index are made
        keys = open_pseudonyms(chosen, project, drawn)
        with (
            stops_politely(),
            ErasureIndex(beside(out, ".erasure.db")) as index,
            progress("de-identifying", len(inputs.files)) as bar,
            Recorder(index, out) as recorder,
        ):
            summary = run_batch(
                inputs.files, out, folder, profile=chosen, key=keys,
                jobs=jobs or max(2, os.cpu_count() or 2), ocr=ocr,
                allow_unread_text=accept_unread_text, tombstones=index.tombstones,
                follow_archives=True, name_map=name_map, on_result=recorder.note,
                root=source if source.is_dir() else source.parent, mirror=names == "mirror",
                on_progress=bar.show, on_total=bar.expect, on_look=bar.look,
            )  # fmt: skip
        keys.close()
    _show(summary, inputs, out, folder, as_json=as_json)
    if accept_unread_text:
        console().print(
            "[bold]warning[/] nobody looked for burned-in text (--accept-unread-text): the receipts"
            " say so", soft_wrap=True,
        )  # fmt: skip
    is_all = summary.is_clean and not inputs.closed
    raise typer.Exit(ExitCode.OK if is_all else ExitCode.INCOMPLETE)


@app.command()
def keygen(
    file: Annotated[Path, typer.Argument(help="New file; it is never overwritten.")],
    version: Annotated[int, typer.Option(min=1, max=999_999, help="Key version.")] = 1,
) -> None:
    """Draw a project key and print its key id.

    32 random bytes in a file of mode 0600.
    """
    with exits_on_error():
        print_data(ProjectKey.create(file, version).key_id)


@app.command()
def erase(
    pseudonym: Annotated[
        str, typer.Argument(metavar="PSEUDONYM", help="The patient's, P and 16 letters or digits.")
    ],
    out: OutFolder,
    key: KeyFile,
    mapping: MappingFile = None,
    quarantine: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            metavar="FOLDER",
            help="Copies elsewhere than run put them.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete for good.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a patient from OUT for good, by pseudonym.

    Bars the patient from coming back and lists the rounds trained on.
    """
    if not yes:
        raise typer.BadParameter("this deletes files for good; repeat with --yes")
    with exits_on_error():
        project, drawn = ProjectKey.load(key), mapping or beside(key, ".map.db")
        copies = quarantine or beside(out, ".quarantine")
        _check_erasable(out, copies, drawn)
        done, swept = erase_from(out, copies, project, drawn, pseudonym)
    if as_json:
        record = {
            "files": done.files, "mapping_rows": done.mapping_rows, "quarantined_copies": swept,
            "is_repeat": done.is_repeat,
            "rounds": [{"cohort": u.cohort, "run": u.run, "round": u.round} for u in done.rounds],
        }  # fmt: skip
        print_data(json.dumps(record))
        return
    talk = console()
    again = " (erased before already)" if done.is_repeat else ""
    others = counted(swept, "quarantined copy", "quarantined copies")
    talk.print(f"deleted {counted(done.files, 'file')} and {others}{again}")
    talk.print(f"deleted {counted(done.mapping_rows, 'row')} of the mapping")
    for use in done.rounds:
        talk.print(f"trained on: cohort {use.cohort}, run {use.run}, round {use.round}")
    talk.print("Not touched: the source files, name maps and what a model has learned.")


def _check_erasable(out: Path, quarantine: Path, mapping: Path) -> None:
    """Find out before anything is deleted whether all places of a patient can be changed.

    Raises:
        WriteRefused: one cannot.
        DiskFull: no room.
    """
    check_writable(out, "the output")
    check_writable(out.parent, "the folder of the output")
    if quarantine.is_dir():
        check_writable(quarantine, "the quarantine")
    if mapping.exists():
        check_writable(mapping.parent, "the folder of the mapping")


class Inputs(NamedTuple):
    """Regular files in a fixed order; how many folders could not be looked into, how many
    links and special files were passed by."""

    files: Sequence[Path]
    closed: int = 0
    passed_by: int = 0


def find_files(source: Path) -> Inputs:
    """Return what lies below `source`; links are not followed.

    Raises:
        NoInput: there is no file.
    """
    if source.is_file():
        return Inputs([source])
    closed: list[OSError] = []
    found = [
        Path(folder, name)
        for folder, folders, names in os.walk(source, onerror=closed.append)
        for name in (*names, *(n for n in folders if Path(folder, n).is_symlink()))
    ]
    files = sorted(path for path in found if path.is_file() and not path.is_symlink())
    if not files and not closed:
        raise NoInput
    return Inputs(files, len(closed), len(found) - len(files))


def _show(
    summary: BatchSummary, inputs: Inputs, out: Path, quarantine: Path, *, as_json: bool
) -> None:
    if as_json:
        record = {
            "accepted": summary.accepted,
            "duplicates": summary.duplicates,
            "quarantined": dict(summary.refused),
            "left_out": summary.left_out,
            "resumed": summary.resumed,
            "folders_not_readable": inputs.closed,
            "links_passed_by": inputs.passed_by,
            "seconds": round(summary.seconds, 3),
            "audit_head": summary.audit_head,
        }
        print_data(json.dumps(record))
        return
    talk = console()
    total = summary.accepted + summary.duplicates + sum(summary.quarantined.values())
    rate = total / summary.seconds if summary.seconds > 0 else 0.0
    talk.print(f"{counted(total, 'file')} in {summary.seconds:.1f} s ({rate:.1f} a second)")
    talk.print(f"  accepted    {summary.accepted:>8}   in {out}", soft_wrap=True, markup=False)
    if summary.duplicates:
        talk.print(f"  duplicates  {summary.duplicates:>8}   equal objects, kept once")
    if summary.resumed:
        talk.print(f"  of these    {summary.resumed:>8}   were finished by an earlier run")
    if inputs.closed:
        talk.print(
            f"  [bold]not readable[/] {inputs.closed:>6}   folders of IN; nobody looked there"
        )
    if inputs.passed_by:
        talk.print(f"  passed by   {inputs.passed_by:>8}   links and special files")
    if summary.left_out:
        talk.print(f"  left out    {summary.left_out:>8}   no objects: texts, programs, a DICOMDIR")
    if summary.refused:
        count = sum(summary.refused.values())
        talk.print(
            f"  quarantined {count:>8}   in {quarantine.absolute()}", soft_wrap=True, markup=False
        )
        table = Table(box=None, padding=(0, 2), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column()
        for code, number in summary.refused.items():
            table.add_row(code, str(number), hint_of(code))
        talk.print(table)
    if summary.has_audit:
        talk.print(f"audit head {summary.audit_head}", soft_wrap=True)
    else:
        talk.print("no audit: it was moved away, and nothing new began another", soft_wrap=True)
