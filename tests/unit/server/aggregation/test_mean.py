"""The rule `mean` against numpy on whole arrays."""

from __future__ import annotations

import tracemalloc
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from pleura.common.errors import NotFinite
from pleura.common.ids import SiteId
from pleura.common.tensors import PackedReader, write_packed
from pleura.server.aggregation.mean import CHUNK_VALUES, WeightedUpdate, aggregate
from pleura.server.errors import SchemaMismatch, TooFewSites
from tests.builders.federation import SITES, delta_tensors, model_tensors


def _updates(folder: Path, weights: dict[str, str]) -> list[WeightedUpdate]:
    updates = []
    for name, weight in weights.items():
        path = folder / f"{name}.st"
        write_packed(path, delta_tensors(name, 1))
        updates.append(WeightedUpdate(SiteId(name), path, Decimal(weight)))
    return updates


@pytest.mark.parametrize("server_lr", ["1", "0.25"])
@pytest.mark.parametrize("weights", [("1", "1", "1"), ("0.5", "0.3", "0.1")])
def test_the_result_is_numpys_weighted_mean_rounded_once(
    tmp_path: Path, server_lr: str, weights: tuple[str, ...]
) -> None:
    base = model_tensors()
    write_packed(tmp_path / "base.st", base)
    chosen = dict(zip(SITES, weights, strict=True))
    updates = _updates(tmp_path, chosen)
    aggregate(tmp_path / "base.st", updates, Decimal(server_lr), tmp_path / "out.st")
    reader = PackedReader(tmp_path / "out.st")
    for name, array in base.items():
        total = sum(
            float(w) * delta_tensors(site, 1)[name].astype(np.float64)
            for site, w in sorted(chosen.items())
        )
        scale = float(server_lr) / float(sum(Decimal(w) for w in weights))
        expected = (array.astype(np.float64) + scale * total).astype(np.float32)
        assert np.array_equal(reader.tensor(name), expected)


def test_the_order_of_arrival_does_not_change_a_byte(tmp_path: Path) -> None:
    write_packed(tmp_path / "base.st", model_tensors())
    updates = _updates(tmp_path, dict.fromkeys(SITES, "1"))
    one = aggregate(tmp_path / "base.st", updates, Decimal(1), tmp_path / "one.st")
    two = aggregate(tmp_path / "base.st", updates[::-1], Decimal(1), tmp_path / "two.st")
    assert one == two
    assert (tmp_path / "one.st").read_bytes() == (tmp_path / "two.st").read_bytes()


def test_tensors_longer_than_a_chunk_are_summed_whole(tmp_path: Path) -> None:
    size = 2 * CHUNK_VALUES + 3
    write_packed(tmp_path / "base.st", {"w": np.zeros(size, "<f4")})
    write_packed(tmp_path / "north.st", {"w": np.arange(size, dtype="<f4")})
    updates = [WeightedUpdate(SiteId("north"), tmp_path / "north.st", Decimal(1))]
    aggregate(tmp_path / "base.st", updates, Decimal(1), tmp_path / "out.st")
    assert np.array_equal(PackedReader(tmp_path / "out.st").tensor("w"), np.arange(size))


def test_memory_stays_below_two_of_the_largest_tensor(tmp_path: Path) -> None:
    shape = (4_000_000,)  # 16 MB; four tensors, three sites
    names = [f"t{n}" for n in range(4)]
    write_packed(tmp_path / "base.st", {n: np.zeros(shape, "<f4") for n in names})
    write_packed(tmp_path / "delta.st", {n: np.ones(shape, "<f4") for n in names})
    updates = [WeightedUpdate(site, tmp_path / "delta.st", Decimal(1)) for site in SITES]
    tracemalloc.start()
    try:
        aggregate(tmp_path / "base.st", updates, Decimal(1), tmp_path / "out.st")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * 16_000_000


def test_an_aggregate_of_nothing_is_refused(tmp_path: Path) -> None:
    write_packed(tmp_path / "base.st", model_tensors())
    with pytest.raises(TooFewSites):
        aggregate(tmp_path / "base.st", [], Decimal(1), tmp_path / "out.st")


def test_an_update_of_another_shape_is_refused(tmp_path: Path) -> None:
    write_packed(tmp_path / "base.st", model_tensors())
    write_packed(tmp_path / "other.st", {"head.bias": np.zeros(3, "<f4")})
    updates = [WeightedUpdate(SITES[0], tmp_path / "other.st", Decimal(1))]
    with pytest.raises(SchemaMismatch):
        aggregate(tmp_path / "base.st", updates, Decimal(1), tmp_path / "out.st")


def test_a_result_that_overflows_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    write_packed(tmp_path / "base.st", {"w": np.full(4, 3e38, "<f4")})
    write_packed(tmp_path / "delta.st", {"w": np.full(4, 3e38, "<f4")})
    updates = [WeightedUpdate(SITES[0], tmp_path / "delta.st", Decimal(1))]
    with pytest.raises(NotFinite):
        aggregate(tmp_path / "base.st", updates, Decimal(1), tmp_path / "out.st")
    assert not (tmp_path / "out.st").exists()
    assert list(tmp_path.glob("*.part")) == []
