"""Previewing: what would be blacked out of one file, as a picture for the operator's eyes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from pleura.anonymizer.burnedin.apply import Coloured, unburn
from pleura.anonymizer.burnedin.palette import read_palette
from pleura.anonymizer.burnedin.preview import write_preview
from pleura.anonymizer.cleaning import collect_seeds
from pleura.anonymizer.errors import Undecodable
from pleura.anonymizer.header import read_header
from pleura.anonymizer.pixels.decode import open_frames
from pleura.anonymizer.pixels.facts import read_facts
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.wire import parse_file


@dataclass(frozen=True, slots=True)
class Shown:
    """What the picture shows: the frame (from 0), its boxes, and those of the whole file."""

    frame: int
    boxes_in_frame: int
    boxes: int
    markers: int
    frames: int


def preview(file: Path, png: Path, profile: Profile, *, frame: int | None = None) -> Shown:
    """Read every frame of `file` and write one, before and after, as a PNG of mode 0600.

    `frame` counts from 0; None shows the first frame that something is blacked out of.

    Raises:
        Quarantined: the file cannot be read, has no pixels or no such frame, or its text
            cannot be taken out.
        DiskFull: no room.
        OSError: the file cannot be opened, or the picture not be written.
    """
    with FileSource(file) as source, tempfile.TemporaryDirectory() as folder:
        parsed = parse_file(source)
        header = read_header(parsed)
        facts = read_facts(parsed) if header.has_pixels else None
        if facts is None:
            raise Undecodable("no pixels")
        seeds = collect_seeds(parsed.elements, load_rules(), profile)
        reading = unburn(parsed, header, seeds, "all", Path(folder)).reading
        if reading is None:
            raise Undecodable("no pixels")
        frames = open_frames(parsed, facts)
        index = frame
        if index is None:
            index = next((i for i, boxes in sorted(reading.redact.items()) if boxes), 0)
        if not 0 <= index < frames.count:
            raise Undecodable("no such frame")
        photometric = frames.facts.photometric
        if photometric == "PALETTE COLOR":
            palette = read_palette(parsed.elements, big_endian=parsed.syntax.big_endian)
            write_preview(Coloured(frames, palette), "RGB", reading, png, index=index)
        else:
            write_preview(frames, photometric, reading, png, index=index)
        return Shown(
            frame=index,
            boxes_in_frame=len(reading.redact.get(index, ())),
            boxes=reading.boxes,
            markers=reading.markers,
            frames=frames.count,
        )
