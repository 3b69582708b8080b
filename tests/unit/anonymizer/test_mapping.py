"""The random mapping: shapes, agreement, durability, look-ups, and another key refused."""

from __future__ import annotations

import copy
import os
import re
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pleura.anonymizer import mapping as mapping_module
from pleura.anonymizer.errors import LookUpRefused, MappingOfOtherKey, MappingRequired
from pleura.anonymizer.lookup import StewardKey, look_up, seal, unseal
from pleura.anonymizer.mapping import RandomMapping, open_pseudonyms
from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.pseudonyms import ProjectKey
from pleura.common.clock import FakeClock
from pleura.common.errors import DatabaseDamaged, DiskFull
from pleura.common.files import fsync_file
from tests.builders.identified import project_key

KEY = project_key()
HIPAA = load_profile("hipaa_safe_harbor")
GDPR = load_profile("gdpr_pseudonymous")


@pytest.fixture
def mapping(tmp_path: Path) -> Iterator[RandomMapping]:
    opened = RandomMapping(tmp_path / "map.db", KEY)
    yield opened
    opened.close()


def _again(mapping: RandomMapping) -> RandomMapping:
    """Return the mapping as another process gets it."""
    return copy.copy(mapping)


def test_drawn_names_have_the_shapes_of_keyed_ones(mapping: RandomMapping) -> None:
    assert re.fullmatch(r"P[A-Z2-7]{16}", mapping.patient("A1", "1.2"))
    number = int(mapping.uid("1.2.3.4").removeprefix("2.25."))
    drawn = uuid.UUID(int=number)
    assert (drawn.version, drawn.variant) == (4, uuid.RFC_4122)
    assert 1 <= abs(mapping.date_shift_days("A1")) <= 365
    assert 1 <= mapping.time_shift_seconds("A1") < 86_400
    assert (mapping.kind, KEY.kind) == ("random", "hmac")
    assert (mapping.key_id, mapping.version) == (KEY.key_id, KEY.version)
    assert mapping.keyed("input", "x") == KEY.keyed("input", "x")


def test_a_drawn_name_does_not_follow_from_the_key(tmp_path: Path) -> None:
    one, two = RandomMapping(tmp_path / "1.db", KEY), RandomMapping(tmp_path / "2.db", KEY)
    with closing(one), closing(two):
        assert len({one.patient("A1", ""), two.patient("A1", ""), KEY.patient("A1", "")}) == 3
        assert len({one.uid("1.2.3"), two.uid("1.2.3"), KEY.uid("1.2.3")}) == 3


def test_two_connections_agree_whoever_draws_first(mapping: RandomMapping) -> None:
    with closing(_again(mapping)) as other:
        assert other.patient("A1", "1.2") == mapping.patient(" A1 \0", "9.9")
        assert mapping.uid("1.2.3.4") == other.uid("1.2.3.4")
        assert mapping.date_shift_days("A1", 3650) == other.date_shift_days("A1", 3650)
        assert mapping.time_shift_seconds("A1") == other.time_shift_seconds("A1")
        assert mapping.patient("", "1.2") != mapping.patient("", "1.3")


