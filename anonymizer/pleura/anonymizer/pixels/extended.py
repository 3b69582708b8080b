"""JPEG of 12 bits a sample (1.2.840.10008.1.2.4.51), by GDCM itself: pydicom does not offer it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleura.anonymizer.errors import Undecodable
from pleura.anonymizer.pixels.facts import ImageFacts

PRECISION = 12


def decode_extended(facts: ImageFacts, stream: bytes) -> NDArray[Any]:
    """Return the samples of a grey 12-bit frame.

    Raises:
        Undecodable: the header tells of another kind of image, or the stream is broken.
    """
    if facts.allocated != 16 or facts.samples != 1 or facts.stored > PRECISION:
        raise Undecodable("12-bit JPEG")
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(stream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((facts.columns, facts.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    syntax = gdcm.TransferSyntax.GetTSType(facts.transfer_syntax)
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, PRECISION, PRECISION - 1, int(facts.is_signed)))
    buffer = image.GetBuffer()
    if buffer is None:
        raise Undecodable("pixel stream")
    data = buffer.encode("utf-8", "surrogateescape")  # SWIG gives bytes as text
    if len(data) != facts.frame_bytes:
        raise Undecodable("decoded shape")
    return np.frombuffer(data, facts.dtype).reshape(facts.shape)
