"""cxr_abnormal: does this chest radiograph show any abnormality?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pleura.client.data.augment import augment_radiograph
from pleura.client.data.preprocess import Picture
from pleura.client.tasks.binary import BinaryTask
from pleura.client.tasks.protocol import TaskSpec


class CxrAbnormal(BinaryTask):
    """One radiograph, one label: abnormal (1), normal (0) or unknown."""

    name: ClassVar[str] = "cxr_abnormal"
    version: ClassVar[int] = 1
    spec: ClassVar[TaskSpec] = TaskSpec(
        name="cxr_abnormal",
        version=1,
        modality="CXR",
        unit="image",
        positive="abnormal chest radiograph",
        reference_standard="the site's own label of the image; its source is stated by the site",
    )

    def augment(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """Return the radiograph shifted a little and perhaps mirrored."""
        return augment_radiograph(picture, rng)
