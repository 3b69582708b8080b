"""Patient dataset: samples of one cohort as tensors, addressed by patient.

The unit of training is the patient, so nothing here has a flat index. A file is
checked against its SHA-256 and decoded once a process; the prepared picture is
kept (compact) and every later load comes from there. Augmentation happens at
load, from the generator the caller hands in; without one a load is exact.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pleura.client.data.cohort import Cohort, Sample
from pleura.client.data.preprocess import Picture, prepare
from pleura.client.errors import ImageChanged
from pleura.common.files import ensure_private_folder, write_atomic
from pleura.common.orders import PreprocSpec


class PatientBatches(Protocol):
    """What a training engine may ask of data: patients and their images, no more."""

    @property
    def patients(self) -> Sequence[str]:
        """Patient pseudonyms in canonical order; private, never leaves the trainer."""
        ...

    def count(self, patient: str) -> int:
        """Return how many images the patient has (>= 1)."""
        ...

    def load(
        self, patient: str, indices: Sequence[int], augment_rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return images [k, ...] float32, labels [k] float32 and mask [k] float32 (1 = known).

        Raises:
            PleuraError: a file is missing, changed or cannot be decoded. A private
                engine answers any exception with a zero gradient of that patient.
        """
        ...


Augment = Callable[[Picture, np.random.Generator], Picture]
MEMORY_BYTES: Final = 2 * 2**30
_LEVELS: Final = 65535


class PatientDataset:
    """A cohort's samples as prepared pictures; implements `PatientBatches`.

    Pictures are kept as 16-bit levels (step 1.5e-5), in memory up to
    `memory_bytes` and, if `cache_folder` is given, on the site's own volume (mode
    0700). A load gives the same values whether or not it came from a cache.
    """

    def __init__(
        self,
        cohort: Cohort,
        spec: PreprocSpec,
        shape: Sequence[int],
        *,
        augment: Augment | None = None,
        cache_folder: Path | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Index the cohort; no file is read yet.

        Args:
            cohort: samples in canonical order.
            spec: preprocessing of the plan.
            shape: shape of one image as the network takes it.
            augment: the task's augmentation, used when a load hands in a generator.
            cache_folder: where prepared pictures outlive the process.
            memory_bytes: bound on prepared pictures held in memory.
        """
        self._by_patient = cohort.by_patient
        self._patients = tuple(self._by_patient)
        self._spec = spec
        self._shape = tuple(shape)
        self._augment = augment
        self._memory: OrderedDict[tuple[str, str], NDArray[np.uint16]] = OrderedDict()
        self._memory_bytes = memory_bytes
        self.held_bytes = 0  # of prepared pictures in memory
        self._cache_folder = cache_folder
        if cache_folder is not None:
            ensure_private_folder(cache_folder)

    @property
    def patients(self) -> tuple[str, ...]:
        """Patient pseudonyms in canonical order."""
        return self._patients

    def samples(self, patient: str) -> tuple[Sample, ...]:
        """Return the patient's samples in canonical order."""
        return self._by_patient[patient]

    def count(self, patient: str) -> int:
        """Return how many images the patient has."""
        return len(self._by_patient[patient])

    def load(
        self, patient: str, indices: Sequence[int], augment_rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return images [k, *shape], labels [k] and mask [k]; see `PatientBatches`.

        Raises:
            ImageChanged: a file is missing or differs from its SHA-256.
            ImageUnreadable, ImageUnsupported, StackRefused: see `preprocess.prepare`.
        """
        samples = [self._by_patient[patient][index] for index in indices]
        images = np.empty((len(samples), *self._shape), dtype=np.float32)
        for row, sample in enumerate(samples):
            picture = self.picture(sample)
            if augment_rng is not None and self._augment is not None:
                picture = self._augment(picture, augment_rng)
            images[row] = picture.reshape(self._shape)
        known = [sample.label in (0, 1) for sample in samples]
        labels = [float(s.label) if k else 0.0 for s, k in zip(samples, known, strict=True)]
        return (
            torch.from_numpy(images),
            torch.tensor(labels, dtype=torch.float32),
            torch.tensor(known, dtype=torch.float32),
        )

    def picture(self, sample: Sample) -> Picture:
        """Return the prepared picture of a sample, [slices, size_px, size_px] in [0, 1]."""
        key = (sample.patient, sample.key)
        levels = self._memory.get(key)
        if levels is None:
            levels = self._from_disk(sample)
            if levels is None:
                levels = to_levels(prepare(read_verified(sample), self._spec))
                self._to_disk(sample, levels)
            self._remember(key, levels)
        else:
            self._memory.move_to_end(key)
        return levels.astype(np.float32) / np.float32(_LEVELS)

    def _remember(self, key: tuple[str, str], levels: NDArray[np.uint16]) -> None:
        self._memory[key] = levels
        self.held_bytes += levels.nbytes
        while self.held_bytes > self._memory_bytes and len(self._memory) > 1:
            _, dropped = self._memory.popitem(last=False)
            self.held_bytes -= dropped.nbytes

    def _cache_file(self, sample: Sample) -> Path | None:
        if self._cache_folder is None:
            return None
        parts = [self._spec.digest, *(digest for _, digest in sample.files)]
        name = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return self._cache_folder / f"{name}.u16"

    def _from_disk(self, sample: Sample) -> NDArray[np.uint16] | None:
        file = self._cache_file(sample)
        shape = (self._spec.slices, self._spec.size_px, self._spec.size_px)
        if file is None or not file.is_file():
            return None
        data = file.read_bytes()
        body, mark = data[:-32], data[-32:]
        if hashlib.sha256(body).digest() != mark or len(body) != 2 * int(np.prod(shape)):
            return None  # damaged: decode again and replace it
        return np.frombuffer(body, dtype="<u2").reshape(shape)

    def _to_disk(self, sample: Sample, levels: NDArray[np.uint16]) -> None:
        file = self._cache_file(sample)
        if file is not None:
            body = levels.astype("<u2").tobytes()
            write_atomic(file, body + hashlib.sha256(body).digest())


def to_levels(picture: Picture) -> NDArray[np.uint16]:
    """Return a picture in [0, 1] as 16-bit levels."""
    levels: NDArray[np.uint16] = np.rint(picture * np.float32(_LEVELS)).astype(np.uint16)
    return levels


def read_verified(sample: Sample) -> list[bytes]:
    """Return the bytes of every file of a sample after checking them.

    Raises:
        ImageChanged: a file is missing or differs from its SHA-256.
    """
    contents = []
    for path, digest in sample.files:
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise ImageChanged("missing") from exc
        if hashlib.sha256(data).hexdigest() != digest:
            raise ImageChanged("digest")
        contents.append(data)
    return contents
