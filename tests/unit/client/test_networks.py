"""Built-in networks: shapes, counts, names and initial weights are fixed."""

from __future__ import annotations

import pytest
import torch

from pleura.client.errors import ModelRefused, TaskUnknown
from pleura.client.nets.registry import NETWORKS, build_network, input_shape, network
from pleura.client.nets.rules import check_model
from pleura.client.privacy.engine import PatientImages, clipped_sum, trainable
from pleura.client.tasks.protocol import masked_bce
from pleura.common.orders import ModelSpec, PreprocSpec
from tests.builders.training import run_plan

torch.set_num_threads(1)

CASES = [
    ("tiny_cnn_gn", 2, 1, 97_393),
    ("tiny_cnn_gn", 2, 8, 98_401),
    ("tiny_cnn_gn", 3, 1, 291_217),
    ("resnet18_gn", 2, 1, 11_170_753),
    ("resnet18_gn", 3, 1, 33_160_513),
    ("densenet121_gn", 2, 1, 6_948_609),
    ("densenet121_gn", 3, 1, 11_243_649),
]


def spec_of(arch: str, dims: int, channels: int) -> ModelSpec:
    return ModelSpec.model_validate({"arch": arch, "spatial_dims": dims, "in_channels": channels})


@pytest.mark.parametrize(("arch", "dims", "channels", "count"), CASES)
def test_network_keeps_every_rule_and_its_parameter_count(
    arch: str, dims: int, channels: int, count: int
) -> None:
    model = build_network(spec_of(arch, dims, channels), 1)
    shape = (channels, 32, 32) if dims == 2 else (1, 8, 32, 32)
    check_model(model, shape)
    assert sum(p.numel() for p in model.parameters()) == count
    with torch.inference_mode():
        logits = model(torch.rand(3, *shape))
    assert logits.shape == (3,)
    assert bool(torch.isfinite(logits).all())
    assert not list(model.buffers())


@pytest.mark.parametrize("arch", sorted(NETWORKS))
def test_initial_weights_follow_from_the_seed_alone(arch: str) -> None:
    spec = spec_of(arch, 2, 1)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = build_network(spec, 5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    second = build_network(spec, 5).state_dict()
    other = build_network(spec, 6).state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_tensor_names_of_the_small_network_are_fixed() -> None:
    names = set(build_network(spec_of("tiny_cnn_gn", 2, 1), 0).state_dict())
    expected = {"head.weight", "head.bias"}
    expected |= {f"blocks.{block}.0.weight" for block in range(4)}
    for block in range(3):
        expected |= {f"blocks.{block}.2.0.weight", f"blocks.{block}.2.0.bias"}
    assert names == expected


@pytest.mark.parametrize("arch", sorted(NETWORKS))
def test_every_network_marked_private_gives_patient_gradients(arch: str) -> None:
    assert network(arch).supports_dp
    model = build_network(spec_of(arch, 2, 1), 3)
    generator = torch.Generator().manual_seed(0)
    patients = [
        PatientImages(
            torch.rand(1, 1, 32, 32, generator=generator),
            torch.tensor([float(label)]),
            torch.ones(1),
        )
        for label in (0, 1)
    ]
    totals = [torch.zeros(p.shape, dtype=torch.float64) for p in trainable(model)]
    assert clipped_sum(model, patients, masked_bce, 1e6, totals) == 0
    images = torch.cat([p.images for p in patients])
    labels = torch.cat([p.labels for p in patients])
    masked_bce(model(images), labels, torch.ones(2)).sum().backward()
    for total, parameter in zip(totals, trainable(model), strict=True):
        assert parameter.grad is not None
        scale = max(float(total.norm()), 1e-6)
        assert float((parameter.grad - total).norm()) / scale < 2e-3


def test_unknown_network_is_refused() -> None:
    with pytest.raises(TaskUnknown):
        network("os.system")


@pytest.mark.parametrize(
    ("model", "preproc"),
    [
        ({"in_channels": 3}, {"slices": 8}),
        ({"in_channels": 2, "spatial_dims": 3}, {"slices": 8}),
        ({"in_channels": 1, "spatial_dims": 3}, {"slices": 1, "modality": "CXR"}),
    ],
)
def test_contradicting_specs_are_refused(
    model: dict[str, object], preproc: dict[str, object]
) -> None:
    with pytest.raises(ModelRefused):
        input_shape(
            ModelSpec.model_validate({"arch": "tiny_cnn_gn", **model}),
            PreprocSpec.model_validate({"modality": "CT", "size_px": 48, **preproc}),
        )


def test_thin_stack_passes_every_3d_network() -> None:
    plan = run_plan()
    shape = input_shape(spec_of("tiny_cnn_gn", 3, 1), plan.preproc)
    assert shape == (1, 2, 16, 16)
    for arch in NETWORKS:
        model = build_network(spec_of(arch, 3, 1), 0)
        with torch.inference_mode():
            assert model(torch.rand(1, *shape)).shape == (1,)
