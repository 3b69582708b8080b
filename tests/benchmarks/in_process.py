"""Federated runs inside one process: the site's own loop and tasks, without the channel.

Used by the reference scripts beside it, so that what a plan's values reach on
real images can be measured in minutes. Prints one JSON line a seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pleura.client.privacy.engine import train_dp
from pleura.client.tasks.protocol import Task
from pleura.client.training.loop import round_seed, train_plain
from pleura.client.training.weights import Arrays, arrays_of, load_arrays
from pleura.common.orders import PrivacySpec, TrainSpec
from pleura.common.stats.auc import auroc

CHUNK = 64


@dataclass(frozen=True)
class Row:
    """One labelled picture of a research set."""

    site: str
    split: str
    patient: str
    picture: NDArray[np.float32]
    label: int


@dataclass(frozen=True)
class ArrayBatches:
    """`PatientBatches` over arrays that are already in memory."""

    rows: dict[str, list[tuple[NDArray[np.float32], int]]]
    task: Task

    @staticmethod
    def of(
        rows: list[Row], task: Task, sites: Sequence[str], splits: Sequence[str]
    ) -> ArrayBatches:
        """Return the patients of some sites and splits, in canonical order."""
        groups: dict[str, list[tuple[NDArray[np.float32], int]]] = {}
        for row in rows:
            if row.site in sites and row.split in splits:
                groups.setdefault(row.patient, []).append((row.picture, row.label))
        return ArrayBatches({patient: groups[patient] for patient in sorted(groups)}, task)

    @property
    def patients(self) -> Sequence[str]:
        return tuple(self.rows)

    def count(self, patient: str) -> int:
        return len(self.rows[patient])

    def load(
        self, patient: str, indices: Sequence[int], augment_rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        chosen = [self.rows[patient][index] for index in indices]
        pictures = [
            p if augment_rng is None else self.task.augment(p, augment_rng) for p, _ in chosen
        ]
        images = np.stack([p.reshape(self.task.input_shape) for p in pictures])
        labels = torch.tensor([float(label) for _, label in chosen])
        return torch.from_numpy(images), labels, torch.ones(len(chosen))


def measure(model: nn.Module, data: ArrayBatches) -> float | None:
    """Return the AUROC over all images, or None where a class is missing."""
    pairs = [pair for rows in data.rows.values() for pair in rows]
    labels = np.array([bool(label) for _, label in pairs])
    if labels.all() or not labels.any():
        return None
    model.eval()
    scores: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(pairs), CHUNK):
            pictures = [p.reshape(data.task.input_shape) for p, _ in pairs[start : start + CHUNK]]
            scores += model(torch.from_numpy(np.stack(pictures))).double().tolist()
    return round(auroc(labels, np.array(scores)), 4)


def average(updates: list[Arrays], weights: list[float]) -> Arrays:
    """Return the weighted mean of the sites' models."""
    total = sum(weights)
    return {
        name: np.asarray(
            sum(
                update[name].astype(np.float64) * (weight / total)
                for update, weight in zip(updates, weights, strict=True)
            ),
            dtype=np.float32,
        )
        for name in updates[0]
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the plan's values as options; `--mode dp` trains privately at each site."""
    parser.add_argument("--mode", choices=("plain", "dp"), default="plain")
    parser.add_argument("--pooled", action="store_true", help="one site with everything")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="adamw")
    parser.add_argument("--lr", default="0.003")
    parser.add_argument("--momentum", default="0")
    parser.add_argument("--decay", default="0")
    parser.add_argument("--schedule", choices=("constant", "cosine"), default="cosine")
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--augment", action="store_true")
    parser.add_argument("--power", type=float, default=1.0, help="weights are n ** power")
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--sigma", default="1")
    parser.add_argument("--clip", default="1")
    parser.add_argument("--n-ref", type=int, default=100)
    parser.add_argument("--train-splits", nargs="+", default=["train", "val"])


class InProcessRun:
    """One simulated federation: its data, its plan's values, and what it measures."""

    def __init__(
        self,
        args: argparse.Namespace,
        task: Task,
        sites: dict[str, ArrayBatches],
        tests: dict[str, ArrayBatches],
    ) -> None:
        self.args, self.task, self.sites, self.tests = args, task, sites, tests
        self.train = TrainSpec(
            optimizer=args.optimizer,
            lr=Decimal(args.lr),
            momentum=Decimal(args.momentum),
            weight_decay=Decimal(args.decay),
            schedule=args.schedule,
            local_steps=args.steps,
            batch_patients=args.patients,
            images_per_patient=args.images,
            augment=args.augment,
        )

    def _train_one(self, model: nn.Module, site: str, number: int, seed: int) -> None:
        total = self.args.rounds * self.args.steps
        if self.args.mode == "dp":
            privacy = PrivacySpec(
                clip=Decimal(self.args.clip),
                sigma=Decimal(self.args.sigma),
                n_ref=self.args.n_ref,
            )
            train_dp(
                model,
                self.sites[site],
                privacy=privacy,
                train=self.train,
                first_step=(number - 1) * self.args.steps,
                total_steps=total,
                loss=self.task.loss,
                progress=_silent,
            )
            return
        train_plain(
            model,
            self.sites[site],
            train=self.train,
            loss=self.task.loss,
            seed=round_seed(seed, site, number),
            rounds_done=number - 1,
            total_steps=total,
            progress=_silent,
        )

    def run(self, seed: int) -> None:
        """Run every round of one seed and print the result as a JSON line."""
        started = time.monotonic()
        model = self.task.build_model(seed)
        current = arrays_of(model)
        weights = [len(site.patients) ** self.args.power for site in self.sites.values()]
        curve: dict[int, dict[str, float | None]] = {}
        for number in range(1, self.args.rounds + 1):
            updates = []
            for site in self.sites:
                load_arrays(model, current)
                self._train_one(model, site, number, seed)
                updates.append(arrays_of(model))
            current = average(updates, weights)
            if number % self.args.every == 0 or number == self.args.rounds:
                load_arrays(model, current)
                curve[number] = {name: measure(model, data) for name, data in self.tests.items()}
                print(number, curve[number], file=sys.stderr, flush=True)
        values = {k: v for k, v in vars(self.args).items() if k not in {"data", "seeds", "every"}}
        result = {"seed": seed, "auroc": curve[self.args.rounds], "curve": curve}
        seconds = round(time.monotonic() - started, 1)
        print(json.dumps({**result, "seconds": seconds, **values}), flush=True)


def _silent(_done: int, _total: int) -> None:
    """Report no progress."""
