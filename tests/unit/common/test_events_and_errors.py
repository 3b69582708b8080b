"""Events are a closed list, foreign logs are reduced, errors tell the operator what to do."""

from __future__ import annotations

import errno
import importlib
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from pleura.common import cli, events
from pleura.common.errors import DiskFull, PleuraError, SignatureRejected
from pleura.common.exit_codes import ExitCode
from pleura.common.ids import InvalidId, parse_run_id, parse_site_id


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    saved = vars(events._sink).copy()
    handlers = list(logging.getLogger().handlers)
    path = tmp_path / "log" / "x.jsonl"
    events.configure("trainer", file=path)
    yield path
    events._sink.stream.close()
    vars(events._sink).update(saved)
    logging.getLogger().handlers[:] = handlers


def test_an_event_is_one_json_line_with_its_declared_fields(log: Path) -> None:
    events.emit("update.admitted", run="run-1", round=3, site="site-a", digest="ab" * 6)
    record = json.loads(log.read_text())
    assert record["event"] == "update.admitted"
    assert (record["by"], record["round"], record["digest"]) == ("trainer", 3, "ab" * 6)


class Volume(io.RawIOBase):
    """A file whose volume can be full, or broken in another way."""

    def __init__(self) -> None:
        self.problem: int | None = None
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        if self.problem is not None:
            raise OSError(self.problem, "volume")
        piece = bytes(data)  # type: ignore[call-overload]
        self.data += piece
        return len(piece)


def on_volume(volume: Volume) -> None:
    events._sink.stream.close()
    buffered = io.BufferedWriter(volume)
    events._sink.stream = io.TextIOWrapper(buffered, encoding="utf-8", line_buffering=True)


def test_full_volume_ends_no_process_and_is_named_when_there_is_room_again(log: Path) -> None:
    volume = Volume()
    on_volume(volume)
    events.emit("order.sent", round=1)
    volume.problem = errno.ENOSPC
    for _ in range(500):  # far more than any buffer holds
        events.emit("order.sent", round=2)
    volume.problem = None
    events.emit("order.sent", round=3)
    events.emit("order.sent", round=4)
    records = [json.loads(line) for line in volume.data.splitlines()]  # no line is torn
    assert [r["round"] for r in records if r.get("round") in (1, 3, 4)] == [1, 3, 4]
    named = [r for r in records if r["event"] == "disk.filled"]
    assert [(r["process"], r["code"]) for r in named] == [("trainer", "HOST-DISK")]
    assert records[-1]["round"] == 4


def test_a_full_log_file_is_set_aside_and_the_oldest_goes(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_FILE_BYTES", 300)
    monkeypatch.setattr(events, "FILES_KEPT", 2)
    for round_ in range(40):
        events.emit("order.sent", round=round_)
    files = sorted(log.parent.iterdir())
    assert [file.name for file in files] == ["x.jsonl", "x.jsonl.1", "x.jsonl.2"]
    assert all(file.stat().st_size < 400 for file in files)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    kept = [json.loads(line)["round"] for name in ("x.jsonl.2", "x.jsonl.1", "x.jsonl")
            for line in (log.parent / name).read_text().splitlines()]  # fmt: skip
    assert kept == list(range(kept[0], 40))


def test_a_log_file_that_another_process_set_aside_is_left(log: Path) -> None:
    events.emit("order.sent", round=1)
    log.rename(log.with_name("x.jsonl.1"))
    events.emit("order.sent", round=2)  # still in the old file, and then it is noticed
    events.emit("order.sent", round=3)
    assert json.loads(log.read_text())["round"] == 3


def test_another_fault_of_the_log_is_not_hidden(log: Path) -> None:
    volume = Volume()
    on_volume(volume)
    volume.problem = errno.EIO
    with pytest.raises(OSError, match="volume"):
        events.emit("order.sent", round=1)
    volume.problem = None


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("update.invented", {}),
        ("update.admitted", {"patient": "x"}),
        ("update.admitted", {"site": "Mustermann^Max"}),
        ("update.admitted", {"digest": "ab" * 32}),
        ("update.admitted", {"round": "3"}),
        ("update.admitted", {"round": True}),
        ("update.admitted", {"round": 1.5}),
    ],
)
def test_what_is_not_declared_cannot_be_emitted(
    log: Path, name: str, fields: dict[str, object]
) -> None:
    with pytest.raises(events.UndeclaredEvent):
        events.emit(name, **fields)
    assert log.read_text() == ""


def test_a_foreign_logger_says_only_its_name_and_level(log: Path) -> None:
    try:
        raise ValueError("Mustermann^Max")
    except ValueError:
        logging.getLogger("third.party").exception("reading %s", "/pacs/Mustermann.dcm")
    assert json.loads(log.read_text()) == {"event": "foreign.logged", "from": "third.party ERROR"}


def _leaves(cls: type[PleuraError]) -> Iterator[type[PleuraError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _leaves(child)


def test_every_error_has_its_own_code_a_hint_and_an_exit_status() -> None:
    for package in ("anonymizer", "client", "server"):
        importlib.import_module(f"pleura.{package}.errors")
    leaves = set(_leaves(PleuraError))
    codes = [leaf.__dict__["code"] for leaf in leaves if "code" in leaf.__dict__]
    assert len(codes) == len(set(codes))
    for leaf in leaves:
        assert len(leaf.hint) > 15, leaf
        assert isinstance(leaf.exit_code, ExitCode)


def test_ids_are_safe_in_paths_and_urls() -> None:
    assert parse_site_id("site-a") == "site-a"
    assert parse_run_id("run-1") == "run-1"
    for bad in ("", "a", "A-b", "a/b", "../x", "a" * 41, "-ab", "a b"):
        with pytest.raises(InvalidId):
            parse_site_id(bad)
        with pytest.raises(InvalidId):
            parse_run_id(bad)


def test_an_error_becomes_two_lines_and_its_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, cli.operator_errors():
        raise DiskFull("volume")
    assert stop.value.code == ExitCode.ENVIRONMENT
    out = capsys.readouterr()
    assert out.out == ""
    assert "HOST-DISK" in out.err
    assert "Free space" in out.err


def test_the_detail_is_optional_and_codes_come_first() -> None:
    assert str(SignatureRejected()) == "REJ-SIGNATURE"
    assert str(SignatureRejected("Ed25519")) == "REJ-SIGNATURE: Ed25519"


def test_interruption_ends_without_a_traceback() -> None:
    with pytest.raises(SystemExit) as stop, cli.operator_errors():
        raise KeyboardInterrupt
    assert stop.value.code == ExitCode.STOPPED == 130


def test_a_fault_of_the_command_has_a_word_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """INTERNAL is a code of the quarantine: one file, and the batch goes on."""
    with pytest.raises(SystemExit) as stop, cli.operator_errors():
        raise KeyError("Quibbleworth")
    assert stop.value.code == ExitCode.INTERNAL
    said = capsys.readouterr().err
    assert "FAULT: KeyError at " in said
    assert "Quibbleworth" not in said
    assert "INTERNAL" not in said


def test_the_command_lists_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([])
    assert "pleura anonymize" in capsys.readouterr().err
    cli.main(["--version"])
    assert capsys.readouterr().out.count(".") == 2
    with pytest.raises(SystemExit) as stop:
        cli.main(["invented"])
    assert stop.value.code == ExitCode.USAGE
