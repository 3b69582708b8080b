"""Where an audit ended, read by those who only look."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from pleura.anonymizer.audit import Mark
from pleura.anonymizer.journal import Journal, audit_mark_of
from pleura.common.errors import DatabaseDamaged

MARK = Mark(120, "ab" * 32)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "a b?%41#.journal.db"
    with closing(Journal(path, "settings")) as book:
        book.settle([], MARK)
    return path


def test_the_mark_is_what_the_journal_keeps_and_nothing_is_made_beside_it(journal: Path) -> None:
    before = names(journal.parent)
    assert audit_mark_of(journal) == MARK
    assert names(journal.parent) == before


def test_a_batch_that_runs_is_read_and_not_held_up(journal: Path) -> None:
    later = Mark(300, "cd" * 32)
    with closing(Journal(journal, "settings")) as book:
        book.settle([], later)
        assert audit_mark_of(journal) == later
        book.settle([], MARK)
        assert audit_mark_of(journal) == MARK


def test_without_a_journal_or_a_settled_study_nobody_knows(tmp_path: Path) -> None:
    assert audit_mark_of(tmp_path / "none") == Mark()
    (tmp_path / "empty").touch()
    assert audit_mark_of(tmp_path / "empty") == Mark()
    Journal(tmp_path / "new", "settings").close()
    assert audit_mark_of(tmp_path / "new") == Mark()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"no database" * 100)
    with pytest.raises(DatabaseDamaged):
        audit_mark_of(tmp_path / "journal")
