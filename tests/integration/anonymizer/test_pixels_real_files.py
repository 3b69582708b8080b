"""Pixels of the shared public images: decoded, stripped and encoded again without a change."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pleura.anonymizer.encoding import DicomFile
from pleura.anonymizer.errors import Quarantined, Undecodable
from pleura.anonymizer.pixels.decode import open_frames
from pleura.anonymizer.pixels.encode import encode_frames
from pleura.anonymizer.pixels.facts import pixel_element, read_facts
from pleura.anonymizer.pixels.hidden import strip_comments
from pleura.anonymizer.pixels.samples import clear_samples
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.wire import parse_file
from tests.builders.shared_data import shared_data


def parsed_files() -> list[DicomFile]:
    found: list[DicomFile] = []
    for path in sorted(Path(shared_data("dicom")).rglob("*.dcm")):
        try:
            parsed = parse_file(FileSource(path))
        except Quarantined:
            continue
        if pixel_element(parsed) is not None:
            found.append(parsed)
    return found


def replaced(parsed: DicomFile, elements: list, syntax: str) -> DicomFile:  # type: ignore[type-arg]
    tags = {e.tag for e in elements} | {0x7FE00001, 0x7FE00002}
    kept = [e for e in parsed.elements if e.tag not in tags]
    return DicomFile(parsed.meta, kept + elements, syntax, parsed.syntax)


def test_at_least_188_files_decode_and_stay_the_same_through_strip_and_encode(
    capfd: pytest.CaptureFixture[str],
) -> None:
    outcome: Counter[str] = Counter()
    for parsed in parsed_files():
        try:
            facts = read_facts(parsed)
            assert facts is not None
            reader = open_frames(parsed, facts)
            first = reader.frame(0)
        except Undecodable:
            outcome["refused"] += 1
            continue
        outcome["decoded"] += 1
        assert first.shape == facts.shape
        with tempfile.TemporaryFile() as spool:
            stripped = strip_comments(parsed, facts, spool)
            if stripped is not None:
                outcome["stripped"] += 1
                again = open_frames(replaced(parsed, stripped, facts.transfer_syntax), facts)
                np.testing.assert_array_equal(again.frame(0), first)
            if facts.frames > 8 or facts.is_big_endian:
                continue
            frames = (reader.frame(i) for i in range(reader.count))
            pixels = encode_frames(reader.facts, frames, spool)
            written = replaced(parsed, pixels.elements, pixels.transfer_syntax)
            known = read_facts(written)
            assert known is not None
            again_first = open_frames(written, known).frame(0)
            np.testing.assert_array_equal(again_first, clear_samples(facts, first))
    assert outcome["decoded"] >= 188, outcome
    assert outcome["stripped"] > 0
    assert capfd.readouterr() == ("", "")  # no codec talks to whoever watches


def test_twelve_bit_jpeg_shows_the_picture_it_was_made_from() -> None:
    """The lossy copy was stored with another slope: the two differ by a straight line."""
    folder = Path(shared_data("dicom")) / "cornerstonejs__cornerstoneWADOImageLoader"
    name = "testImages_CTImage.dcm"
    lossy = "_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm"
    images = []
    for path in (folder / name, folder / (name + lossy)):
        parsed = parse_file(FileSource(path))
        facts = read_facts(parsed)
        assert facts is not None
        images.append(open_frames(parsed, facts).frame(0).astype(float).ravel())
    slope, offset = np.polyfit(images[1], images[0], 1)
    rest = np.abs(slope * images[1] + offset - images[0])
    assert np.corrcoef(images[0], images[1])[0, 1] > 0.9999
    assert rest.mean() < 5
