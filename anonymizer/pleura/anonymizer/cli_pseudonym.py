"""The command `pseudonym`: which name a known patient has in an output.

There is no way back from a name: the mapping holds keyed digests, and a computed name is one.
Whoever has the key and a list of PatientIDs goes forward instead, and compares.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from pleura.anonymizer.cli_common import KeyFile, beside, console, exits_on_error, print_data
from pleura.anonymizer.errors import NotDrawn
from pleura.anonymizer.mapping import RandomMapping
from pleura.anonymizer.pseudonyms import ProjectKey, clean_patient_id

_NONE = "-"


def pseudonym_command(
    key: KeyFile,
    mapping: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Names drawn at random. Default: KEY.map.db, if it is there.",
        ),
    ] = None,
    computed: Annotated[
        bool,
        typer.Option("--computed", help="Names computed from KEY, though a mapping is there."),
    ] = False,
) -> None:
    """Print the pseudonym of each PatientID read from standard input.

    One PatientID a line in UTF-8, and for each one line out: its pseudonym, or - where none was
    drawn. Nothing is drawn by asking. Names come from the mapping if there is one (as for
    hipaa_safe_harbor), else they are computed from the key.

    To find out who a pseudonym is, give the PatientIDs it could be: the number of the line that
    has it is the number of the ID.
    """  # fmt: skip
    if computed and mapping is not None:
        raise typer.BadParameter("--computed and --mapping exclude each other")
    talk = console()
    with exits_on_error():
        project = ProjectKey.load(key)
        beside_key = beside(key, ".map.db")
        chosen = mapping or (beside_key if beside_key.exists() and not computed else None)
        drawn = RandomMapping(chosen, project) if chosen is not None else None
        talk.print("names computed from the key" if drawn is None else "names of the mapping")
        if sys.stdin.isatty():
            talk.print("type one PatientID a line, then Ctrl-D")
        find = drawn.find if drawn is not None else lambda value: project.patient(value, "")
        try:
            missing = sum(_answer(value, find) for value in _values(sys.stdin.buffer))
        finally:
            if drawn is not None:
                drawn.close()
        if missing:
            raise NotDrawn(f"{missing:,} of the lines")


def _values(lines: BinaryIO) -> Iterator[str]:
    """Yield the IDs; one that is not UTF-8 is empty, or the name of nobody would be computed."""
    for line in lines:
        try:
            yield clean_patient_id(line.decode("utf-8-sig"))
        except UnicodeDecodeError:
            yield ""


def _answer(value: str, find: Callable[[str], str | None]) -> bool:
    """Print the name of one patient; return whether there is none."""
    name = find(value) if value else None
    print_data(name or _NONE)
    return name is None
