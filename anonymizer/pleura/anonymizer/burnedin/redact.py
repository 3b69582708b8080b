"""Redaction: decoded frames with the boxes of a reading filled black, the rest untouched."""

from __future__ import annotations

from collections.abc import Iterator

from pleura.anonymizer.burnedin.clean import Frames, Reading
from pleura.anonymizer.burnedin.view import Frame, black_of


def redacted(
    frames: Frames, photometric: str, reading: Reading, *, black: int | None = None
) -> Iterator[Frame]:
    """Yield every frame; pixels outside the boxes are the decoded ones, bit for bit.

    `black`: the darkest index of a palette.
    """
    for index in range(frames.count):
        frame = frames.frame(index)
        boxes = reading.redact.get(index, ())
        if boxes:
            fill = black_of(frame, photometric) if black is None else black
            frame = frame.copy()
            for box in boxes:
                frame[box.slices()] = fill
        yield frame
