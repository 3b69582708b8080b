"""Noise and sampler against the vectors of PRIVACY.md section 2."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from scipy.stats import chi2, kstest

from pleura.client.errors import EntropyMissing
from pleura.client.privacy.noise import Stream, add_noise, derive, step_streams
from pleura.client.privacy.sampler import sample_images, sample_patients, threshold

KEY = bytes(range(32))


def test_normals_are_the_vector() -> None:
    expected = [-0.30008795403628297, 1.2928748160919075, -0.6054132183873209, -0.2889656753624945]
    assert Stream(KEY).normals(4) == pytest.approx(expected, abs=1e-12)


def test_normals_do_not_depend_on_how_they_are_asked_for() -> None:
    whole, stream = Stream(KEY).normals(600_000), Stream(KEY)
    assert np.array_equal(whole, np.concatenate([stream.normals(n) for n in (2, 4, 599_994)]))
    total = np.zeros(600_000)
    add_noise(total, 2.0, Stream(KEY))
    assert np.array_equal(total, 2.0 * whole)


def test_an_odd_count_is_the_start_of_the_even_one() -> None:
    assert np.array_equal(Stream(KEY).normals(3), Stream(KEY).normals(4)[:3])


def test_normals_are_standard_normal() -> None:
    found = Stream(KEY).normals(200_000)
    assert kstest(found, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(found[0::2], found[1::2])[0, 1]) < 0.02


def test_streams_of_a_step_are_hkdf_by_their_label() -> None:
    # RFC 5869 with one block: T(1) = HMAC(HMAC(zeros, secret), label || 0x01)
    extract = HMAC(bytes(32), SHA256())
    extract.update(KEY)
    expand = HMAC(extract.finalize(), SHA256())
    expand.update(b"noise\x01")
    assert derive(KEY, "noise") == expand.finalize()
    streams = step_streams(lambda count: KEY[:count])
    for name in ("sample", "subset", "noise", "augment"):
        words = getattr(streams, name).words(3)
        assert np.array_equal(words, Stream(derive(KEY, name)).words(3))


def test_streams_of_different_purposes_differ() -> None:
    keys = {derive(KEY, label) for label in ("sample", "subset", "noise", "augment")}
    assert len(keys) == 4


def test_short_entropy_is_refused() -> None:
    with pytest.raises(EntropyMissing):
        step_streams(lambda count: bytes(count - 1))


def test_threshold_is_the_vector() -> None:
    assert threshold(64, 1000) == 1180591620717411303
    assert threshold(7, 7) == 1 << 64


@pytest.mark.parametrize(("batch", "n_ref"), [(0, 5), (6, 5), (-1, 5)])
def test_rate_outside_its_range_is_refused(batch: int, n_ref: int) -> None:
    with pytest.raises(ValueError, match="rate"):
        threshold(batch, n_ref)


def test_included_patients_are_the_vector() -> None:
    patients = [str(number) for number in range(1, 9)]
    assert sample_patients(patients, 64, 1000, Stream(KEY)) == ("8",)
    assert sample_patients(patients, 500, 1000, Stream(KEY)) == ("1", "2", "6", "7", "8")


def test_rate_one_includes_everyone() -> None:
    patients = [str(number) for number in range(1000)]
    assert sample_patients(patients, 9, 9, Stream(KEY)) == tuple(patients)


def test_sampler_keeps_its_rate_whatever_the_number_of_patients() -> None:
    stream = Stream(KEY)
    for size in (10, 1000, 50_000):
        patients = [str(number) for number in range(size)]
        draws = max(1, 400_000 // size)
        joined = sum(len(sample_patients(patients, 3, 50, stream)) for _ in range(draws))
        expected, spread = 0.06 * size * draws, (0.06 * 0.94 * size * draws) ** 0.5
        assert abs(joined - expected) < 5 * spread


def test_patients_join_independently() -> None:
    stream, pair = Stream(KEY), ["a", "b"]
    counts = np.zeros(3)
    for _ in range(20_000):
        counts[len(sample_patients(pair, 1, 4, stream))] += 1
    expected = 20_000 * np.array([9, 6, 1]) / 16
    assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-4, 2)


def test_every_image_is_drawn_equally_often_and_never_twice() -> None:
    stream = Stream(KEY)
    counts = np.zeros(7)
    for _ in range(7000):
        images = sample_images(7, 3, stream)
        assert len(set(images)) == 3
        counts[list(images)] += 1
    assert counts.sum() == 21_000
    # each image is in with probability 3/7; the sum of all is fixed: 6 degrees of freedom
    variance = 7000 * (3 / 7) * (4 / 7)
    assert (6 / 7) * ((counts - 3000) ** 2).sum() / variance < chi2.ppf(1 - 1e-4, 6)


def test_patient_with_few_images_gives_all() -> None:
    assert sample_images(3, 4, Stream(KEY)) == (0, 1, 2)
    assert sample_images(4, 4, Stream(KEY)) == (0, 1, 2, 3)
