"""Events: the closed list of things a process may say about itself.

An event has a declared name and declared fields, and each field has a pattern
that a value must match. A free string can therefore not reach a log, and with
it no identifier of a patient. Foreign loggers are reduced to name and level by
`reduce_foreign_logs`. Events go to one sink a process as JSON lines.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TextIO

from pleura.common.clock import Clock, SystemClock, to_rfc3339

MAX_FILE_BYTES: Final = 50 * 2**20
FILES_KEPT: Final = 9  # full ones beside the current one
_WORD = r"[a-z][a-z0-9_.-]{0,47}"

# field -> pattern of an allowed string, or the type of an allowed number
FIELDS: Final[Mapping[str, str | type]] = {
    "run": r"[a-z0-9][a-z0-9-]{1,39}",
    "site": r"[a-z0-9][a-z0-9-]{1,39}",
    "federation": r"[a-z0-9][a-z0-9-]{1,39}",
    "round": int,
    "attempt": int,
    "step": int,
    "steps": int,
    "code": r"[A-Z][A-Z0-9_-]{1,39}",
    "tag": r"\([0-9A-F]{4},[0-9A-F]{4}\)",
    "digest": r"[0-9a-f]{12}",
    "key": r"[0-9a-f]{12,32}",
    "error": r"[A-Za-z_][A-Za-z0-9_]{0,63}",
    "process": _WORD,
    "task": _WORD,
    "profile": _WORD,
    "stage": _WORD,
    "kind": _WORD,
    "mode": _WORD,
    "state": _WORD,
    "count": int,
    "accepted": int,
    "quarantined": int,
    "patients": r"(<\d+|\d+-\d+|\d+\+)",
    "bytes": int,
    "seconds": float,
    "status": int,
    "port": int,
    "pid": int,
    "version": r"[0-9][0-9A-Za-z.+-]{0,31}",
    "epsilon": float,
}

# event -> fields it may carry (any subset)
EVENTS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(fields.split())
    for name, fields in {
        # every process
        "process.started": "process pid version port mode",
        "process.stopped": "process pid status seconds",
        "process.restarted": "process count seconds",
        "process.failed": "process code error status count",
        "error.raised": "process code error",
        "foreign.logged": "process kind count",
        "disk.filled": "process code bytes",
        "clock.skewed": "seconds code",
        # anonymizer and ingest
        "object.accepted": "digest profile bytes seconds",
        "object.quarantined": "digest code tag profile",
        "batch.finished": "accepted quarantined count seconds",
        "override.used": "kind code profile count",
        "patient.erased": "count",
        "labels.imported": "task count accepted",
        "study.ingested": "count digest",
        # site
        "sandbox.entered": "mode",
        "sandbox.unavailable": "code error",
        "site.enrolled": "site federation key",
        "site.approved": "site key",
        "site.revoked": "site key",
        "order.received": "run round site digest kind attempt",
        "order.refused": "run round site digest code kind",
        "job.started": "run round site kind attempt patients",
        "job.progressed": "run round site kind step steps seconds",
        "model.trained": "run round site steps seconds",
        "job.finished": "run round site kind digest seconds epsilon",
        "job.failed": "run round site kind code error",
        "budget.reserved": "run round attempt epsilon",
        "budget.spent": "run round attempt epsilon digest",
        "budget.refused": "run round code epsilon",
        "blob.stored": "digest bytes seconds",
        "blob.sent": "digest bytes seconds",
        "bundle.refused": "digest code",
        "connection.lost": "process error seconds",
        "connection.restored": "process seconds",
        # coordinator
        "request.refused": "code status site stage",
        "enrolment.opened": "site",
        "enrolment.refused": "code",
        "run.created": "run digest",
        "run.started": "run round",
        "run.resumed": "run round count",
        "run.finished": "run round digest state",
        "run.failed": "run round code",
        "run.stopped": "run round",
        "round.opened": "run round digest count",
        "round.closed": "run round digest count seconds",
        "round.failed": "run round code count",
        "order.sent": "run round site attempt digest kind",
        "update.received": "run round site digest bytes",
        "update.admitted": "run round site digest",
        "update.refused": "run round site digest code",
        "site.absent": "run round site code",
        "evaluation.admitted": "run site digest",
        "evaluation.refused": "run round site digest code",
        "run.submitted": "run count",
        "log.appended": "count digest kind",
    }.items()
}


class UndeclaredEvent(ValueError):
    """A programmer's mistake: the event, field or value is not declared here."""


