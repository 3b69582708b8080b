"""Decoding pixels of a pydicom dataset, with the decoders the anonymizer names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from pleura.anonymizer.pixels.decode import DECODERS
from pleura.client.errors import ImageUnreadable


def decode(dataset: Dataset) -> NDArray[Any]:
    """Return the stored pixel values as pydicom shapes them.

    Raises:
        ImageUnreadable: no pixels, a syntax without decoder, or a broken stream.
    """
    try:
        syntax = UID(dataset.file_meta.TransferSyntaxUID)
        if syntax.is_encapsulated:
            dataset.pixel_array_options(decoding_plugin=DECODERS[syntax])
        return np.asarray(dataset.pixel_array)
    except Exception as exc:
        raise ImageUnreadable("pixels") from exc
