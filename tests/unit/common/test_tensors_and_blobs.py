"""Packed tensors and the blob store: vectors, canonical bytes, limits, resumption, full disks."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from pleura.common import blobs
from pleura.common.blobs import BlobStore
from pleura.common.canonical import sha256_hex
from pleura.common.errors import (
    BlobMissing,
    BlobTooLarge,
    DigestMismatch,
    DiskFull,
    NotFinite,
    TensorsRejected,
)
from pleura.common.tensors import (
    Limits,
    PackedReader,
    PackedWriter,
    TensorSchema,
    TensorSpec,
    tensor_digest,
    write_packed,
)

TWO = {"a": np.zeros((2, 1), "<f4"), "b": np.array([1.5, -2], "<f4")}


def test_tensor_digest_vector_of_the_design_page() -> None:
    assert tensor_digest(TWO) == "a138f0792aabfd9d0de0545cf9c3bb40b77ba16aa29082070d963e205e3a3b8e"


def test_a_packed_file_is_read_by_safetensors_and_verifies(tmp_path: Path) -> None:
    path = tmp_path / "model"
    ref = write_packed(path, TWO)
    assert ref.blob_sha256 == sha256_hex(path.read_bytes())
    assert ref.tensor_digest == tensor_digest(TWO)
    loaded = load_file(path)
    assert all(np.array_equal(loaded[name], TWO[name]) for name in TWO)
    assert PackedReader(path).verify(ref) == ref


def test_equal_tensors_in_any_order_give_equal_bytes(tmp_path: Path) -> None:
    first = write_packed(tmp_path / "1", TWO)
    second = write_packed(tmp_path / "2", dict(reversed(TWO.items())))
    big_endian = write_packed(tmp_path / "3", {k: v.astype(">f4") for k, v in TWO.items()})
    assert first == second == big_endian


@given(
    st.dictionaries(
        st.from_regex(r"\A[a-z0-9_.]{1,20}\Z").filter(lambda n: n[0] != "."),
        hnp.arrays(
            st.sampled_from([np.dtype("<f4"), np.dtype("<f8")]),
            hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
            elements=st.floats(-1e6, 1e6, width=32),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_packed_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, np.ndarray]
) -> None:
    path = tmp_path_factory.mktemp("packed") / "blob"
    ref = write_packed(path, tensors)
    reader = PackedReader(path)
    assert [s.name for s in reader.schema.specs] == sorted(tensors, key=str.encode)
    for name, array in tensors.items():
        assert np.array_equal(reader.tensor(name), array)
    assert reader.verify() == ref


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_never_packed_nor_accepted(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "blob"
    with pytest.raises(NotFinite):
        write_packed(path, {"a": np.array([1.0, bad], "<f4")})
    assert list(tmp_path.iterdir()) == []
    write_packed(path, {"a": np.array([1.0, 2.0], "<f4")})
    data = bytearray(path.read_bytes())
    data[-4:] = struct.pack("<f", bad)
    path.write_bytes(data)
    with pytest.raises(NotFinite):
        PackedReader(path).verify()


def test_one_changed_value_is_found(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    ref = write_packed(path, TWO)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestMismatch):
        PackedReader(path).verify(ref)


def _file(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        [],
        {},
        {"a": {**ENTRY, "dtype": "I64"}},
        {"a": {**ENTRY, "shape": [-1]}},
        {"a": {**ENTRY, "shape": ["1"]}},
        {"a": {**ENTRY, "shape": [2]}},
        {"a": {**ENTRY, "data_offsets": [4, 8]}},
        {"__metadata__": {"x": "y"}, "a": ENTRY},
        {"../a": ENTRY},
        {"a" * 300: ENTRY},
        {"a": {"dtype": "F32"}},
        {"a": ENTRY},  # compact form is required, json.dumps adds spaces
    ],
)
def test_a_header_that_is_not_canonical_is_refused(tmp_path: Path, header: object) -> None:
    with pytest.raises(TensorsRejected):
        PackedReader(_file(tmp_path / "blob", header, b"\0" * 4))


def test_sizes_that_lie_are_refused_before_allocation(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(TensorsRejected):
        PackedReader(path)
    path.write_bytes(b"short")
    with pytest.raises(TensorsRejected):
        PackedReader(path)
    write_packed(path, TWO)
    path.write_bytes(path.read_bytes() + b"tail")
    with pytest.raises(TensorsRejected):
        PackedReader(path)


def test_limits_bound_number_shape_and_size(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    write_packed(path, TWO)
    for limits in (Limits(max_tensors=1), Limits(max_dimensions=1), Limits(max_bytes=15)):
        with pytest.raises(TensorsRejected):
            PackedReader(path, limits)


def test_the_writer_accepts_only_the_next_tensor_of_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    schema = TensorSchema.of(TWO)
    for name, array in (
        ("b", TWO["b"]),
        ("a", np.zeros((1, 2), "<f4")),
        ("a", np.zeros((2, 1), "<f8")),
    ):
        with pytest.raises(TensorsRejected), PackedWriter(path, schema) as writer:
            writer.add(name, array)
    with pytest.raises(TensorsRejected), PackedWriter(path, schema) as writer:
        writer.add("a", TWO["a"])
    with pytest.raises(TensorsRejected), PackedWriter(path, schema) as writer:
        for name in ("a", "b", "b"):
            writer.add(name, TWO[name])
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tensor_is_refused(tmp_path: Path) -> None:
    write_packed(tmp_path / "blob", TWO)
    with pytest.raises(TensorsRejected):
        PackedReader(tmp_path / "blob").tensor("c")


# --- blob store ----------------------------------------------------------------

DATA = b"chest" * 1000
DIGEST = sha256_hex(DATA)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def test_a_blob_is_stored_under_its_digest(store: BlobStore) -> None:
    store.put_stream([DATA[:100], DATA[100:]], DIGEST, 10_000)
    assert store.has(DIGEST)
    assert store.size(DIGEST) == len(DATA)
    with store.open_verified(DIGEST) as file:
        assert file.read() == DATA


def test_wrong_or_oversized_bytes_leave_nothing(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch):
        store.put_stream([b"other"], DIGEST, 10_000)
    with pytest.raises(BlobTooLarge):
        store.put_stream([DATA], DIGEST, 10)
    assert not store.has(DIGEST)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_source_that_fails_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield DATA[:10]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        store.put_stream(broken(), DIGEST, 10_000)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_blob_changed_on_disk_is_never_served(store: BlobStore) -> None:
    path = store.put_stream([DATA], DIGEST, 10_000)
    path.write_bytes(DATA[:-1] + b"!")
    with pytest.raises(DigestMismatch):
        store.open_verified(DIGEST)


def test_a_missing_blob_and_a_bad_name_are_named(store: BlobStore) -> None:
    with pytest.raises(BlobMissing):
        store.size(DIGEST)
    with pytest.raises(BlobMissing):
        store.open_verified(DIGEST)
    for name in ("", "../../etc/passwd", "AB" * 32, DIGEST + "0"):
        with pytest.raises(DigestMismatch):
            store.path(name)


def test_an_upload_continues_where_it_stopped(store: BlobStore) -> None:
    assert store.partial_size(DIGEST) == 0
    assert store.append_partial(DIGEST, 0, [DATA[:700]], 10_000) == 700
    with pytest.raises(DigestMismatch):
        store.append_partial(DIGEST, 0, [DATA], 10_000)
    with pytest.raises(BlobTooLarge):
        store.append_partial(DIGEST, 700, [DATA], 1000)
    assert store.append_partial(DIGEST, store.partial_size(DIGEST), [DATA[700:]], 10_000) == 5000
    store.finish_partial(DIGEST)
    assert store.has(DIGEST)
    assert store.partial_size(DIGEST) == 0


def test_an_upload_with_wrong_bytes_is_dropped(store: BlobStore) -> None:
    store.append_partial(DIGEST, 0, [b"x" * 10], 10_000)
    with pytest.raises(DigestMismatch):
        store.finish_partial(DIGEST)
    assert store.partial_size(DIGEST) == 0
    with pytest.raises(BlobMissing):
        store.finish_partial(DIGEST)
    store.append_partial(DIGEST, 0, [b"x"], 10_000)
    store.drop_partial(DIGEST)
    assert store.partial_size(DIGEST) == 0


def test_sweep_removes_unfinished_files_but_keeps_uploads(store: BlobStore) -> None:
    store.append_partial(DIGEST, 0, [b"x"], 10)
    leftover = store.path(DIGEST).with_name("left.part")
    leftover.write_bytes(b"")
    assert store.sweep() == 1
    assert store.partial_size(DIGEST) == 1
    assert not leftover.exists()


def test_an_upload_to_a_full_disk_says_so_by_name(store: BlobStore, tmp_path: Path) -> None:
    folder = store.path(DIGEST).parent
    folder.mkdir(parents=True)
    (folder / f"{DIGEST}.partial").symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        store.append_partial(DIGEST, 0, [b"x"], 10)
    with pytest.raises(DiskFull):
        store.append_partial(DIGEST, 0, [bytes(2**20)], 2**20)


def test_names_with_a_line_break_are_refused(store: BlobStore) -> None:
    with pytest.raises(DigestMismatch):
        store.path(DIGEST + "\n")
    with pytest.raises(TensorsRejected):
        TensorSchema.checked([TensorSpec("weight\n", "<f4", (1,))])


def test_the_folder_of_a_blob_is_durable_before_the_blob_is_in_it(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(blobs, "fsync_folder", synced.append)
    store.append_partial(DIGEST, 0, [DATA], len(DATA))
    store.finish_partial(DIGEST)
    assert synced == [tmp_path / "sha256", tmp_path / "sha256" / DIGEST[:2]]