def test_a_draw_that_loses_takes_the_name_of_the_winner(mapping: RandomMapping) -> None:
    """Both look before either has written: the second INSERT is ignored."""
    with closing(_again(mapping)) as other:

        def draw_late() -> str:
            other.uid("1.2.3.4")
            return "2.25.1"

        assert mapping._name("uid", "1.2.3.4", draw_late) == other.uid("1.2.3.4") != "2.25.1"


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the files synced from here on."""
    done: list[Path] = []

    def noting(path: Path) -> None:
        fsync_file(path)
        done.append(path)

    monkeypatch.setattr(mapping_module, "fsync_file", noting)
    return done


def test_one_file_costs_one_sync_and_an_unchanged_one_none(
    mapping: RandomMapping, syncs: list[Path], tmp_path: Path
) -> None:
    with mapping.session():
        mapping.patient("A1", "1.2")
        names = [mapping.uid(f"1.2.{i}") for i in range(40)]
        assert syncs == []
    assert syncs == [tmp_path / "map.db-wal"]
    with mapping.session():
        assert [mapping.uid(f"1.2.{i}") for i in range(40)] == names
    assert len(syncs) == 1


def test_a_name_read_from_another_process_is_made_durable_too(
    mapping: RandomMapping, syncs: list[Path]
) -> None:
    mapping.uid("1.2.3")
    with closing(_again(mapping)) as other:
        other.uid("1.2.3")
        assert len(syncs) == 2


def test_names_of_a_file_that_failed_are_durable_before_the_next_one_uses_them(
    mapping: RandomMapping, syncs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise DiskFull("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(mapping_module, "fsync_file", full)
        with pytest.raises(DiskFull):
            mapping.uid("1.2.3")
    with mapping.session():
        mapping.uid("1.2.3")
    assert len(syncs) == 1


def test_a_killed_writer_leaves_whole_names_that_the_log_gives_back(tmp_path: Path) -> None:
    """The log as it was synced, without a checkpoint and without a clean close."""
    with closing(RandomMapping(tmp_path / "map.db", KEY)) as mapping:
        with mapping.session():
            name, uid = mapping.patient("A1", ""), mapping.uid("1.2.3")
        (tmp_path / "after").mkdir()
        for part in ("map.db", "map.db-wal"):
            shutil.copy(tmp_path / part, tmp_path / "after" / part)
    with closing(RandomMapping(tmp_path / "after" / "map.db", KEY)) as found:
        assert (found.patient("A1", ""), found.uid("1.2.3")) == (name, uid)


def test_the_file_is_private_and_holds_no_original(mapping: RandomMapping, tmp_path: Path) -> None:
    with mapping.session():
        mapping.patient("MRN-7733-QUIBBLE", "1.2")
        mapping.uid("1.2.826.0.1.3680043.8.498.1")
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert b"QUIBBLE" not in path.read_bytes()
        assert b"1.2.826.0.1.3680043" not in path.read_bytes()


def test_a_forked_child_opens_the_file_for_itself(mapping: RandomMapping) -> None:
    name = mapping.patient("A1", "")
    mapping._pid = os.getpid() + 1  # what a child finds after a fork
    assert mapping.patient("A1", "") == name
    assert mapping._pid == os.getpid()


@pytest.mark.parametrize("other", [project_key(1), ProjectKey.from_bytes(bytes(range(32)), 2)])
def test_a_mapping_of_another_key_or_version_is_refused(tmp_path: Path, other: ProjectKey) -> None:
    path = tmp_path / "map.db"
    open_pseudonyms(HIPAA, KEY, path)
    with pytest.raises(MappingOfOtherKey) as caught:
        open_pseudonyms(HIPAA, other, path)
    assert caught.value.code == "DEID-MAPPING-KEY"


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.db"
    path.write_bytes(b"not a database, though it is long enough to be looked at" * 40)
    with pytest.raises(DatabaseDamaged):
        open_pseudonyms(HIPAA, KEY, path)


def test_safe_harbor_needs_a_mapping_and_the_others_none(tmp_path: Path) -> None:
    with pytest.raises(MappingRequired):
        open_pseudonyms(HIPAA, KEY)
    assert open_pseudonyms(GDPR, KEY, tmp_path / "map.db") is KEY
    assert not list(tmp_path.iterdir())
    assert open_pseudonyms(HIPAA, KEY, tmp_path / "map.db").kind == "random"


# --- forgetting -----------------------------------------------------------------


def test_forgetting_a_patient_takes_the_rows_that_hang_on_it(
    mapping: RandomMapping, tmp_path: Path
) -> None:
    with mapping.session():  # the engine asks for the shift before the name
        shift = mapping.date_shift_days("A1")
        gone = mapping.patient("A1", "1.2")
        uid = mapping.uid("1.2.3")
    with mapping.session():
        kept = mapping.patient("B2", "1.9")
        other = mapping.uid("1.9.9")
    assert mapping.tombstone_of(gone) == mapping.tombstone("A1", "1.2") == KEY.tombstone("A1", "")
    assert mapping.forget(gone) == 3
    assert mapping.forget(gone) == 0
    assert mapping.tombstone_of(gone) is None
    assert (mapping.patient("B2", ""), mapping.uid("1.9.9")) == (kept, other)
    for path in tmp_path.iterdir():
        assert gone.encode() not in path.read_bytes()
    with mapping.session():
        drawn = (mapping.date_shift_days("A1", 3650), mapping.patient("A1", ""))
        assert mapping.uid("1.2.3") != uid
    assert drawn[1] != gone
    assert shift


def test_a_uid_of_two_patients_outlives_the_erasure_of_one(mapping: RandomMapping) -> None:
    with mapping.session():
        gone = mapping.patient("A1", "")
        uid = mapping.uid("1.2.3")
    with closing(copy.copy(mapping)) as other:
        with other.session():
            other.patient("B2", "")
            assert other.uid("1.2.3") == uid
        assert mapping.forget(gone) == 1
        assert mapping.uid("1.2.3") == other.uid("1.2.3") == uid


def test_another_process_that_remembers_a_forgotten_name_drops_it(mapping: RandomMapping) -> None:
    name = mapping.patient("A1", "")
    with closing(_again(mapping)) as other:
        assert other.patient("A1", "") == name
        mapping.forget(name)
        assert other.patient("A1", "") != name


def test_a_tombstone_draws_no_name(mapping: RandomMapping, tmp_path: Path) -> None:
    mapping.tombstone("A1", "1.2")
    mapping.uid("1.1")
    with closing(sqlite3.connect(tmp_path / "map.db")) as db:
        assert db.execute("SELECT count(*) FROM names").fetchone() == (1,)


# --- look-ups -------------------------------------------------------------------


@pytest.fixture
def private_key() -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture
def steward(private_key: X25519PrivateKey) -> StewardKey:
    return StewardKey(private_key.public_key().public_bytes_raw())


def test_the_steward_looks_a_patient_up_and_leaves_a_row(
    tmp_path: Path, private_key: X25519PrivateKey, steward: StewardKey
) -> None:
    clock = FakeClock(datetime(2026, 1, 2, tzinfo=UTC))
    with closing(RandomMapping(tmp_path / "map.db", KEY, steward)) as mapping:
        name = mapping.patient("山田-7733", "1.2")
        mapping.patient("山田-7733", "1.3")
        assert look_up(mapping, name, private_key, clock=clock) == "山田-7733"
        with pytest.raises(LookUpRefused):
            look_up(mapping, "P" + "A" * 16, private_key, clock=clock)
        with pytest.raises(LookUpRefused):
            look_up(mapping, name, X25519PrivateKey.generate(), clock=clock)
        at = "2026-01-02T00:00:00.000Z"
        assert mapping.look_ups() == ((name, at), ("P" + "A" * 16, at), (name, at))
        assert mapping.forget(name) == 2
        with pytest.raises(LookUpRefused):
            look_up(mapping, name, private_key, clock=clock)
    assert "山田".encode() not in (tmp_path / "map.db").read_bytes()


def test_nothing_is_sealed_unless_the_site_asks_for_it(
    mapping: RandomMapping, private_key: X25519PrivateKey
) -> None:
    clock = FakeClock(datetime(2026, 1, 2, tzinfo=UTC))
    with pytest.raises(LookUpRefused):
        look_up(mapping, mapping.patient("A1", ""), private_key, clock=clock)


def test_a_box_opens_only_whole_and_only_for_its_own_pseudonym(
    private_key: X25519PrivateKey, steward: StewardKey
) -> None:
    box = seal("A1", "PONE", steward)
    assert unseal(box, "PONE", private_key) == "A1"
    assert len(box) == len(seal("a longer identifier", "PONE", steward))
    assert box != seal("A1", "PONE", steward)
    for at in (0, 40, len(box) - 1):
        changed = bytearray(box)
        changed[at] ^= 1
        with pytest.raises(LookUpRefused):
            unseal(bytes(changed), "PONE", private_key)
    for text, name in ((box, "PTWO"), (box[:20], "PONE"), (b"", "PONE")):
        with pytest.raises(LookUpRefused):
            unseal(text, name, private_key)


def test_a_stewards_key_has_64_hex_digits(steward: StewardKey) -> None:
    assert StewardKey.from_hex(steward.raw.hex() + "\n") == steward
    for text in ("", "zz" * 32, "00" * 31):
        with pytest.raises(LookUpRefused):
            StewardKey.from_hex(text)


def test_a_volume_without_a_log_is_refused(tmp_path: Path) -> None:
    class NoLog(RandomMapping):
        @property
        def _log(self) -> Path:
            return tmp_path / "nothing"

    with pytest.raises(DatabaseDamaged):
        NoLog(tmp_path / "map.db", KEY).uid("1.2.3")
