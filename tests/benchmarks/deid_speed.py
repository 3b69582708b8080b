"""Speed of de-identifying CT slices with the self-check on, beside pydicom's read and save.

`python -m tests.benchmarks.deid_speed [path below shared/data/dicom]` derives a series of 144
slices of about 515 KiB from one real CT file, each with its own UID, number and position.
One process reads and saves them with pydicom and de-identifies them under every profile, all
without fsync. Prints files a second of processor time and of wall time, and what a file costs
in times of pydicom's. Exits 1 below 200 files a second and core.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pydicom import dcmread, dcmwrite
from pydicom.uid import generate_uid

from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.mapping import RandomMapping
from pleura.anonymizer.profile import PROFILE_NAMES, Profile, load_profile
from pleura.anonymizer.pseudonyms import ProjectKey, Pseudonyms
from tests.builders.shared_data import find_shared_data

FILES: Final = 144
ROUNDS: Final = 5
TARGET_PER_CORE: Final = 200
SLICE: Final = "QIICR__dcmqi/ct-3slice_01.dcm"


def write_series(source: Path, folder: Path, count: int = FILES) -> list[Path]:
    """Write `count` slices of one series that differ as the slices of a scanner do."""
    ds = dcmread(source)
    series, start = str(ds.SeriesInstanceUID), datetime(2000, 1, 1, 10, 15)
    paths = []
    for number in range(1, count + 1):
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.InstanceNumber = number
        ds.SliceLocation = f"{number * 1.25:.2f}"
        ds.ImagePositionPatient = ["-166", "-171.7", f"{-207.2 + number * 1.25:.2f}"]
        ds.ContentTime = f"{start + timedelta(seconds=number):%H%M%S}"
        paths.append(folder / f"{number:04d}.dcm")
        dcmwrite(paths[-1], ds)
    return paths


def measure(
    work: Callable[[Path, Path], object], files: Sequence[Path], folder: Path
) -> dict[str, float]:
    """Return files a second of processor and wall time of one pass over the files."""
    target = folder / "out"
    target.mkdir()
    started, used = time.perf_counter(), time.process_time()
    for path in files:
        work(path, target)
    cpu, wall = time.process_time() - used, time.perf_counter() - started
    shutil.rmtree(target)
    return {"per_cpu_s": len(files) / cpu, "per_wall_s": len(files) / wall}


def _read_and_save(path: Path, target: Path) -> None:
    dcmread(path).save_as(target / path.name)


def _deidentifier(profile: Profile, folder: Path) -> Callable[[Path, Path], object]:
    key = _key_for(profile, folder)
    return lambda path, target: deidentify_file(path, target, profile=profile, key=key, fsync=False)


def _key_for(profile: Profile, folder: Path) -> Pseudonyms:
    key = ProjectKey.from_bytes(bytes(range(32)))
    if profile.pseudonyms == "random":
        return RandomMapping(Path(tempfile.mkdtemp(dir=folder)) / "map.db", key)
    return key


def run(source: Path) -> dict[str, dict[str, float]]:
    """Measure pydicom and every profile on one series derived from `source`.

    Each row is its best of some rounds; in a round all of them take turns, and none knows the
    names another round gave.
    """
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        files = write_series(source, folder / "in")
        for _ in range(ROUNDS):
            rows: dict[str, Callable[[Path, Path], object]] = {"pydicom": _read_and_save}
            for profile_name in PROFILE_NAMES:
                rows[profile_name] = _deidentifier(load_profile(profile_name), folder)
            for row, work in rows.items():
                found, known = measure(work, files, folder), best.get(row, {})
                best[row] = {key: max(value, known.get(key, 0)) for key, value in found.items()}
    plain = best["pydicom"]["per_cpu_s"]
    return {row: found | {"cost": plain / found["per_cpu_s"]} for row, found in best.items()}


def main() -> int:
    """Measure and print; return the exit code."""
    source = find_shared_data("dicom", *(sys.argv[1:] or [SLICE])[0].split("/"))
    if source is None:
        print("the research data is not on this machine", file=sys.stderr)
        return 2
    table = run(source)
    rounded = {row: {k: round(v, 2) for k, v in cells.items()} for row, cells in table.items()}
    print(json.dumps(rounded, indent=1))
    slowest = min(cells["per_cpu_s"] for row, cells in table.items() if row != "pydicom")
    return 0 if slowest >= TARGET_PER_CORE else 1


if __name__ == "__main__":
    sys.exit(main())
