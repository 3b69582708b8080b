"""A small site with real files, catalog, keys and model, for tests of trainer and agent."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pleura.client.data.cohort import Cohort
from pleura.client.ingest.catalog import Catalog, LabelRow
from pleura.client.ingest.selection import Mark
from pleura.client.settings import SiteSettings, load_settings
from pleura.client.training.init_model import write_initial_model
from pleura.common.files import ensure_private_folder, write_atomic
from pleura.common.ids import new_nonce
from pleura.common.keys import SigningKey, create_key
from pleura.common.orders import BlobRef, EvaluateOrder, Order, RunPlan, TrainOrder
from pleura.common.statements import Subject, sign_statement
from tests.builders.catalog_rows import entry
from tests.builders.training import nodule_cohort, run_plan


@dataclass(frozen=True)
class TrainerSite:
    """An enrolled site `north` of federation `lungs`, its coordinator's key and a base model."""

    settings: SiteSettings
    config: Path
    coordinator: SigningKey
    site_key: SigningKey
    plan: RunPlan
    base: BlobRef
    base_file: Path

    def train_order(self, *, now: datetime | None = None, **changes: Any) -> TrainOrder:
        """Return an order for round 1, issued at `now`, good for an hour."""
        return TrainOrder.model_validate(self._fields(now) | changes)

    def evaluate_order(
        self, *, split: Literal["test", "external"] = "test", now: datetime | None = None,
        **changes: Any,
    ) -> EvaluateOrder:  # fmt: skip
        """Return an order to evaluate the base model, issued at `now`, good for an hour."""
        last = {"split": split, "round": self.plan.fed.rounds}
        return EvaluateOrder.model_validate(self._fields(now) | last | changes)

    def signed(self, order: Order, key: SigningKey | None = None) -> bytes:
        """Return the coordinator's envelope of an order, or another key's."""
        subject = Subject("base", order.base.tensor_digest)
        return sign_statement(order, [subject], key or self.coordinator)

    def _fields(self, now: datetime | None) -> dict[str, Any]:
        issued = now or datetime.now(UTC)
        return {
            "federation_id": self.plan.federation_id,
            "run_id": self.plan.run_id,
            "round": 1,
            "plan": self.plan,
            "plan_hash": self.plan.digest,
            "base": self.base,
            "nonce": new_nonce(),
            "issued_at": issued,
            "expires_at": issued + timedelta(hours=1),
        }


def trainer_site(
    root: Path,
    *,
    policy: dict[str, Any] | None = None,
    patients: int = 6,
    coordinator: SigningKey | None = None,
    coordinator_section: dict[str, Any] | None = None,
    **plan: Any,
) -> TrainerSite:
    """Write a site under `root`: `patients` in train and as many in test, keys, first model.

    `coordinator_section` points it at a running gateway, whose key is `coordinator`.
    """
    rules = {"tasks": ["ct_nodule_malignancy"], "min_patients": 2, "allow_non_dp": True}
    rules |= policy or {}
    config = root / "site.toml"
    section = coordinator_section or {
        "url": "https://127.0.0.1:1",
        "federation_id": "lungs",
        "ca_file": root / "ca.pem",
    }
    write_atomic(config, _toml(section, rules).encode())
    settings = load_settings(config)
    ensure_private_folder(settings.state_dir)
    ensure_private_folder(settings.store_dir)
    site_key = create_key(settings.site_key_file)
    coordinator = coordinator or SigningKey.generate()
    write_atomic(settings.coordinator_key_file, coordinator.public.to_b64().encode())
    with Catalog(settings.catalog_file) as catalog:
        cohorts = [
            nodule_cohort(settings.store_dir / "objects", patients=patients, split="train"),
            nodule_cohort(settings.store_dir / "objects", patients=patients, split="test", seed=1),
        ]
        _fill(catalog, cohorts, settings.store_dir)
    made = run_plan(**plan)
    base_file = root / "base.bin"
    base = write_initial_model(made, base_file)
    return TrainerSite(settings, config, coordinator, site_key, made, base, base_file)


def _fill(catalog: Catalog, cohorts: list[Cohort], store: Path) -> None:
    labels, entries, serial = [], [], 0
    for cohort in cohorts:
        for sample in cohort.samples:
            study = f"{cohort.split}-{sample.key}"
            for depth, (path, sha256) in enumerate(sample.files):
                serial += 1
                row = entry(
                    f"2.25.{serial}",
                    study=study,
                    series=f"{study}-series",
                    patient=f"{cohort.split}-{sample.patient}",
                    accession_key=f"key-{study}",
                    position_mm=2.0 * depth,
                )
                where = path.relative_to(store).as_posix()
                entries.append(dataclasses.replace(row, path=where, sha256=sha256))
            split: Any = cohort.split
            labels.append(LabelRow("accession", f"key-{study}", Mark(sample.label, split)))
    catalog.add(entries)
    catalog.replace_labels("ct_nodule_malignancy", labels)


def _toml(coordinator: dict[str, Any], policy: dict[str, Any]) -> str:
    lines = ['site_id = "north"', 'state_dir = "state"', "[ingest]", "reserve_gb = 0"]
    for name, table in (("coordinator", coordinator), ("policy", policy)):
        lines += [f"[{name}]", *(f"{key} = {_toml_value(value)}" for key, value in table.items())]
    return "\n".join([*lines, ""])


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return f'"{value}"' if isinstance(value, (str, Path, Decimal)) else str(value)
