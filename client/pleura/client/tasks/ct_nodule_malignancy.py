"""ct_nodule_malignancy: do readers call the nodule in this CT stack malignant?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pleura.client.data.augment import augment_nodule
from pleura.client.data.preprocess import Picture
from pleura.client.tasks.binary import BinaryTask
from pleura.client.tasks.protocol import TaskSpec


class CtNoduleMalignancy(BinaryTask):
    """One stack centred on one nodule: malignant (1), benign (0) or unsure (unknown)."""

    name: ClassVar[str] = "ct_nodule_malignancy"
    version: ClassVar[int] = 1
    spec: ClassVar[TaskSpec] = TaskSpec(
        name="ct_nodule_malignancy",
        version=1,
        modality="CT",
        unit="stack",
        positive="malignant pulmonary nodule",
        reference_standard="median rating of the readers above (1) or below (0) indeterminate;"
        " an opinion, not pathology",
    )

    def augment(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """Return the stack flipped, transposed and shifted a little."""
        return augment_nodule(picture, rng)
