"""One differentially private step: clip each unit, sum, add noise, divide by a public number.

    g = ( sum over the drawn units of clip(g_i, C)  +  N(0, z^2 C^2 I) ) / (expected units)

What the optimiser does with g afterwards (momentum, Adam, learning rate) costs no further privacy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from more_model.errors import ConfigError
from privacy.noise import with_noise
from privacy.unit_gradients import ClippedSum, GradientsOfUnits, LossOfUnit, Tensors, Unit, clipped_sum, unit_gradients


@dataclass(frozen=True)
class PrivateGradient:
    """``gradient`` is private and may be used freely; ``drawn`` holds counts that stay at the site."""

    gradient: dict[str, Tensor]
    drawn: ClippedSum


def private_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Everything of ``module`` that trains, detached, by name: what `private_step` must be given, and no less."""
    return {name: parameter.detach() for name, parameter in module.named_parameters() if parameter.requires_grad}


def private_step(
    loss_of_unit: LossOfUnit,
    parameters: Tensors,
    chunks: Iterable[Unit],
    *,
    clip_norm: float,
    noise_multiplier: float,
    expected_units: float,
    gradients: GradientsOfUnits = unit_gradients,
) -> PrivateGradient:
    """The private mean gradient of one step, float32 by parameter name.

    chunks: the drawn units, stacked (see `privacy.unit_gradients.clipped_sum`); may be none at all, and noise is then
    all there is. clip_norm: C. noise_multiplier: z. expected_units: q times the public number of units. The number
    that was really drawn is private: divided by it, the noise of a small batch would betray its size.

    Raises:
        ConfigError: with all faults at once.
    """
    named = (("clip_norm", clip_norm), ("noise_multiplier", noise_multiplier), ("expected_units", expected_units))
    faults = [
        f"{name} {value:g}: must be finite and above 0"
        for name, value in named
        if not (math.isfinite(value) and value > 0)
    ]
    if faults:
        raise ConfigError("private step", faults, remedy="take all three from the privacy settings and the schedule")
    drawn = clipped_sum(loss_of_unit, parameters, chunks, clip_norm, gradients=gradients)
    noised = with_noise(drawn.sums, noise_multiplier * clip_norm)
    return PrivateGradient({name: tensor / expected_units for name, tensor in noised.items()}, drawn)


def put_gradient(module: nn.Module, gradient: Tensors) -> None:
    """Hand a private gradient to the optimiser: the ``grad`` of every parameter that trains becomes the private one.

    Raises:
        ConfigError: a parameter that trains without a private gradient, or one that has a gradient already: whatever
            that holds was neither clipped nor noised.
    """
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    faults = [f"{name}: trains, but has no private gradient" for name in sorted(trained.keys() - gradient.keys())]
    faults += [
        f"{name}: has a private gradient, but does not train" for name in sorted(gradient.keys() - trained.keys())
    ]
    faults += [f"{name}: holds a gradient already" for name, parameter in trained.items() if parameter.grad is not None]
    if faults:
        raise ConfigError(
            "private step",
            faults,
            remedy="pass private_parameters(model) to the step, call backward() on nothing else, and zero_grad() "
            "with set_to_none=True after each optimiser step",
        )
    for name, parameter in trained.items():
        parameter.grad = gradient[name].to(parameter.dtype)
