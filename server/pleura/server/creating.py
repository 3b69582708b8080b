"""Creating and stopping runs: what is checked before the first order, and what is signed.

A plan file holds the fields of `RunPlan`. The federation comes from the settings
and a run id is made if the file names none. With differential privacy and no
`sigma` the least noise that keeps the whole run within `epsilon` is computed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from pleura.common import events
from pleura.common.blobs import BlobStore
from pleura.common.canonical import sha256_hex
from pleura.common.config import read_toml, validate
from pleura.common.errors import (
    BlobTooLarge,
    ConfigUnreadable,
    InvalidConfigValue,
    TensorsRejected,
    UnknownConfigKey,
)
from pleura.common.ids import RunId, short
from pleura.common.keys import SigningKey
from pleura.common.orders import BlobRef, RunPlan
from pleura.common.statements import Subject, sign_statement
from pleura.common.tensors import PackedReader
from pleura.server.errors import (
    PlanInvalid,
    RunExists,
    RunNotStoppable,
    RunUnknown,
    SiteNotApproved,
    SiteUnknown,
)
from pleura.server.ledger.log import StatementLog
from pleura.server.runs import Run, RunState
from pleura.server.settings import ServerSettings
from pleura.server.statements import PlanStatement, sign_closing
from pleura.server.store import RunStore
from pleura.server.transport import Registry

MODEL_DTYPE: Final = np.dtype("<f4").str
_CHUNK: Final = 1 << 20


def read_plan(path: Path, settings: ServerSettings, now: datetime) -> RunPlan:
    """Return the plan of a plan file, completed.

    Raises:
        ConfigUnreadable: missing or not TOML.
        PlanInvalid: a field is unknown or its value not allowed; it is named.
        AccountingFailed: no noise keeps the run within epsilon.
    """
    data = read_toml(path)
    data.setdefault("federation_id", settings.federation_id)
    data.setdefault("run_id", f"run-{now:%Y%m%d-%H%M}-{secrets.token_hex(2)}")
    try:
        plan = validate(data, RunPlan)
    except (UnknownConfigKey, InvalidConfigValue) as exc:
        raise PlanInvalid(str(exc)) from exc
    if plan.federation_id != settings.federation_id:
        raise PlanInvalid("federation_id is not this coordinator's")
    return plan if plan.privacy.mode == "none" or _names_sigma(data) else _with_sigma(plan)


def create_run(
    plan: RunPlan,
    initial_model: Path,
    *,
    settings: ServerSettings,
    registry: Registry,
    store: RunStore,
    log: StatementLog,
    key: SigningKey,
    now: datetime,
) -> Run:
    """Check a plan and its initial model, sign and log the plan, and store the run.

    Raises:
        RunExists: the run id is taken.
        SiteUnknown, SiteNotApproved: a site of the plan cannot take part.
        ConfigUnreadable, TensorsRejected, NotFinite, BlobTooLarge: the model file.
    """
    if plan.run_id in {run.run_id for run in store.all()}:
        raise RunExists(plan.run_id)
    require_sites(plan, registry)
    initial = check_model(initial_model, settings.max_blob_mb * 2**20)
    blobs = BlobStore(settings.blobs_dir)
    blobs.put_stream(_chunks(initial_model), initial.blob_sha256, initial.size_bytes)
    statement = PlanStatement(
        federation_id=plan.federation_id,
        run_id=plan.run_id,
        plan=plan,
        plan_hash=plan.digest,
        initial=initial,
    )
    envelope = sign_statement(statement, [Subject("model", initial.tensor_digest)], key)
    log.append("plan", envelope)
    run = store.create(plan, initial, sha256_hex(envelope), now)
    events.emit("run.created", run=run.run_id, digest=short(run.plan_hash))
    return run


def stop_run(
    run_id: RunId, *, store: RunStore, log: StatementLog, key: SigningKey, now: datetime
) -> Run:
    """Stop a run; its ServerApp sees it within a second and its last model is kept.

    Raises:
        RunUnknown: there is no such run.
        RunNotStoppable: it has ended already.
    """
    is_mine = store.set_state(run_id, RunState.STOPPED, now)
    run = store.get(run_id)
    model = store.model(run_id, run.round)
    if model is None:
        raise RunUnknown(f"{run_id} has no model of round {run.round}")
    closing = sign_closing(run, RunState.STOPPED, None, model, key)
    # a stop that was killed before the log had its statement is finished by the next one
    is_unfinished = run.state is RunState.STOPPED and log.index_of(sha256_hex(closing)) is None
    if not is_mine and not is_unfinished:
        raise RunNotStoppable(f"{run_id} is {run.state.value}")
    log.append("closing", closing)
    events.emit("run.stopped", run=run_id, round=run.round)
    return run


def require_sites(plan: RunPlan, registry: Registry) -> None:
    """Return if every site of the plan is approved.

    Raises:
        SiteUnknown: a site never enrolled.
        SiteNotApproved: a site is pending or revoked.
    """
    states = {site.site_id: site.state for site in registry.all()}
    for site_id in (*plan.training_sites, *plan.external_sites):
        if site_id not in states:
            raise SiteUnknown(site_id)
        if states[site_id] != "approved":
            raise SiteNotApproved(f"{site_id} is {states[site_id]}")


def check_model(path: Path, max_bytes: int) -> BlobRef:
    """Return the digests of a packed model whose tensors are all single precision.

    Raises:
        ConfigUnreadable: there is no such file.
        TensorsRejected, NotFinite: not a packed model, or values that are not finite.
        BlobTooLarge: larger than the coordinator's `max_blob_mb`.
    """
    if not path.is_file():
        raise ConfigUnreadable("the initial model is not a file")
    if path.stat().st_size > max_bytes:
        raise BlobTooLarge("initial model")
    reader = PackedReader(path)
    if any(spec.dtype != MODEL_DTYPE for spec in reader.schema.specs):
        raise TensorsRejected("a model's tensors are single precision")
    return reader.verify()


def _names_sigma(data: dict[str, Any]) -> bool:
    return "sigma" in data.get("privacy", {})


def _with_sigma(plan: RunPlan) -> RunPlan:
    # imported here: the accountant takes seconds to load and few commands need it
    from pleura.common.privacy.accounting import solve_sigma

    privacy = plan.privacy
    sigma = solve_sigma(
        privacy.epsilon,
        privacy.delta,
        plan.train.batch_patients,
        privacy.n_ref,
        plan.total_steps,
    )
    return plan.model_copy(update={"privacy": privacy.model_copy(update={"sigma": sigma})})


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
