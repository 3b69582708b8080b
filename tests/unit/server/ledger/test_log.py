"""The statement log: order, idempotence, and what cannot be changed."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pleura.common.errors import DatabaseDamaged
from pleura.server.ledger.log import StatementLog


@pytest.fixture
def log(tmp_path: Path) -> Iterator[StatementLog]:
    opened = StatementLog(tmp_path / "statements.db")
    yield opened
    opened.close()


def test_the_empty_log_has_a_head_of_zeros(log: StatementLog) -> None:
    assert (log.head().size, log.head().digest) == (0, "0" * 64)


def test_the_head_chains_rfc_6962_leaf_hashes(log: StatementLog) -> None:
    log.append("order", b"one")
    log.append("update", b"two")
    head = bytes(32)
    for envelope in (b"one", b"two"):
        leaf = hashlib.sha256(b"\x00" + envelope).digest()
        head = hashlib.sha256(head + leaf).digest()
    assert log.head().digest == head.hex()
    assert log.verify() == log.head()


def test_an_envelope_appended_again_keeps_its_index(log: StatementLog) -> None:
    assert [log.append("order", data) for data in (b"a", b"b", b"a")] == [0, 1, 0]
    assert log.head().size == 2


def test_entries_come_back_in_order_with_their_bytes(log: StatementLog) -> None:
    for n in range(5):
        log.append("order", bytes([n]))
    assert [e.envelope for e in log.entries(2, 2)] == [b"\x02", b"\x03"]
    assert log.index_of(log.entries(3, 1)[0].digest) == 3
    assert log.index_of("0" * 64) is None


@pytest.mark.parametrize("kind", ["", "Order", "order order", "x" * 30, "1st"])
def test_a_kind_that_is_no_short_word_is_refused(log: StatementLog, kind: str) -> None:
    with pytest.raises(ValueError, match="kind"):
        log.append(kind, b"x")


@pytest.mark.parametrize(
    "change",
    ["UPDATE entries SET envelope = x'00'", "DELETE FROM entries", "UPDATE entries SET ix = 9"],
)
def test_an_entry_cannot_be_changed_or_removed(
    log: StatementLog, tmp_path: Path, change: str
) -> None:
    log.append("order", b"one")
    other = sqlite3.connect(tmp_path / "statements.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute(change)
    other.close()
    assert log.verify().size == 1


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE entries SET envelope = x'00' WHERE ix = 1",
        "UPDATE entries SET head = zeroblob(32) WHERE ix = 1",
        "DELETE FROM entries WHERE ix = 0",
        "UPDATE entries SET digest = replace(digest, substr(digest, 1, 1), 'f') WHERE ix = 0",
    ],
)
def test_a_forged_entry_is_found_by_verify(log: StatementLog, tmp_path: Path, forgery: str) -> None:
    for data in (b"one", b"two", b"three"):
        log.append("order", data)
    with sqlite3.connect(tmp_path / "statements.db") as other:
        other.execute("DROP TRIGGER entries_no_update")
        other.execute("DROP TRIGGER entries_no_delete")
        other.execute(forgery)
    other.close()
    with pytest.raises(DatabaseDamaged):
        log.verify()
