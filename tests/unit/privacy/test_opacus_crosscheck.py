"""A second opinion where Opacus' assumptions hold: per-unit gradients and the add-remove epsilon."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from privacy.accounting import epsilon
from privacy.unit_gradients import clipped_sum, unit_gradients


@pytest.mark.parametrize(("z", "rate", "steps"), [(1.0, 0.0256, 1000), (2.0, 0.1, 200)])
def test_epsilon_agrees_with_opacus_prv_within_one_percent(z: float, rate: float, steps: int) -> None:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(z, rate, steps)]
    assert epsilon(z, rate, steps, 1e-5).epsilon == pytest.approx(accountant.get_epsilon(delta=1e-5), rel=0.01)


def test_per_unit_gradients_agree_with_opacus_hooks() -> None:
    from opacus import GradSampleModule

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Tanh(), nn.Linear(7, 3))
        units = {"x": torch.randn(6, 5), "y": torch.randint(3, (6,))}

    def loss(parameters: Any, unit: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = torch.func.functional_call(model, dict(parameters), (unit["x"],))
        return nn.functional.cross_entropy(logits[None], unit["y"][None])

    parameters = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    found = unit_gradients(loss, parameters, units)
    total = clipped_sum(loss, parameters, [units], 0.5).sums
    hooked = GradSampleModule(model, loss_reduction="sum")
    nn.functional.cross_entropy(hooked(units["x"]), units["y"], reduction="sum").backward()
    samples = {name.removeprefix("_module."): p.grad_sample for name, p in hooked.named_parameters()}
    norms = torch.cat([sample.flatten(1) for sample in samples.values()], dim=1).norm(dim=1)
    factors = (0.5 / norms).clamp(max=1.0)
    for name, sample in samples.items():
        torch.testing.assert_close(found[name], sample, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(total[name], torch.tensordot(factors, sample, dims=1), rtol=1e-4, atol=1e-6)


def test_opacus_takes_a_coupled_loss_without_a_word_and_our_check_does_not(random_cohort: Any, toy: Any) -> None:
    """The reason for `privacy.isolation`: Opacus' own validator sees nothing wrong with these towers or this loss."""
    from opacus.validators import ModuleValidator

    from privacy.isolation import row_faults

    assert ModuleValidator.validate(toy.towers, strict=False) == []
    frozen_batch_norm = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False)
    assert ModuleValidator.validate(frozen_batch_norm, strict=False) == []
    assert row_faults(lambda batch: toy.row_losses(toy.parameters, batch), random_cohort(6, 3))
