"""Work: does one accepted order with this site's data and returns its durable answer.

Order of effects in a private round: gate, charge (durable), train, update file
(durable), `spent` (durable), answer (durable). A kill in between costs budget and
never repeats a release. Without privacy the same order gives the same bytes.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from pleura.anonymizer.erasure import ErasureIndex, Use
from pleura.client.data.cohort import Cohort
from pleura.client.data.splits import SPLIT_SEED
from pleura.client.errors import ArchiveDamaged
from pleura.client.ingest.catalog import Catalog
from pleura.client.privacy.gate import check_gate
from pleura.client.settings import SiteSettings
from pleura.client.tasks.registry import task_of
from pleura.client.trainer.answers import Signer
from pleura.client.trainer.archive import UPDATE, Archive, StoredAnswer
from pleura.client.trainer.identity import (
    code_digest,
    dataset_commitment,
    load_or_create_secret,
)
from pleura.client.trainer.jobs import Progress
from pleura.client.trainer.policy import OpenedOrder, check_cohort, split_of_order
from pleura.client.trainer.spending import SiteBudget, Spend, no_privacy_report
from pleura.client.training.federated import train_round
from pleura.client.training.weights import load_arrays, read_arrays
from pleura.client.validation.evaluate import evaluate_model
from pleura.common import events
from pleura.common.blobs import BlobStore
from pleura.common.clock import Clock
from pleura.common.files import atomic_writer, ensure_private_folder, write_atomic
from pleura.common.ids import short
from pleura.common.orders import BlobRef, EvaluateOrder, TrainOrder
from pleura.common.results import DpReport
from pleura.common.tensors import file_sha256

BASES_KEPT: Final = 4
_REFERENCE: Final = "update.json"  # digests of `update.bin`, written before it is paid for
_EVENT_EVERY_S: Final = 5.0


class SiteWork:
    """Everything a job needs of this site. Runs on the one worker thread."""

    def __init__(
        self,
        settings: SiteSettings,
        *,
        archive: Archive,
        blobs: BlobStore,
        signer: Signer,
        clock: Clock,
    ) -> None:
        """Open budget and secrets of the trainer's folder.

        Raises:
            BudgetDamaged, KeyUnreadable, KeyFileInsecure: named cause; do not start.
        """
        self._settings, self._archive, self._blobs = settings, archive, blobs
        self._signer, self._clock = signer, clock
        self._secret = load_or_create_secret(settings.trainer_dir / "commitment.key")
        self._budget = SiteBudget(settings.trainer_dir, settings.policy)
        self._cache = ensure_private_folder(settings.trainer_dir / "cache")

    def close(self) -> None:
        """Close the budget ledger."""
        self._budget.close()

    def check(self, opened: OpenedOrder) -> None:
        """Return if this site has the cohort the order needs.

        Raises:
            CohortTooSmall, LabelsMissing, LabelsUnreadable, CatalogMissing, TaskUnknown.
        """
        self._cohort(opened)

    def run(self, opened: OpenedOrder, progress: Progress) -> StoredAnswer:
        """Do the order and return its answer, durable.

        Raises:
            PleuraError: the named reason why there is none.
        """
        order, started = opened.order, time.monotonic()
        cohort = self._cohort(opened)
        who = {"run": order.run_id, "round": order.round, "site": self._signer.site_id}
        events.emit("job.started", **who, kind=order.kind, attempt=order.attempt,
                    patients=cohort.bucket)  # fmt: skip
        watched = _Watched(progress, who | {"kind": order.kind}, started)
        if isinstance(order, TrainOrder):
            answer = self._train(opened, order, cohort, watched)
        else:
            answer = self._evaluate(opened, order, cohort, watched)
        self._drop_old_bases()
        seconds = time.monotonic() - started
        events.emit("job.finished", **who, kind=order.kind, seconds=seconds,
                    digest=short(answer.blob_sha256 or opened.digest))  # fmt: skip
        return answer

    def _cohort(self, opened: OpenedOrder) -> Cohort:
        order = opened.order
        with Catalog(self._settings.catalog_file, read_only=True) as catalog:
            cohort = catalog.cohort(
                order.plan.task.name,
                split_of_order(order),
                seed=SPLIT_SEED,
                store=self._settings.store_dir,
            )
        if isinstance(order, TrainOrder):
            check_cohort(cohort.patients, self._settings.policy)
        return cohort

    # --- training ----------------------------------------------------------------

    def _train(
        self, opened: OpenedOrder, order: TrainOrder, cohort: Cohort, progress: Progress
    ) -> StoredAnswer:
        taken_at = self._archive.take(opened, self._clock.now())
        folder = self._archive.folder(opened)
        if order.plan.privacy.mode == "dp":
            packed, dp = self._private(order, cohort, folder, progress)
        else:
            self._remember(order, cohort)
            packed, steps = self._trained(order, cohort, folder, progress)
            dp = no_privacy_report(steps)
        envelope = self._signer.update(
            opened,
            packed,
            dp=dp,
            commitment=dataset_commitment(cohort, self._secret),
            patients=cohort.patients,
            now=taken_at,  # a repeated job signs the same bytes
        )
        return self._archive.store(opened, envelope, packed)

    def _private(
        self, order: TrainOrder, cohort: Cohort, folder: Path, progress: Progress
    ) -> tuple[BlobRef, DpReport]:
        steps = order.plan.train.local_steps
        paid = self._budget.stored(order)
        if paid is not None:
            packed = _reused(folder, paid)
            return packed, self._budget.report(order, steps, self._budget.so_far(order))
        task = task_of(order.plan)
        model = task.build_model(order.plan.seed)
        check_gate(
            order.plan.model,
            model,
            task.input_shape,
            task.loss,
            code_digest=code_digest(),
            marks=self._settings.trainer_dir / "gate",
        )
        # a base that cannot be trained is found before it costs anything
        base = self._blobs.path(order.base.blob_sha256)
        load_arrays(model, read_arrays(base, order.base))
        charge = self._budget.reserve(order)
        self._remember(order, cohort)
        packed, steps = self._trained(order, cohort, folder, progress)
        write_atomic(folder / _REFERENCE, packed.model_dump_json().encode())
        self._budget.spent(charge, packed.blob_sha256)
        spend = Spend(charge.epsilon_run, charge.epsilon_total_after)
        return packed, self._budget.report(order, steps, spend)

    def _remember(self, order: TrainOrder, cohort: Cohort) -> None:
        """Record who is about to be trained on, for an erasure that asks later (GDPR 17)."""
        use = Use(f"{cohort.task}/{cohort.split}", order.run_id, order.round)
        with ErasureIndex(self._settings.rounds_file) as rounds:
            rounds.add_uses(cohort.by_patient, use)

    def _trained(
        self, order: TrainOrder, cohort: Cohort, folder: Path, progress: Progress
    ) -> tuple[BlobRef, int]:
        trained = train_round(
            order,
            self._blobs.path(order.base.blob_sha256),
            cohort,
            site_id=self._signer.site_id,
            update_path=folder / UPDATE,
            progress=progress,
            cache_folder=self._cache,
        )
        return trained.packed, trained.steps

    # --- evaluation --------------------------------------------------------------

    def _evaluate(
        self, opened: OpenedOrder, order: EvaluateOrder, cohort: Cohort, progress: Progress
    ) -> StoredAnswer:
        found = evaluate_model(
            order,
            self._blobs.path(order.base.blob_sha256),
            cohort,
            progress=progress,
            cache_folder=self._cache,
        )
        with Catalog(self._settings.catalog_file, read_only=True) as catalog:
            removals = catalog.removal_counts()
            quarantined = sum(catalog.counts().quarantined.values())
        taken_at = self._archive.take(opened, self._clock.now())
        envelope = self._signer.evaluation(
            opened, order, found, removals=removals, quarantined=quarantined, now=taken_at
        )
        return self._archive.store(opened, envelope, None)

    def _drop_old_bases(self) -> None:
        """Keep the newest base models; an old one is fetched again if it is ever ordered."""
        folder = self._settings.trainer_dir / "blobs"
        bases = [path for path in folder.glob("sha256/*/*") if path.suffix == ""]
        bases.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in bases[BASES_KEPT:]:
            path.unlink(missing_ok=True)


def _reused(folder: Path, blob_sha256: str) -> BlobRef:
    """Put the update already paid for into this order's folder and return its digests.

    Raises:
        ArchiveDamaged: the ledger says it exists, but its file is gone or was changed.
        DiskFull: the volume has no room for another copy.
    """
    for reference in folder.parent.glob(f"*/{_REFERENCE}"):
        try:
            packed = BlobRef.model_validate_json(reference.read_bytes())
        except (OSError, ValidationError) as exc:
            raise ArchiveDamaged("digests of an update") from exc
        if packed.blob_sha256 == blob_sha256:
            source = reference.with_name(UPDATE)
            if not source.is_file() or file_sha256(source) != blob_sha256:
                break
            if source.parent != folder:
                with source.open("rb") as paid, atomic_writer(folder / UPDATE) as copy:
                    shutil.copyfileobj(paid, copy)
            return packed
    raise ArchiveDamaged("an update that was paid for")


class _Watched:
    """Passes progress on and emits it as an event every few seconds."""

    def __init__(self, inner: Progress, who: dict[str, object], started: float) -> None:
        self._inner, self._who, self._started = inner, who, started
        self._last = started

    def __call__(self, done: int, total: int, /) -> None:
        self._inner(done, total)
        now = time.monotonic()
        if now - self._last >= _EVENT_EVERY_S:
            self._last = now
            seconds = now - self._started
            events.emit("job.progressed", **self._who, step=done, steps=total, seconds=seconds)
