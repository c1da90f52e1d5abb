"""One private step: the noise is there, in every tensor, on empty draws, divided by a public number, never repeated."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from more_model.errors import ConfigError
from privacy.private_step import PrivateGradient, private_parameters, private_step, put_gradient

Z, C, EXPECTED = 1.5, 0.4, 8.0
SIZE = 30_000  # entries: their standard deviation is then known to 0.4 %


def linear_loss(parameters: Any, unit: torch.Tensor) -> torch.Tensor:
    return (parameters["w"][: len(unit)] * unit).sum() + 0 * parameters["v"].sum()


def step(chunks: list[torch.Tensor], **changes: float) -> PrivateGradient:
    parameters = {"w": torch.zeros(SIZE), "v": torch.zeros(SIZE)}
    numbers = {"clip_norm": C, "noise_multiplier": Z, "expected_units": EXPECTED, **changes}
    return private_step(linear_loss, parameters, chunks, **numbers)


def test_two_runs_with_one_seed_differ_by_the_noise_they_should_have() -> None:
    units = torch.ones(3, 10)
    torch.manual_seed(0)
    first = step([units])
    torch.manual_seed(0)
    second = step([units])
    for name in ("w", "v"):
        difference = (first.gradient[name] - second.gradient[name]) * EXPECTED
        assert float(difference.std()) == pytest.approx(Z * C * math.sqrt(2), rel=0.02)


def test_an_empty_step_is_noise_of_the_same_size() -> None:
    for chunks in ([], [torch.zeros(0, 10)]):
        found = step(chunks)
        assert found.drawn.units == 0
        assert float(found.gradient["w"].std()) * EXPECTED == pytest.approx(Z * C, rel=0.02)


def test_tensors_of_equal_shape_get_unrelated_noise() -> None:
    found = step([])
    both = torch.stack([found.gradient["w"], found.gradient["v"]])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.03


def test_the_divisor_is_the_expected_and_not_the_drawn_number() -> None:
    few, many = (step([torch.full((count, 1), 1e6)], noise_multiplier=1e-9) for count in (2, 50))
    assert float(few.gradient["w"][0]) == pytest.approx(2 * C / EXPECTED, rel=1e-4)
    assert float(many.gradient["w"][0]) == pytest.approx(50 * C / EXPECTED, rel=1e-4)


def test_every_trainable_tensor_is_clipped_noised_and_handed_over(toy: Any, random_cohort: Any) -> None:
    studies = {name: rows[:, None] for name, rows in random_cohort(4, 1).items()}
    units = {**studies, "present": torch.ones(4, 1, dtype=torch.bool)}
    toy.towers.image[0].bias.requires_grad_(False)
    try:
        parameters = private_parameters(toy.towers)
        assert "image.0.bias" not in parameters and len(parameters) == 7
        found = private_step(
            toy.patient_loss, parameters, [units], clip_norm=C, noise_multiplier=Z, expected_units=EXPECTED
        )
        without_noise = {name: total / EXPECTED for name, total in found.drawn.sums.items()}
        for name, gradient in found.gradient.items():
            assert gradient.shape == parameters[name].shape
            assert not (gradient == without_noise[name]).any()
        put_gradient(toy.towers, found.gradient)
        for name, parameter in toy.towers.named_parameters():
            assert (parameter.grad is None) == (name == "image.0.bias")
            if parameter.grad is not None:
                assert torch.equal(parameter.grad, found.gradient[name])
    finally:
        toy.towers.image[0].bias.requires_grad_(True)
        toy.towers.zero_grad(set_to_none=True)


def test_a_gradient_from_elsewhere_a_missing_and_a_surplus_one_are_refused() -> None:
    layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    with pytest.raises(ConfigError, match="4 faults") as caught:
        put_gradient(layer, {"weight": torch.zeros(2, 2), "other": torch.zeros(1)})
    for words in (
        "bias: trains, but has no",
        "other: has a private",
        "weight: holds a gradient already",
        "bias: holds",
    ):
        assert words in str(caught.value)


def test_step_numbers_that_cannot_be_used_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="3 faults"):
        step([], clip_norm=0.0, noise_multiplier=float("nan"), expected_units=float("inf"))


def test_lora_and_head_train_privately_on_a_frozen_base(random_cohort: Any) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    base = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3))
    base[0].requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["0"], init_lora_weights=False), base)
    parameters = private_parameters(base)
    assert {name.split(".")[1] for name in parameters} >= {"lora_A", "lora_B"}

    def loss(found: Any, unit: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = torch.func.functional_call(base.eval(), found, (unit,))
        return outputs.square().sum()

    numbers = {"clip_norm": 0.1, "noise_multiplier": 1e-6, "expected_units": 1.0}
    found = private_step(loss, parameters, [random_cohort(5, 2)["image"]], **numbers)
    assert found.drawn.clipped == 5
    assert all(float(gradient.abs().max()) > 1e-3 for gradient in found.gradient.values())
