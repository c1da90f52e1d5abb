"""Gradients of single studies by Opacus' hooks, in the form in which `privacy.private_step` takes them, and the checks
that they can be had."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from more_model.errors import ConfigError
from more_model.evaluation.classifier import masked_bce
from privacy.isolation import batch_norm_faults, check_rows
from privacy.unit_gradients import GradientsOfUnits, LossOfUnit, Tensors, Unit, count_units

_WHERE = "private fine-tuning"


def losses_of(module: nn.Module, units: Unit) -> Tensor:
    """[n]: the loss of each study. ``units`` holds ``study`` [n, ...], as the module takes them, and ``target``
    [n, tasks] of 0, 1 and NaN."""
    return masked_bce(module(units["study"]), units["target"])


def loss_of_study(module: nn.Module) -> LossOfUnit:
    """The same loss as a function of the parameters and one study: what the gradients are gradients of."""

    def loss(parameters: Tensors, unit: Unit) -> Tensor:
        logits = torch.func.functional_call(module, dict(parameters), (unit["study"][None],))
        return masked_bce(logits, unit["target"][None])[0]

    return loss


@contextmanager
def opacus_gradients(module: nn.Module) -> Iterator[GradientsOfUnits]:
    """Hooks on ``module`` while the context is open; the function takes the gradients of `losses_of`, whatever loss it
    is given, at the module's own parameters.

    The module is set to evaluation mode, so that nothing is drawn at random. Opacus looks only at parts in training
    mode: those that hold what trains are set so, and `check_rows` makes sure that none of them minds.
    """
    # Opacus takes a second to import, and only this needs it.
    from opacus import GradSampleModule  # type: ignore[import-untyped]

    module.eval()
    for part in module.modules():
        if any(parameter.requires_grad for parameter in part.parameters(recurse=False)):
            part.training = True
    hooked = GradSampleModule(module, loss_reduction="sum")

    def gradients(_loss: LossOfUnit, parameters: Tensors, units: Unit) -> dict[str, Tensor]:
        hooked.zero_grad(set_to_none=True)
        with warnings.catch_warnings():
            # Pictures need no gradient, which torch remarks on in every step of the first part that trains.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            losses_of(hooked, units).sum().backward()  # type: ignore[no-untyped-call]
        found: dict[str, Any] = {
            name: getattr(parameter, "grad_sample", None)
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        # The plain gradient that backward() left as well is neither clipped nor noised.
        hooked.zero_grad(set_to_none=True)
        _require_every_gradient(found, parameters, count_units(units))
        return found

    try:
        yield gradients
    finally:
        hooked.to_standard_module()
        module.eval()


def check_classifier(module: nn.Module, made_up: Tensor, tasks: int) -> None:
    """Try a classifier out on studies that are nobody's, before any patient is looked at.

    Raises:
        ConfigError: batch normalisation, a loss that a second study enters, or a part that trains without a gradient.
    """
    _refuse_batch_norm(module)
    target = (torch.arange(len(made_up) * tasks, device=made_up.device).reshape(-1, tasks) % 2).float()
    units = {"study": made_up, "target": target}
    with opacus_gradients(module) as gradients:
        check_rows(module, lambda batch: losses_of(module, batch), units)
        parameters = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
        gradients(loss_of_study(module), parameters, units)


def _refuse_batch_norm(module: nn.Module) -> None:
    """Opacus lets a frozen one pass in either mode."""
    faults = batch_norm_faults(module)
    if faults:
        raise ConfigError(
            _WHERE,
            faults,
            remedy="--mode linear-probe --dp works with this model; or take a model with layer normalisation",
            avoid="go on and print an epsilon: it would be false",
        )


def _require_every_gradient(found: dict[str, Any], parameters: Tensors, units: int) -> None:
    faults = [
        f"{name}: trains, but Opacus has no gradient of single studies for it (LoRA on nn.MultiheadAttention, or a "
        "part that the forward pass does not call, is a known case), so it would be moved by noise alone or without "
        "any. Instead: freeze it, or adapt a layer that the forward pass calls"
        for name in parameters
        if not isinstance(found.get(name), Tensor) or found[name].shape != (units, *parameters[name].shape)
    ]
    if faults:
        raise ConfigError(_WHERE, faults, remedy="change what trains as each line says")
