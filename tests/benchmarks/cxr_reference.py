"""CXR reference: abnormal against normal at three hospitals, one of them external-like.

Judge each site by its own test split and the external site; a pooled figure only
tells that the sites can be told apart. Run it from the repository root:

    python -m tests.benchmarks.cxr_reference --rounds 20 --steps 10
    python -m tests.benchmarks.cxr_reference --rounds 20 --steps 10 --sites guangzhou hannover
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pleura.client.data.preprocess import scale_to_unit, square_picture
from pleura.client.tasks.registry import build_task
from pleura.common.orders import ModelSpec, PreprocSpec, TaskRef
from tests.benchmarks.in_process import ArrayBatches, InProcessRun, Row, add_arguments

SITES = ("guangzhou", "hannover", "nih")


def read_rows(root: Path, size_px: int) -> list[Row]:
    """Return every radiograph as [1, size_px, size_px] in [0, 1]."""
    rows = []
    with (root / "metadata.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            grey = np.asarray(Image.open(root / line["file"]).convert("L"), dtype=np.float64)
            picture = square_picture(scale_to_unit(grey), size_px)[np.newaxis]
            label = int(line["abnormal"])
            rows.append(Row(line["site"], line["split"], line["patient_id"], picture, label))
            if line["nih_matched"] == "1" and line["split"] == "test":
                rows.append(Row("nih", "matched", line["patient_id"], picture, label))
    return rows


def main() -> None:
    """Run what the arguments say and print one JSON line a seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cxr_multisite"))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--sites", nargs="+", choices=SITES, default=list(SITES))
    add_arguments(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = build_task(
        TaskRef(name="cxr_abnormal"),
        ModelSpec(arch="tiny_cnn_gn"),
        PreprocSpec(modality="CXR", size_px=args.size),
    )
    rows = read_rows(args.data, args.size)
    parts = {"pooled": args.sites} if args.pooled else {site: (site,) for site in args.sites}
    sites = {
        name: ArrayBatches.of(rows, task, part, args.train_splits) for name, part in parts.items()
    }
    tests = {site: ArrayBatches.of(rows, task, (site,), ("test",)) for site in ("guangzhou", "nih")}
    tests["all"] = ArrayBatches.of(rows, task, SITES, ("test",))
    tests["nih_matched"] = ArrayBatches.of(rows, task, ("nih",), ("matched",))
    tests["actualmed"] = ArrayBatches.of(rows, task, ("actualmed",), ("external",))
    run = InProcessRun(args, task, sites, tests)
    for seed in args.seeds:
        run.run(seed)


if __name__ == "__main__":
    main()
