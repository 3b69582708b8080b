"""Name maps: which source became which output. They hold file names, which identify people.

A line is `{"in": .., "member": .., "out": .., "code": ..}`: the source relative to the folder
that was given, the number of the archive's member or null, the place below the output or null,
and the code. Lines of earlier runs stay until the same output or refusal is told anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pleura.anonymizer.errors import NameMapDamaged
from pleura.common.files import atomic_writer


class Ending(NamedTuple):
    """What became of a source, or of a member of an archive; `placed` is empty if refused."""

    source: Path
    member: int | None
    code: str
    placed: str = ""


def told_of(source: Path, root: Path | None) -> str:
    """Return how a source is called: relative to the root, as it is without one."""
    return str(source if root is None else source.relative_to(root))


def read_name_map(path: Path) -> list[Ending]:
    """Return what a name map says, sources as they are called there; nothing if there is none.

    Raises:
        NameMapDamaged: it cannot be read, or holds something else.
    """
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [_parsed(json.loads(line.decode("utf-8", "surrogateescape"))) for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        raise NameMapDamaged("the file holds something else") from None


def write_name_map(path: Path, endings: Iterable[Ending], root: Path | None) -> None:
    """Write what became of the sources of a run, after what earlier runs said of others.

    Raises:
        NameMapDamaged: the file is there and holds something else.
        DiskFull: no room; the file is as it was.
    """
    now = [e._replace(source=Path(told_of(e.source, root))) for e in endings]
    sources, places = {(e.source, e.member) for e in now}, {e.placed for e in now}
    earlier = [
        e
        for e in read_name_map(path)
        if (e.placed not in places if e.placed else (e.source, e.member) not in sources)
    ]
    with atomic_writer(path, mode=0o600) as file:
        file.writelines(map(_line, (*earlier, *now)))


def _parsed(record: dict[str, object]) -> Ending:
    source, member, placed, code = (record[name] for name in ("in", "member", "out", "code"))
    if not isinstance(member, int | None) or not isinstance(placed, str | None):
        raise TypeError
    return Ending(Path(str(source)), member, str(code), placed or "")


def _line(ending: Ending) -> bytes:
    record = {
        "in": str(ending.source),
        "member": ending.member,
        "out": ending.placed or None,
        "code": ending.code,
    }
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"
