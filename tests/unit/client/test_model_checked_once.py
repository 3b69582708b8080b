"""The model rules are checked once for each kind of model, and a refusal is never remembered."""

from __future__ import annotations

from typing import cast

import pytest
from torch import nn

from pleura.client.errors import ModelRefused
from pleura.client.training import federated
from tests.builders.federation import make_plan

SHAPE = (1, 64, 64)
MODEL = cast(nn.Module, None)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    calls: list[object] = []
    monkeypatch.setattr(federated, "_checked", set())
    monkeypatch.setattr(federated, "check_model", lambda model, shape: calls.append(shape))
    return calls


def test_same_specs_are_checked_once(checked: list[object]) -> None:
    for run in ("run-one", "run-two"):
        federated._check_once(make_plan(run_id=run), MODEL, SHAPE)
    assert len(checked) == 1


def test_another_picture_size_is_checked_again(checked: list[object]) -> None:
    federated._check_once(make_plan(), MODEL, SHAPE)
    federated._check_once(make_plan(preproc={"size_px": 32}), MODEL, SHAPE)
    assert len(checked) == 2


def test_refused_model_is_refused_each_time(
    checked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: nn.Module, shape: object) -> None:
        raise ModelRefused("a rule")

    monkeypatch.setattr(federated, "check_model", refuse)
    for _ in range(2):
        with pytest.raises(ModelRefused):
            federated._check_once(make_plan(), MODEL, SHAPE)
