"""Tries of the de-identifier on damaged files: what came of each, and what may not be.

A file is either accepted, and then its output can be read and holds nothing that was planted,
or refused under a named code, and then nothing of it is left. Whatever else is seen is a fault.
"""

from __future__ import annotations

import io
import logging
import shutil
import signal
import time
import traceback
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from pydicom import dcmread
from pydicom.config import disable_value_validation

from pleura.anonymizer.engine import Deidentified, deidentify_file
from pleura.anonymizer.errors import InternalFault, Quarantined
from pleura.anonymizer.pixels.decode import open_frames
from pleura.anonymizer.pixels.facts import read_facts
from pleura.anonymizer.profile import PROFILE_NAMES, Profile, load_profile
from pleura.anonymizer.pseudonyms import Pseudonyms
from pleura.anonymizer.wire import parse_file
from pleura.common import events
from tests.builders.deidentified import names_for
from tests.builders.identified import project_key
from tests.builders.mutation_samples import leaked
from tests.builders.mutations import Mutant

LIMIT_S: Final = 5.0
ACCEPTED: Final = "ACCEPTED"
_LOGGERS: Final = ("", "pydicom", "pylibjpeg", "openjpeg", "jpeg_ls", "pleura")


class TooSlow(BaseException):
    """A file took longer than it may; no handler of ordinary errors can swallow this."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one mutant: ACCEPTED or a code, how long it took, what was wrong."""

    name: str
    code: str
    seconds: float
    faults: tuple[str, ...]


@dataclass(slots=True)
class _Heard(logging.Handler):
    """Everything that loggers and warnings said."""

    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        logging.Handler.__init__(self, logging.NOTSET)

    __hash__ = object.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logging.Formatter().format(record))


class Trials:
    """Tries mutants in a folder, under the profiles in turn."""

    def __init__(self, folder: Path, *, decodes: bool = False) -> None:
        """`decodes`: the pixels of every mutant are decoded too, which may end the process."""
        self.folder, self.decodes = folder, decodes
        self.profiles: list[Profile] = [load_profile(name) for name in PROFILE_NAMES]
        self.names: Mapping[str, Pseudonyms] = {
            p.name: names_for(p, project_key(), folder / "names") for p in self.profiles
        }
        self.count = 0

    def close(self) -> None:
        for names in self.names.values():
            names.close()

    def attempt(self, mutant: Mutant) -> Outcome:
        """De-identify one mutant and say what came of it."""
        profile = self.profiles[self.count % len(self.profiles)]
        self.count += 1
        given = self.folder / "given" / "Quibbleworth-MRN-7733.dcm"
        given.parent.mkdir(parents=True, exist_ok=True)
        given.write_bytes(mutant.data)
        out = self.folder / "out"
        planted = (*mutant.planted, "Quibbleworth", "MRN-7733")
        code, faults, said = ACCEPTED, [], ""
        started = time.perf_counter()
        with _heard() as heard:
            try:
                with _limited():
                    result = deidentify_file(
                        given, out, profile=profile, key=self.names[profile.name], ocr="off",
                        allow_unread_text=True, fsync=False,
                    )  # fmt: skip
            except Quarantined as exc:
                code, said = exc.code, "".join(traceback.format_exception(exc))
                if isinstance(exc, InternalFault):
                    faults.append(f"internal fault {exc}")
                faults += _leftovers(out, None)
            except TooSlow:
                code = "SLOW"
                faults.append("too slow")
            except Exception as exc:  # noqa: BLE001  a fault to be counted, not a crash
                code, said = type(exc).__name__, "".join(traceback.format_exception(exc))
                faults.append(f"foreign exception {code}")
            try:
                with _limited():
                    faults += _decoding_faults(mutant.data) if self.decodes else []
            except TooSlow:
                faults.append("decoding is too slow")
        seconds = time.perf_counter() - started
        if code == ACCEPTED:
            faults += [*_leftovers(out, result.path), *_wrong(result, planted)]
        talk = "\n".join([said, *heard.texts]).encode()
        faults += [f"said {value}" for value in leaked(talk, planted)]
        faults += [f"entry {p.name}" for p in self.folder.iterdir() if p.name not in _ENTRIES]
        shutil.rmtree(out, ignore_errors=True)
        return Outcome(f"{mutant.name} ({profile.name})", code, seconds, tuple(faults))


_ENTRIES: Final = frozenset({"given", "out", "names", "names.vault", "sound", "events.jsonl"})


@contextmanager
def _heard() -> Iterator[_Heard]:
    handler = _Heard()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield handler
        handler.texts += [str(w.message) for w in caught]
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


@contextmanager
def recorded_events(file: Path) -> Iterator[None]:
    """Write events to a file for a while; afterwards they go where they went before."""
    root = logging.getLogger()
    sink, handlers = vars(events._sink).copy(), list(root.handlers)
    events.configure("anonymizer", file=file)
    try:
        yield
    finally:
        events._sink.stream.close()
        vars(events._sink).update(sink)
        root.handlers[:] = handlers


@contextmanager
def _limited() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _decoding_faults(data: bytes) -> list[str]:
    """Return what went wrong, other than a refusal, when all frames were decoded."""
    try:
        parsed = parse_file(data)
        facts = read_facts(parsed)
        if facts is not None:
            frames = open_frames(parsed, facts)
            for index in range(frames.count):
                frames.frame(index)
    except Quarantined:
        return []
    except Exception as exc:  # noqa: BLE001  a fault to be counted, not a crash
        return [f"decoder raised {type(exc).__name__}"]
    return []


def _leftovers(out: Path, expected: Path | None) -> list[str]:
    found = [p for p in out.rglob("*") if p.is_file() and p != expected]
    return [f"left over {p.suffix or 'file'}" for p in found]


def _wrong(result: Deidentified, planted: tuple[str, ...]) -> list[str]:
    data = result.path.read_bytes()
    try:
        parse_file(data)
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            for element in dcmread(io.BytesIO(data)).iterall():
                str(element.value)
    except Exception as exc:  # noqa: BLE001  a fault to be counted, not a crash
        return [f"output unreadable: {type(exc).__name__}"]
    return _leaks(result, planted)


def _leaks(result: Deidentified, planted: tuple[str, ...]) -> list[str]:
    data = result.path.read_bytes()
    if parse_file(data).syntax.deflated:
        at = data.index(b"\x02\x00\x00\x00UL\x04\x00")
        body = data[at + 12 + int.from_bytes(data[at + 8 : at + 12], "little") :]
        data += zlib.decompress(body, -zlib.MAX_WBITS)
    found = leaked(data + str(result).encode(), planted)
    return [f"leaked {value}" for value in sorted(found)]
