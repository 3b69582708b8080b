"""Memory and time of de-identifying one very large multi-frame object.

`python -m tests.benchmarks.large_multiframe [gigabytes]` writes a native CT multi-frame file of
that size (its pixels are a hole, so it costs no disk), de-identifies it with the self-check on
and prints the peak resident memory: once in a process that looks for no burned-in text, beside
the target of 150 MB, and once in one that reads three frames as the policy wants, whose text
models take what is more. Exits 1 above the target.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

TARGET_MB: Final = 150
_ENHANCED_CT: Final = "1.2.840.10008.5.1.4.1.1.2.1"
_WORK: Final = """
import json, sys, time
from pathlib import Path
from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.pseudonyms import ProjectKey
def peak_mb():  # of this program alone: getrusage counts its parent before exec too
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
before = peak_mb()
started = time.monotonic()
done = deidentify_file(
    Path(sys.argv[1]), Path(sys.argv[2]), profile=load_profile("gdpr_pseudonymous"),
    key=ProjectKey.from_bytes(bytes(range(32))), ocr=sys.argv[3],
)
print(json.dumps({
    "import_mb": before, "peak_mb": peak_mb(), "size_bytes": done.size_bytes,
    "seconds": time.monotonic() - started,
}))
"""


def write_large(path: Path, size_bytes: int) -> int:
    """Write a native multi-frame file of at least `size_bytes`; return its size."""
    frames = -(-size_bytes // (512 * 512 * 2))
    ds = Dataset()
    ds.SOPClassUID = _ENHANCED_CT
    ds.SOPInstanceUID, ds.StudyInstanceUID = "1.2.3.4.5.6", "1.2.3.4.5.7"
    ds.SeriesInstanceUID = "1.2.3.4.5.8"
    ds.PatientID, ds.PatientName, ds.Modality = "MRN-40417", "Quibbleworth^Ludmilla", "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.Rows = ds.Columns = 512
    ds.NumberOfFrames, ds.SamplesPerPixel, ds.PixelRepresentation = frames, 1, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    dcmwrite(path, ds, enforce_file_format=True)
    length = frames * 512 * 512 * 2
    with path.open("ab") as file:
        file.write(b"\xe0\x7f\x10\x00OW\0\0" + length.to_bytes(4, "little"))
        file.truncate(file.tell() + length)
    return path.stat().st_size


def measure(gigabytes: float, folder: Path, ocr: str = "off") -> dict[str, float]:
    """Return peak memory (MB), size and seconds of one run in a process of its own."""
    source = folder / "large.dcm"
    write_large(source, int(gigabytes * (1 << 30)))
    command = [sys.executable, "-c", _WORK, str(source), str(folder / ocr), ocr]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    """Measure and print; return the exit code."""
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {ocr: measure(gigabytes, folder, ocr) for ocr in ("off", "policy")}
    print(json.dumps(results, indent=1))
    return 0 if results["off"]["peak_mb"] < TARGET_MB else 1


if __name__ == "__main__":
    sys.exit(main())
