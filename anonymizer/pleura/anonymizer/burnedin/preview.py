"""Preview: one picture, before and after, with the boxes drawn; for the operator at the site."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pleura.anonymizer.burnedin.clean import Frames, Reading
from pleura.anonymizer.burnedin.view import grey_view
from pleura.common.files import write_atomic


def write_preview(
    frames: Frames, photometric: str, reading: Reading, path: Path, *, index: int = 0
) -> None:
    """Write frame `index` before (boxes in red) and after as one PNG of mode 0600.

    The left half shows what is burned in: the file must not leave the site.

    Raises:
        DiskFull: no room.
    """
    before = grey_view(frames.frame(index), photometric)
    after = before.copy()
    for box in reading.redact.get(index, ()):
        after[box.slices()] = 0
    picture = Image.fromarray(np.hstack([before, after])).convert("RGB")
    pen = ImageDraw.Draw(picture)
    for box in reading.redact.get(index, ()):
        pen.rectangle((box.x0, box.y0, box.x1 - 1, box.y1 - 1), outline=(255, 64, 64))
    png = BytesIO()
    picture.save(png, "PNG")
    write_atomic(path, png.getvalue(), mode=0o600)
