"""Decoding pixels: one named decoder for each transfer syntax.

Left to choose, pydicom tries GDCM first, which aborts the whole process on a
broken JPEG 2000 stream instead of raising. GDCM is therefore used only for the
syntaxes that nothing else decodes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from pleura.client.errors import ImageUnreadable

DECODERS: Final[dict[UID, str]] = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "gdcm",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    RLELossless: "pydicom",
}


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
