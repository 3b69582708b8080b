"""Erasure: everything a pseudonym leads to goes, the patient stays out, others stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pleura.anonymizer.erasure import Erasure, ErasureIndex, Use, erase
from pleura.anonymizer.errors import ErasureRefused
from pleura.anonymizer.mapping import RandomMapping
from pleura.anonymizer.pseudonyms import Pseudonyms
from tests.builders.identified import project_key

KEY = project_key()
ROUND = Use("chest-xray/train", "run-1", 3)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ErasureIndex]:
    with ErasureIndex(tmp_path / "erasure.db") as opened:
        yield opened


@pytest.fixture(params=["hmac", "random"])
def names(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pseudonyms]:
    if request.param == "hmac":
        yield KEY
    else:
        with closing(RandomMapping(tmp_path / "map.db", KEY)) as mapping:
            yield mapping


def _stored(store: Path, index: ErasureIndex, patient: str, study: str) -> Path:
    path = f"{patient}/{study}/series/object.dcm"
    (store / path).parent.mkdir(parents=True)
    (store / path).write_bytes(b"pixels")
    index.add_files([(path, patient)])
    return store / path


def test_an_erased_patient_leaves_a_keyed_tombstone_and_nothing_else(
    tmp_path: Path, index: ErasureIndex, names: Pseudonyms
) -> None:
    store = tmp_path / "store"
    gone, kept = names.patient("A1", ""), names.patient("B2", "")
    first, second = (_stored(store, index, gone, study) for study in ("s1", "s2"))
    other = _stored(store, index, kept, "s3")
    index.add_uses([gone, kept], ROUND)
    index.add_uses([gone], ROUND)
    done = erase(index, store, names, gone)
    assert done == Erasure(2, 1 if names.kind == "random" else 0, (ROUND,))
    assert not first.exists()
    assert not second.exists()
    assert not (store / gone).exists()
    assert other.exists()
    assert index.files_of(gone) == []
    assert len(index.files_of(kept)) == 1
    assert index.uses_of(kept) == (ROUND,)
    assert index.uses_of(gone) == ()
    assert index.tombstones() == {names.tombstone("A1", "1.2")}
    assert names.tombstone("B2", "1.2") not in index.tombstones()
    for path in tmp_path.glob("*.db*"):
        assert gone.encode() not in path.read_bytes() or names.kind == "hmac"


def test_erasing_twice_says_so_and_lists_the_rounds_again(
    tmp_path: Path, index: ErasureIndex, names: Pseudonyms
) -> None:
    gone = names.patient("A1", "")
    _stored(tmp_path / "store", index, gone, "s1")
    index.add_uses([gone], ROUND)
    erase(index, tmp_path / "store", names, gone)
    again = erase(index, tmp_path / "store", names, gone)
    assert again == Erasure(0, 0, (ROUND,), is_repeat=True)


def test_a_pseudonym_nobody_has_is_refused(
    tmp_path: Path, index: ErasureIndex, names: Pseudonyms
) -> None:
    with pytest.raises(ErasureRefused):
        erase(index, tmp_path, names, "P" + "A" * 16)
    assert index.tombstones() == frozenset()


def test_an_erasure_that_failed_half_way_bars_the_patient_and_can_be_finished(
    tmp_path: Path, index: ErasureIndex, names: Pseudonyms
) -> None:
    store = tmp_path / "store"
    gone = names.patient("A1", "")
    stuck = _stored(store, index, gone, "s1")
    stuck.unlink()
    stuck.mkdir()  # what cannot be unlinked
    with pytest.raises(OSError, match="object"):
        erase(index, store, names, gone)
    assert names.tombstone("A1", "") in index.tombstones()
    assert len(index.files_of(gone)) == 1
    stuck.rmdir()
    stuck.write_bytes(b"pixels")
    done = erase(index, store, names, gone)
    assert (done.files, done.is_repeat) == (1, False)


def test_a_path_that_leads_out_of_the_store_is_not_deleted(
    tmp_path: Path, index: ErasureIndex
) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_bytes(b"not ours")
    name = KEY.patient("A1", "")
    index.add_files([("../outside.txt", name)])
    with pytest.raises(ErasureRefused):
        erase(index, tmp_path / "store", KEY, name)
    assert outside.exists()


def test_a_file_taken_in_again_changes_hands(index: ErasureIndex) -> None:
    index.add_files([("a.dcm", "PONE")])
    index.add_files([("a.dcm", "PTWO")])
    assert index.files_of("PONE") == []
    assert index.files_of("PTWO") == ["a.dcm"]


def test_the_index_is_private(index: ErasureIndex, tmp_path: Path) -> None:
    index.add_files([("a.dcm", "PONE")])
    for path in tmp_path.glob("erasure.db*"):
        assert path.stat().st_mode & 0o077 == 0
