"""The research studies, from DICOM folders to a table and report pages.

Not collected by pytest; run from the repository root, where it takes minutes:

    python -m tests.benchmarks.studies lidc
    python -m tests.benchmarks.studies lidc --privacy --seeds 1 2
    python -m tests.benchmarks.studies cxr --out build/studies

Real processes, TLS and signatures on this machine; the public research images
must be there (`tests/builders/shared_data.py` says where), else it says so and ends.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from pleura.common.exit_codes import ExitCode
from tests.benchmarks import cxr_study, lidc_study
from tests.builders.shared_data import VARIABLE, find_shared_data

SETS = {"lidc": "lidc_nodules", "cxr": "cxr_multisite"}


def main() -> int:
    """Run the study the arguments name; print its table and keep it beside the pages."""
    args = _arguments()
    if find_shared_data(SETS[args.study]) is None:
        print(f"skipped: {SETS[args.study]} is absent; set {VARIABLE}", file=sys.stderr)
        return int(ExitCode.OK)
    torch.set_num_threads(1)
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pleura-study-") as scratch:
        root = Path(scratch)
        if args.study == "lidc":
            lines = lidc_study.run(root, lidc_study.Options(tuple(args.seeds), args.privacy, out))
        else:
            lines = cxr_study.run(root, tuple(args.seeds), out)
    seconds, load = time.monotonic() - began, os.getloadavg()
    lines.append(f"{seconds:.0f} s, load average {load[0]:.1f} {load[1]:.1f} {load[2]:.1f}")
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    (out / f"{args.study}.txt").write_text(text, encoding="utf-8")
    return int(ExitCode.OK)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=sorted(SETS))
    parser.add_argument("--privacy", action="store_true", help="lidc: also at epsilon 8")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--out", type=Path, default=Path("study-reports"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
