"""The whole model: unit projections, seeds, normalisation, and a temperature that cannot run away."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from more_model.model.config import ModelConfig
from more_model.model.heads import ChannelLayerNorm
from more_model.model.more import Embedded, More, build_more

Build = Callable[..., ModelConfig]


def embedded(model: More) -> list[Embedded]:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, 300, (4, 7), generator=generator)
    return [
        model.xray(torch.randint(0, 256, (4, 16, 16), dtype=torch.uint8, generator=generator)),
        model.ecg(torch.randn(4, 12, 50, generator=generator)),
        model.text(ids, torch.ones_like(ids)),
    ]


@pytest.mark.parametrize("normalisation", ["layer", "batch"])
def test_features_and_unit_projections(tiny_config: Build, normalisation: str) -> None:
    for answer in embedded(build_more(tiny_config(normalisation=normalisation), seed=0)):
        assert answer.features.shape == (4, 16)
        assert answer.projection.shape == (4, 8)
        torch.testing.assert_close(answer.projection.norm(dim=1), torch.ones(4))


def test_projection_is_float32_under_autocast(tiny_config: Build) -> None:
    model = build_more(tiny_config(), seed=0).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answers = embedded(model)
    for answer in answers:
        assert answer.projection.dtype == torch.float32
        torch.testing.assert_close(answer.projection.norm(dim=1), torch.ones(4))


def test_seed_decides_every_bit_and_leaves_the_global_state(tiny_config: Build) -> None:
    state = torch.random.get_rng_state()
    one, same, other = (build_more(tiny_config(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("normalisation", "kinds"), [("layer", {nn.LayerNorm, ChannelLayerNorm}), ("batch", {nn.BatchNorm1d})]
)
def test_normalisation_is_a_choice(tiny_config: Build, normalisation: str, kinds: set[type]) -> None:
    model = build_more(tiny_config(normalisation=normalisation), seed=0)
    parts = [*model.xray.head, *model.ecg.head, *model.text.head, *model.ecg.encoder.tokeniser.children()]
    norms = {type(part) for part in parts if not isinstance(part, nn.Linear | nn.ReLU | nn.Conv1d)}
    assert norms == kinds
    maps = [part for part in (*model.xray.head, *model.text.head) if isinstance(part, nn.Linear)]
    assert all(part.bias is None for part in maps)


def test_layer_normalisation_does_not_mix_the_batch(tiny_config: Build) -> None:
    model = build_more(tiny_config(dropkey={"schedule": "off"}), seed=0).train()
    signal = torch.randn(4, 12, 50)
    torch.testing.assert_close(model.ecg(signal).projection[:1], model.ecg(signal[:1]).projection)


def test_temperature(tiny_config: Build) -> None:
    model = build_more(tiny_config(temperature={"initial": 0.07, "learned": True}), seed=0)
    assert model.log_temperature.requires_grad
    assert float(model.temperature.detach()) == pytest.approx(0.07)
    with torch.no_grad():
        model.log_temperature.fill_(-50)
    assert float(model.temperature.detach()) == pytest.approx(0.005)
    assert not build_more(tiny_config(), seed=0).log_temperature.requires_grad
