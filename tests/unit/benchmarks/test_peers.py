from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.deid import peers
from tests.benchmarks.deid.peers import DRIVERS, Outcome, Peer, ensure_venv, run_all, run_driver

HEAD = f"""
import os, sys
sys.path.insert(0, {str(DRIVERS)!r})
from folder_run import drive, parser
given = parser(None).parse_args()
def copy(source, out):
    (out / source.name).write_bytes(source.read_bytes())
    return out / source.name
"""
COPIES = HEAD + "drive(given, lambda: copy)\n"
FAILS_ON_ONE = (
    HEAD
    + """
def work(source, out):
    if source.name == "b.dcm":
        raise LookupError("Quibbleworth")
    return copy(source, out)
drive(given, lambda: work)
"""
)
EXITS_ON_ONE = FAILS_ON_ONE.replace('raise LookupError("Quibbleworth")', "sys.exit(3)")
DIES = (
    HEAD
    + """
def work(source, out):
    copy(source, out)
    os.abort()
drive(given, lambda: work)
"""
)
LIES = (
    HEAD
    + """
drive(given, lambda: lambda source, out: out / source.name)
"""
)
POINTS_AT_THE_SOURCE = (
    HEAD
    + """
drive(given, lambda: lambda source, out: source)
"""
)
SAYS_NONSENSE = HEAD + "given.json.write_text('[1]')\n"
SAYS_NOTHING = HEAD
DOES_NOT_START = "raise SystemExit(2)\n"
HANGS = "import time\ntime.sleep(60)\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a.dcm", "b.dcm", "c.dcm"):
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def outcome_of(tmp_path: Path, corpus: Path) -> Callable[[str], Outcome]:
    def run(script: str) -> Outcome:
        path = tmp_path / "driver.py"
        path.write_text(script, encoding="utf-8")
        return run_driver(Peer("p", path), Path(sys.executable), corpus, tmp_path / "work")

    return run


def test_every_output_of_a_peer_is_found_under_its_source_name(
    outcome_of: Callable[[str], Outcome],
) -> None:
    outcome = outcome_of(COPIES)
    found = {name: path.read_bytes() for name, path in outcome.outputs.items() if path}
    assert found == {name: name.encode() for name in ("a.dcm", "b.dcm", "c.dcm")}
    assert outcome.note == ""
    assert outcome.cpu_s is not None and outcome.cpu_s > 0
    assert outcome.peak_mb is not None and 1 < outcome.peak_mb < 1000


@pytest.mark.parametrize(
    ("script", "note"), [(FAILS_ON_ONE, "1 LookupError"), (EXITS_ON_ONE, "1 SystemExit")]
)
def test_a_file_a_peer_fails_on_has_no_output_and_the_others_have(
    outcome_of: Callable[[str], Outcome], script: str, note: str
) -> None:
    outcome = outcome_of(script)
    assert [name for name, path in outcome.outputs.items() if path is None] == ["b.dcm"]
    assert outcome.note == note


@pytest.mark.parametrize(
    ("script", "note"),
    [
        (DIES, "the tool ended with -6, no output"),
        (DOES_NOT_START, "the tool ended with 2, no output"),
        (SAYS_NOTHING, "unreadable report: FileNotFoundError"),
        (SAYS_NONSENSE, "unreadable report: TypeError"),
        (LIES, "3 outputs reported but not there"),
        (POINTS_AT_THE_SOURCE, "3 outputs reported but not there"),
    ],
    ids=["dies", "does not start", "says nothing", "says nonsense", "lies", "gives the source"],
)
def test_a_peer_that_breaks_down_has_no_outputs_and_a_note(
    outcome_of: Callable[[str], Outcome], script: str, note: str
) -> None:
    outcome = outcome_of(script)
    assert outcome.outputs == {"a.dcm": None, "b.dcm": None, "c.dcm": None}
    assert outcome.note == note


def test_a_peer_that_hangs_is_ended(
    outcome_of: Callable[[str], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "LIMIT_S", 1)
    outcome = outcome_of(HANGS)
    assert set(outcome.outputs.values()) == {None}
    assert outcome.note == "TimeoutExpired, no output"


def test_without_their_environment_the_peers_have_no_outputs_and_a_note(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(peers.VARIABLE, str(tmp_path / "nowhere"))
    outcomes = run_all(corpus, tmp_path / "work")
    assert [outcome.name for outcome in outcomes] == [peer.name for peer in peers.PEERS]
    for outcome in outcomes:
        assert outcome.outputs == {"a.dcm": None, "b.dcm": None, "c.dcm": None}
        assert outcome.note == "the peers' environment is missing: ValueError"


def test_an_environment_without_the_pinned_peers_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(peers.VARIABLE, sys.prefix)
    monkeypatch.setitem(peers.PINS, "deid", "0.0.1")
    with pytest.raises(ValueError, match=r"deid==0\.0\.1"):
        ensure_venv()


def test_one_peer_that_breaks_down_does_not_stop_the_next(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(peers.VARIABLE, sys.prefix)
    monkeypatch.setattr(peers, "PINS", {"pytest": pytest.__version__})
    row = []
    for name, script in (("breaks", DIES), ("works", COPIES)):
        path = tmp_path / f"{name}.py"
        path.write_text(script, encoding="utf-8")
        row.append(Peer(name, path))
    breaks, works = run_all(corpus, tmp_path / "work", peers=row)
    assert set(breaks.outputs.values()) == {None}
    assert None not in works.outputs.values()
