"""Events are a closed list, foreign logs are reduced, errors tell the operator what to do."""

from __future__ import annotations

import importlib
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
        logging.getLogger("pydicom").exception("reading %s", "/pacs/Mustermann.dcm")
    assert json.loads(log.read_text()) == {"event": "foreign.logged", "from": "pydicom ERROR"}


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
    assert stop.value.code == 130


def test_the_command_lists_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([])
    assert "pleura anonymize" in capsys.readouterr().err
    cli.main(["--version"])
    assert capsys.readouterr().out.count(".") == 2
    with pytest.raises(SystemExit) as stop:
        cli.main(["invented"])
    assert stop.value.code == ExitCode.USAGE
