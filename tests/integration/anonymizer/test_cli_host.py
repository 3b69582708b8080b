"""What the host refuses the commands: a read-only place, a full disk, a pipe nobody reads."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pleura.anonymizer import cli_receipt
from pleura.anonymizer.erasure import ErasureIndex
from tests.builders.anonymize_cli import call, run, two_files

READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = two_files(tmp_path)
    assert run(site).exit_code == 0
    return site


def argv(*words: object) -> list[str]:
    return [sys.executable, "-m", "pleura.common.cli", "anonymize", *map(str, words)]


def read_only(site: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command where everything below `site` is on a read-only mount."""
    wrapped = ["unshare", "-Urm", "sh", "-c", READ_ONLY, "sh", str(site)]
    if subprocess.run([*wrapped, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine permits no mounts")
    return subprocess.run(
        [*wrapped, *argv(*words)], check=False, capture_output=True, text=True, timeout=60,
        env=ENVIRONMENT,
    )  # fmt: skip


def contents(site: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(site.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("extra", [(), ("--evidence",)])
def test_a_receipt_is_read_from_a_read_only_place(site: Path, extra: Sequence[str]) -> None:
    expected = json.loads(call("receipt", site / "out", "--json", *extra).stdout)
    done = read_only(site, "receipt", site / "out", "--json", *extra)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


def test_a_receipt_writes_nothing(site: Path) -> None:
    before = contents(site)
    assert call("receipt", site / "out").exit_code == 0
    assert contents(site) == before


def test_a_receipt_sees_what_another_process_has_just_recorded(site: Path) -> None:
    (patient,) = (site / "out").iterdir()
    for path in sorted(patient.rglob("*.dcm")):
        path.rename(site / "out" / path.name)  # as with --names mirror: the index knows them
    assert json.loads(call("receipt", site / "out", "--json").stdout)["objects"] == "<5"
    with ErasureIndex(site / "out.erasure.db") as index:
        index.drop_files(patient.name)
        found = json.loads(call("receipt", site / "out", "--json").stdout)
    assert (found["objects"], found["gone"]) == ("0", "<5")


def test_a_receipt_of_a_damaged_index_is_refused(site: Path) -> None:
    (site / "out.erasure.db").write_bytes(b"no database at all" * 100)
    result = call("receipt", site / "out")
    assert result.exit_code == 4
    assert "HOST-DB" in result.stderr


def test_nothing_is_erased_from_a_read_only_place(site: Path) -> None:
    before = contents(site)
    (patient,) = (site / "out").iterdir()
    done = read_only(site, "erase", patient.name, site / "out", "--key", site / "key", "--yes")
    assert done.returncode == 4
    assert "DEID-WRITE" in done.stderr
    assert contents(site) == before


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EROFS, errno.EIO, errno.ENOSPC])
def test_what_the_host_refuses_is_no_fault_of_ours(
    site: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(reason, os.strerror(reason), "Quibbleworth")

    monkeypatch.setattr(cli_receipt, "receipt_of", refused)
    result = call("receipt", site / "out")
    assert result.exit_code == 4
    assert "what to do" in result.stderr
    assert "Quibbleworth" not in result.output


def test_a_fault_of_ours_stays_one(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "none")

    monkeypatch.setattr(cli_receipt, "receipt_of", broken)
    assert isinstance(call("receipt", site / "out").exception, FileNotFoundError)


def commands(site: Path) -> list[list[str]]:
    explained = ("explain", site / "in" / "a.dcm", "--profile", "research_dates")
    return [
        argv("receipt", site / "out"),
        argv("verify", site / "out", "--json"),
        argv(*explained),
        argv("keygen", site / "new.key"),
    ]


def test_a_full_standard_output_ends_every_command_with_4(site: Path) -> None:
    for command in commands(site):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command, check=False, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
                env=ENVIRONMENT,
            )  # fmt: skip
        assert done.returncode == 4, (command, done.stderr)
        assert done.stderr.count("standard output") == done.stderr.count("what to do") == 1
        assert "Exception ignored" not in done.stderr


def test_a_pipe_that_nobody_reads_ends_every_command_with_4(site: Path) -> None:
    for command in commands(site):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            command, check=False, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60,
            env=ENVIRONMENT,
        )  # fmt: skip
        os.close(writing)
        assert done.returncode == 4, (command, done.stderr)
        assert "standard output" in done.stderr
        assert "Exception ignored" not in done.stderr