class _Sink:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stream: TextIO = sys.stderr
        self.file: Path | None = None
        self.inode = 0
        self.process = "pleura"
        self.clock: Clock = SystemClock()
        self.quiet = True
        self.is_full = False

    def write(self, line: str) -> bool:
        """Write a line; return False where the volume has no room for it."""
        try:
            self.stream.write(line + "\n")
            self.stream.flush()
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return False
        return True


_sink = _Sink()


def configure(process: str, *, file: Path | None = None, clock: Clock | None = None) -> None:
    """Name this process and choose where its events go (stderr if no file)."""
    _sink.process = process
    _sink.clock = clock or SystemClock()
    _sink.quiet = False
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _open(file)
    reduce_foreign_logs()


def check(name: str, fields: Mapping[str, object]) -> None:
    """Raise UndeclaredEvent unless the event and every field are declared."""
    allowed = EVENTS.get(name)
    if allowed is None:
        raise UndeclaredEvent(f"event {name!r} is not declared")
    for field, value in fields.items():
        if field not in allowed:
            raise UndeclaredEvent(f"event {name!r} has no field {field!r}")
        rule = FIELDS[field]
        if isinstance(rule, str):
            if not isinstance(value, str) or re.fullmatch(rule, value) is None:
                raise UndeclaredEvent(f"field {field!r} of {name!r} breaks its pattern")
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UndeclaredEvent(f"field {field!r} of {name!r} is not a number")
        elif rule is int and not isinstance(value, int):
            raise UndeclaredEvent(f"field {field!r} of {name!r} is not a whole number")


def emit(name: str, **fields: object) -> None:
    """Write one event as a JSON line.

    A full volume ends no process: lines it has no room for are lost, and as soon as
    there is room again a `disk.filled` says so.

    Raises:
        UndeclaredEvent: name, field or value is not declared in this module.
    """
    check(name, fields)
    if _sink.quiet:
        return
    with _sink.lock:
        if not _sink.write(_line(name, fields)):
            _sink.is_full = True
        elif _sink.is_full:
            _sink.is_full = False
            _sink.write(_line("disk.filled", {"process": _sink.process, "code": "HOST-DISK"}))
        if _sink.file is not None:
            _turn_over(_sink.file)


def _open(file: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    _sink.file, _sink.inode = file, os.fstat(descriptor).st_ino
    _sink.stream = os.fdopen(descriptor, "a", encoding="utf-8", buffering=1)


def _turn_over(file: Path) -> None:
    """Begin a new file when this one is full; the oldest goes, so no log fills a volume.

    Several processes may write to one file: the first to find it full renames it, the
    others find another file under its name and follow.
    """
    try:
        there = file.stat()
    except FileNotFoundError:
        there = None
    if there is not None and there.st_ino == _sink.inode:
        if there.st_size < MAX_FILE_BYTES:
            return
        for number in range(FILES_KEPT - 1, 0, -1):
            older = file.with_name(f"{file.name}.{number}")
            if older.exists():
                older.replace(file.with_name(f"{file.name}.{number + 1}"))
        file.replace(file.with_name(f"{file.name}.1"))
    full = _sink.stream
    _open(file)
    full.close()
    reduce_foreign_logs()


def _line(name: str, fields: Mapping[str, object]) -> str:
    record: dict[str, object] = {"ts": to_rfc3339(_sink.clock.now()), "event": name}
    record["by"] = _sink.process
    record.update({key: round(v, 6) if isinstance(v, float) else v for key, v in fields.items()})
    return json.dumps(record, separators=(",", ":"))


class _ForeignFilter(logging.Filter):
    """Keeps only logger name and level of a record; its text may hold anything."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = f"{record.name} {record.levelname}", None
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def reduce_foreign_logs() -> None:
    """Let third-party loggers say only their name and level, at every level."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.StreamHandler(_sink.stream)
    handler.addFilter(_ForeignFilter())
    handler.setFormatter(logging.Formatter('{"event":"foreign.logged","from":"%(message)s"}'))
    root.addHandler(handler)
