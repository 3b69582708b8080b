"""LIDC reference: nodule malignancy on four scanner makers, pooled and federated.

Not collected by pytest; run it by hand from the repository root:

    python -m tests.benchmarks.lidc_reference --pooled --steps 50 --rounds 8 --patients 32
    python -m tests.benchmarks.lidc_reference --rounds 40 --steps 10
    python -m tests.benchmarks.lidc_reference --mode dp --rounds 40 --steps 10 --sigma 1.2
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pleura.client.tasks.registry import build_task
from pleura.common.orders import ModelSpec, PreprocSpec, TaskRef
from tests.benchmarks.in_process import ArrayBatches, InProcessRun, Row, add_arguments

SITES = ("ge", "philips", "siemens", "toshiba")
SLICES, SIDE = 8, 48


def read_rows(root: Path) -> list[Row]:
    """Return every nodule with a decided label, as [8, 48, 48] in [0, 1]."""
    rows = []
    with (root / "metadata.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line["malignant"] not in {"0", "1"}:
                continue
            tile = np.asarray(Image.open(root / line["file"]), dtype=np.float32) / 255.0
            stack = np.ascontiguousarray(tile.reshape(SIDE, SLICES, SIDE).transpose(1, 0, 2))
            label = int(line["malignant"])
            rows.append(Row(line["site"], line["split"], line["patient_id"], stack, label))
    return rows


def main() -> None:
    """Run what the arguments say and print one JSON line a seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data/lidc_nodules"))
    parser.add_argument("--dims", type=int, choices=(2, 3), default=2)
    add_arguments(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    channels = SLICES if args.dims == 2 else 1
    task = build_task(
        TaskRef(name="ct_nodule_malignancy"),
        ModelSpec(arch="tiny_cnn_gn", in_channels=channels, spatial_dims=args.dims),
        PreprocSpec(modality="CT", size_px=SIDE, slices=SLICES),
    )
    rows = read_rows(args.data)
    parts = {"pooled": SITES} if args.pooled else {site: (site,) for site in SITES}
    sites = {
        name: ArrayBatches.of(rows, task, part, args.train_splits) for name, part in parts.items()
    }
    tests = {
        split: ArrayBatches.of(rows, task, SITES, (split,))
        for split in ("test", "val")
        if split not in args.train_splits
    }
    run = InProcessRun(args, task, sites, tests)
    for seed in args.seeds:
        run.run(seed)


if __name__ == "__main__":
    main()
