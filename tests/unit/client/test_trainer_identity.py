"""What binds an answer to its data and code, and what of it may be known outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from pleura.client.data.cohort import Cohort, Sample
from pleura.client.trainer.identity import (
    code_digest,
    dataset_commitment,
    load_or_create_secret,
    versions,
)
from pleura.common.errors import KeyFileInsecure, KeyUnreadable

ONE, TWO = b"\1" * 32, b"\2" * 32


def cohort(*keys: str, split: str = "train") -> Cohort:
    samples = tuple(Sample(f"p-{key}", key, (), 0) for key in keys)
    return Cohort("cxr_abnormal", split, samples)  # type: ignore[arg-type]


def test_the_commitment_does_not_depend_on_the_order_of_samples() -> None:
    assert dataset_commitment(cohort("a", "b"), ONE) == dataset_commitment(cohort("b", "a"), ONE)


def test_the_commitment_changes_with_every_sample_the_split_and_the_secret() -> None:
    found = {
        dataset_commitment(cohort("a", "b"), ONE),
        dataset_commitment(cohort("a"), ONE),
        dataset_commitment(cohort("ab"), ONE),
        dataset_commitment(cohort("a", "b", split="test"), ONE),
        dataset_commitment(cohort("a", "b"), TWO),
    }
    assert len(found) == 5


def test_the_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "commitment.key"
    secret = load_or_create_secret(path)
    assert load_or_create_secret(path) == secret
    assert path.stat().st_mode & 0o077 == 0
    path.chmod(0o640)
    with pytest.raises(KeyFileInsecure):
        load_or_create_secret(path)


def test_a_cut_secret_is_named(tmp_path: Path) -> None:
    path = tmp_path / "commitment.key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(KeyUnreadable):
        load_or_create_secret(path)


def test_the_code_digest_is_a_digest_and_versions_fit_a_statement() -> None:
    assert len(code_digest()) == 64
    assert set(versions()) == {"pleura", "torch", "numpy", "python"}
