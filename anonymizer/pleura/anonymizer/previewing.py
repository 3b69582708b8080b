"""Previewing: what would be blacked out of one file, as a picture for the operator's eyes.

Everything in the picture is counted under the name it is drawn under: text that was found, areas
known to hold text (outside an ultrasound image, of a maker's layout), side markers that stay.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from pleura.anonymizer.burnedin.apply import Coloured, unburn
from pleura.anonymizer.burnedin.clean import Frames, Reading
from pleura.anonymizer.burnedin.palette import read_palette
from pleura.anonymizer.burnedin.preview import write_preview
from pleura.anonymizer.errors import NoPicture, WriteRefused
from pleura.anonymizer.header import read_header
from pleura.anonymizer.pixels.decode import open_frames
from pleura.anonymizer.pixels.facts import read_facts
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.seeding import collect_seeds
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.wire import parse_file
from pleura.anonymizer.writable import asked_to_write


@dataclass(frozen=True, slots=True)
class Counts:
    """Boxes by kind: text and known areas are blacked out, side markers are kept."""

    text: int
    known: int
    kept: int


@dataclass(frozen=True, slots=True)
class Shown:
    """What the picture shows: the frame (from 0) of how many, its boxes, and the whole file's."""

    frame: int
    frames: int
    here: Counts
    whole: Counts


def preview(file: Path, png: Path, profile: Profile, *, frame: int | None = None) -> Shown:
    """Read every frame of `file` and write one, before and after, as a PNG of mode 0600.

    `frame` counts from 0; None shows the first frame that text was found in.

    Raises:
        WriteRefused: the picture cannot be written there; known before pixels are read.
        NoPicture: the file has no pixels or no such frame.
        Quarantined: the file cannot be read, or its text cannot be taken out.
        DiskFull: no room.
        OSError: the file cannot be opened.
    """
    check_target(png)
    with FileSource(file) as source, tempfile.TemporaryDirectory() as folder:
        parsed = parse_file(source)
        header = read_header(parsed)
        facts = read_facts(parsed) if header.has_pixels else None
        if facts is None:
            raise NoPicture("no pixels")
        frames = open_frames(parsed, facts)
        if frame is not None and not 0 <= frame < frames.count:
            raise NoPicture(f"no such frame: there are {frames.count}")
        seeds = collect_seeds(parsed.elements, load_rules(), profile, parsed.meta)
        reading = unburn(parsed, header, seeds, "all", Path(folder)).reading
        if reading is None:
            raise NoPicture("no pixels")
        index = first_with_text(reading) if frame is None else frame
        photometric = frames.facts.photometric
        seen: Frames = frames
        if photometric == "PALETTE COLOR":
            palette = read_palette(parsed.elements, big_endian=parsed.syntax.big_endian)
            seen, photometric = Coloured(frames, palette), "RGB"
        with asked_to_write("the picture"):
            write_preview(seen, photometric, reading, png, index=index)
    every = [in_frame(reading, i) for i in range(frames.count)]
    whole = Counts(*(sum(getattr(c, kind) for c in every) for kind in Counts.__slots__))
    return Shown(frame=index, frames=frames.count, here=every[index], whole=whole)


def in_frame(reading: Reading, index: int) -> Counts:
    """Return the boxes that are drawn in one frame."""
    gone, known = len(reading.redact.get(index, ())), len(reading.blank)
    return Counts(text=max(0, gone - known), known=known, kept=len(reading.kept.get(index, ())))


def first_with_text(reading: Reading) -> int:
    """Return the first frame that text was found in, else the first of all."""
    return next((i for i in sorted(reading.redact) if in_frame(reading, i).text), 0)


def check_target(png: Path) -> None:
    """Find out whether a picture can be written there; nothing is left behind.

    Raises:
        WriteRefused: the folder is missing, is no folder or takes nothing.
        DiskFull: no room.
    """
    folder = png.parent
    if not folder.exists():
        raise WriteRefused("the folder of the picture does not exist")
    if not folder.is_dir():
        raise WriteRefused("the picture's place is in a file, which is no folder")
    with asked_to_write("the picture"), tempfile.TemporaryFile(dir=folder):
        pass
