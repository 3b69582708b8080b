"""Admission: every way an answer can be wrong has its own code."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleura.common.canonical import sha256_hex
from pleura.common.errors import PleuraError
from pleura.common.ids import SiteId
from pleura.common.orders import EvaluateOrder, RunPlan, TrainOrder
from pleura.common.results import DpReport, RefusalStatement, UpdateStatement
from pleura.common.statements import sign_statement
from pleura.common.tensors import PackedReader
from pleura.server.admission import Expectation, admit
from tests.builders.federation import (
    COORDINATOR,
    START,
    Federation,
    answer_fields,
    delta_tensors,
    key_of,
    make_plan,
    model_tensors,
    sign,
    store_tensors,
    update_fields,
)

SITE = SiteId("north")
OTHER_DIGEST = "e" * 64


class Desk:
    """One open training order, and updates of the site `north` for it."""

    def __init__(self, folder: Path, plan: RunPlan) -> None:
        self.federation = Federation(folder, plan)
        self.blobs, self.folder = self.federation.blobs, folder
        self.order = TrainOrder(
            federation_id=plan.federation_id,
            run_id=plan.run_id,
            round=2,
            plan=plan,
            plan_hash=plan.digest,
            base=self.federation.initial,
            nonce="1" * 32,
            issued_at=START,
            expires_at=START.replace(hour=9),
        )
        self.digest = sha256_hex(sign_statement(self.order, [], COORDINATOR))
        base = self.blobs.path(self.order.base.blob_sha256)
        self.expected = Expectation(
            SITE,
            key_of(SITE).public,
            self.order,
            self.digest,
            PackedReader(base).schema,
            has_sent=lambda _: True,
        )

    def fields(self, tensors: dict[str, np.ndarray] | None = None) -> dict[str, Any]:
        tensors = delta_tensors(SITE, 2) if tensors is None else tensors
        update = store_tensors(self.blobs, tensors, self.folder)
        return update_fields(SITE, self.order, self.digest, update)

    def update(self, **changes: Any) -> bytes:
        return sign(UpdateStatement(**{**self.fields(), **changes}), SITE)

    def code(self, envelope: bytes, **expected: Any) -> str:
        with pytest.raises(PleuraError) as caught:
            admit(envelope, replace(self.expected, **expected), self.blobs)
        return caught.value.code


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, make_plan())


def test_a_valid_update_is_admitted_with_its_norm(desk: Desk) -> None:
    envelope = desk.update()
    admitted = admit(envelope, desk.expected, desk.blobs)
    values = np.concatenate([a.ravel() for a in delta_tensors(SITE, 2).values()]).astype(float)
    assert admitted.norm == pytest.approx(float(np.linalg.norm(values)), rel=1e-12)
    assert admitted.digest == sha256_hex(envelope)


def test_an_update_that_another_site_sent_is_refused(desk: Desk) -> None:
    envelope = desk.update()
    assert desk.code(envelope, has_sent=lambda _: False) == "REJ-OWN"


def test_a_sites_refusal_is_a_valid_answer(desk: Desk) -> None:
    refusal = RefusalStatement(**answer_fields(SITE, desk.order, desk.digest), code="BUDGET-SPENT")
    admitted = admit(sign(refusal, SITE), desk.expected, desk.blobs)
    assert isinstance(admitted.statement, RefusalStatement)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"federation_id": "fed-else"}, "REJ-FEDERATION"),
        ({"run_id": "run-two"}, "REJ-RUN"),
        ({"plan_hash": OTHER_DIGEST}, "REJ-RUN"),
        ({"preproc_digest": OTHER_DIGEST}, "REJ-RUN"),
        ({"site_id": "south"}, "REJ-SITE"),
        ({"key_id": "0" * 32}, "REJ-KEY"),
        ({"round": 1}, "REJ-ROUND"),
        ({"round": 3}, "REJ-ROUND"),
        ({"attempt": 2}, "REJ-ROUND"),
        ({"base_model_digest": OTHER_DIGEST}, "REJ-BASE"),
        ({"order_digest": OTHER_DIGEST}, "REJ-ORDER"),
        ({"order_nonce": "2" * 32}, "REJ-ORDER"),
    ],
)
def test_an_update_bound_to_something_else_is_refused(
    desk: Desk, changes: dict[str, Any], code: str
) -> None:
    assert desk.code(desk.update(**changes)) == code


def test_an_update_signed_by_another_site_is_refused(desk: Desk) -> None:
    statement = UpdateStatement(**desk.fields())
    assert desk.code(sign(statement, "south")) == "REJ-KEY"


def test_an_update_of_a_site_without_an_active_key_is_refused(desk: Desk) -> None:
    assert desk.code(desk.update(), site_key=None) == "REJ-KEY"


def _flip_payload(envelope: dict[str, Any]) -> None:
    payload = bytearray(base64.b64decode(envelope["payload"]))
    payload[len(payload) // 2] ^= 1
    envelope["payload"] = base64.b64encode(bytes(payload)).decode()


def _flip_signature(envelope: dict[str, Any]) -> None:
    signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    signature[0] ^= 1
    envelope["signatures"][0]["sig"] = base64.b64encode(bytes(signature)).decode()


def _other_type(envelope: dict[str, Any]) -> None:
    envelope["payloadType"] = "text/plain"


def _second_signature(envelope: dict[str, Any]) -> None:
    envelope["signatures"].append(envelope["signatures"][0])


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (_flip_payload, "REJ-SIGNATURE"),
        (_flip_signature, "REJ-SIGNATURE"),
        (_other_type, "REJ-ENVELOPE"),
        (_second_signature, "REJ-ENVELOPE"),
    ],
)
def test_a_tampered_envelope_is_refused(
    desk: Desk, tamper: Callable[[dict[str, Any]], None], code: str
) -> None:
    envelope = json.loads(desk.update())
    tamper(envelope)
    assert desk.code(json.dumps(envelope).encode()) == code


@pytest.mark.parametrize("envelope", [b"", b"{", b"[]", b'{"payload":1}', b"\xff" * 40])
def test_bytes_that_are_no_envelope_are_refused(desk: Desk, envelope: bytes) -> None:
    assert desk.code(envelope) == "REJ-ENVELOPE"


def test_another_kind_of_statement_is_refused(desk: Desk) -> None:
    assert desk.code(sign_statement(desk.order, [], key_of(SITE))) == "REJ-STATEMENT"


def test_a_second_answer_to_the_same_order_is_refused(desk: Desk) -> None:
    assert desk.code(desk.update(), answered=OTHER_DIGEST) == "REJ-REPLAY"


def test_an_evaluation_does_not_answer_a_training_order(desk: Desk) -> None:
    site = desk.federation.sites[SITE]
    order = _evaluate_order(desk, "test")
    statement = site.evaluation(order, desk.digest)
    assert desk.code(sign(statement, SITE)) == "REJ-ORDER"


def test_an_update_does_not_answer_an_evaluation_order(desk: Desk) -> None:
    assert desk.code(desk.update(), order=_evaluate_order(desk, "test")) == "REJ-ORDER"


def test_an_evaluation_of_another_split_is_refused(desk: Desk) -> None:
    order = _evaluate_order(desk, "test")
    statement = desk.federation.sites[SITE].evaluation(order, desk.digest)
    external = statement.model_copy(update={"split": "external"})
    assert desk.code(sign(external, SITE), order=order) == "REJ-ORDER"


def _evaluate_order(desk: Desk, split: str) -> EvaluateOrder:
    fields = desk.order.model_dump(exclude={"kind"}, by_alias=True)
    return EvaluateOrder.model_validate({**fields, "split": split})


def test_an_update_without_its_blob_is_refused(desk: Desk) -> None:
    fields = desk.fields()
    desk.blobs.path(fields["update"].blob_sha256).unlink()
    assert desk.code(sign(UpdateStatement(**fields), SITE)) == "BLOB-MISSING"


def test_an_update_larger_than_the_model_is_refused(desk: Desk) -> None:
    tensors = {**delta_tensors(SITE, 2), "more": np.zeros(1000, "<f4")}
    assert desk.code(sign(UpdateStatement(**desk.fields(tensors)), SITE)) == "REJ-SIZE"


def test_an_update_that_claims_another_size_is_refused(desk: Desk) -> None:
    update = desk.fields()["update"].model_copy(update={"size_bytes": 1})
    assert desk.code(desk.update(update=update)) == "REJ-DIGEST"


def test_an_update_whose_blob_was_changed_on_disk_is_refused(desk: Desk) -> None:
    fields = desk.fields()
    path = desk.blobs.path(fields["update"].blob_sha256)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert desk.code(sign(UpdateStatement(**fields), SITE)) == "REJ-DIGEST"


def test_an_update_that_claims_another_tensor_digest_is_refused(desk: Desk) -> None:
    update = desk.fields()["update"].model_copy(update={"tensor_digest": OTHER_DIGEST})
    assert desk.code(desk.update(update=update)) == "REJ-DIGEST"


def test_a_blob_that_is_no_packed_file_is_refused(desk: Desk) -> None:
    data = b"x" * 64
    digest = sha256_hex(data)
    desk.blobs.put_stream([data], digest, 64)
    update = desk.fields()["update"].model_copy(
        update={"blob_sha256": digest, "size_bytes": len(data)}
    )
    assert desk.code(desk.update(update=update)) == "REJ-TENSORS"


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {"other" if k == "head.bias" else k: v for k, v in t.items()},
        lambda t: {k: v for k, v in t.items() if k != "head.bias"},
        lambda t: {**t, "head.weight": t["head.weight"].reshape(5, 3)},
        lambda t: {**t, "head.bias": t["head.bias"][:1], "body.scale": t["head.bias"][1:]},
    ],
    ids=["renamed", "missing", "transposed", "moved"],
)
def test_other_names_or_shapes_than_the_models_are_refused(
    desk: Desk, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
) -> None:
    envelope = sign(UpdateStatement(**desk.fields(change(delta_tensors(SITE, 2)))), SITE)
    assert desk.code(envelope) == "REJ-SCHEMA"


def test_another_tensor_type_than_the_models_is_refused(desk: Desk) -> None:
    tensors = delta_tensors(SITE, 2)
    tensors.pop("head.weight")
    tensors["head.bias"] = tensors["head.bias"].astype("<f8")
    assert desk.code(sign(UpdateStatement(**desk.fields(tensors)), SITE)) == "REJ-SCHEMA"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(desk: Desk, value: float) -> None:
    fields = desk.fields()
    path = desk.blobs.path(fields["update"].blob_sha256)
    data = path.read_bytes()[:-4] + np.float32(value).tobytes()
    digest = sha256_hex(data)
    desk.blobs.put_stream([data], digest, len(data))
    fields["update"] = fields["update"].model_copy(update={"blob_sha256": digest})
    assert desk.code(sign(UpdateStatement(**fields), SITE)) == "REJ-NONFINITE"


@pytest.mark.parametrize(("excess", "is_admitted"), [(0.0, True), (5e-6, True), (1e-3, False)])
def test_an_update_above_the_norm_bound_is_refused(
    tmp_path: Path, excess: float, is_admitted: bool
) -> None:
    desk = Desk(tmp_path, make_plan(fed={"norm_bound": "2"}))
    tensors = {name: np.zeros_like(array) for name, array in model_tensors().items()}
    tensors["head.bias"][0] = 2 + excess
    envelope = sign(UpdateStatement(**desk.fields(tensors)), SITE)
    if is_admitted:
        assert admit(envelope, desk.expected, desk.blobs).norm == pytest.approx(2 + excess)
    else:
        assert desk.code(envelope) == "REJ-NORM"


@pytest.mark.parametrize(
    "weaker",
    [
        {"mode": "none"},
        {"sigma": Decimal("0.5")},
        {"clip": Decimal("2")},
        {"q": Decimal("0.5")},
        {"steps": 100},
    ],
)
def test_weaker_privacy_than_the_plans_is_refused(tmp_path: Path, weaker: dict[str, Any]) -> None:
    desk = Desk(tmp_path, make_plan(privacy={"mode": "dp", "sigma": "1.1", "clip": "1"}))
    report: DpReport = desk.fields()["dp"]
    envelope = desk.update(dp=report.model_copy(update=weaker))
    assert desk.code(envelope) == "REJ-PRIVACY"
    assert admit(desk.update(), desk.expected, desk.blobs).norm is not None
