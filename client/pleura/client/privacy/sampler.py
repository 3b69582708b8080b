"""Sampler: which patients take part in a step, and with which of their images.

Poisson sampling at the public rate B / N_ref, decided for each patient by one
fresh secret word in integer arithmetic. The number of patients at the site has no
part in the rate, so a batch may be empty or larger than B; both are correct.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pleura.client.privacy.noise import Stream


def threshold(batch: int, n_ref: int) -> int:
    """Return floor(batch * 2^64 / n_ref): a word below it includes its patient.

    Raises:
        ValueError: the rate is outside (0, 1].
    """
    if not 0 < batch <= n_ref:
        raise ValueError("the sampling rate is outside (0, 1]")
    return (batch << 64) // n_ref


def sample_patients(
    patients: Sequence[str], batch: int, n_ref: int, stream: Stream
) -> tuple[str, ...]:
    """Return the patients of one step, in their given order; each joins independently."""
    limit = threshold(batch, n_ref)
    if limit == 1 << 64:
        return tuple(patients)
    included = stream.words(len(patients)) < np.uint64(limit)
    return tuple(patients[int(i)] for i in np.flatnonzero(included))


def sample_images(available: int, most: int, stream: Stream) -> tuple[int, ...]:
    """Return min(available, most) image numbers, uniform without replacement, ascending.

    Each image draws a word and the smallest words win.
    """
    if available <= most:
        return tuple(range(available))
    ranks = np.argsort(stream.words(available), kind="stable")
    return tuple(sorted(int(i) for i in ranks[:most]))
