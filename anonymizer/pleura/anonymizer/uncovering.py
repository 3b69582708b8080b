"""Uncovering: takes out what hides in pixel data beside the image, image data untouched.

Bits above those stored (embedded overlays among them) in native pixels, comments in the code
streams of compressed ones (DEID 2). Where nothing hides, the bytes stay where they are.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pleura.anonymizer.pixels.facts import pixel_element, read_facts, span_of
from pleura.anonymizer.pixels.hidden import clear_hidden, strip_comments
from pleura.anonymizer.source import FileSource, Span
from pleura.anonymizer.wire import DicomFile, Element


def uncover(parsed: DicomFile, folder: Path) -> tuple[DicomFile, Counter[str]]:
    """Return the file with clean pixel data and counts of what was done.

    New pixel data lies in a file without a name in `folder` that lives as long as its spans.

    Raises:
        Undecodable: the header contradicts itself, or a code stream is broken.
        LimitExceeded: a frame or the number of frames is too large.
        OSError: no room.
    """
    element, facts = pixel_element(parsed), read_facts(parsed)
    if element is None or facts is None:
        return parsed, Counter()
    if element.is_encapsulated:
        with tempfile.TemporaryFile(dir=folder) as spool:
            stripped = strip_comments(parsed, facts, spool)
        if stripped is None:
            return parsed, Counter()
        return _with(parsed, stripped), Counter(comments=1)
    chunks = clear_hidden(facts, span_of(element))
    if chunks is None:
        return parsed, Counter()
    cleared = Element(element.tag, element.vr, _spooled(chunks, folder))
    return _with(parsed, [cleared]), Counter(hidden_bits=1)


def _spooled(chunks: Iterable[bytes], folder: Path) -> Span:
    with tempfile.TemporaryFile(dir=folder) as file:
        source = FileSource(os.dup(file.fileno()))
    for chunk in chunks:
        source.append(chunk)
    return Span(source, 0, source.size)


def _with(parsed: DicomFile, elements: Iterable[Element]) -> DicomFile:
    """Return the file with these elements, those of the same tag gone."""
    new = list(elements)
    tags = {e.tag for e in new}
    kept = [e for e in parsed.elements if e.tag not in tags]
    return replace(parsed, elements=sorted((*kept, *new), key=lambda e: e.tag))
