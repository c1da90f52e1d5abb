"""The gradient of one step on a few examples of a site: as it would be sent without privacy, and as a private step.

Without augmentation, dropout and DropKey: whoever attacks is given the inputs exactly as they entered. Those draws blur
what a real step shows, but nobody may count on them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from client.audit.site import AuditedSite, Recipe
from client.private_contrast import Contrast
from client.private_loss import UnitModel
from client.private_units import Unit, tensors_of
from more_model.model.more import More
from more_model.training.examples import Examples, make_batch
from more_model.training.loop import batch_terms
from more_model.training.threads import using_threads
from more_model.training.views import TextView, whole_views
from privacy.private_step import private_step
from privacy.unit_gradients import gradients_one_by_one

Gradients = dict[str, npt.NDArray[np.float64]]

#: Noise multiplier and clipping norm of a private step where the run itself had no privacy.
STATED_NOISE = 1.0
STATED_CLIP_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """Which examples a step sees and with which words: ``views`` belong to ``rows`` of ``examples``."""

    examples: Examples
    rows: Sequence[int]
    views: Sequence[Sequence[TextView]]


def step_on(examples: Examples, rows: Sequence[int], *, together: bool = False) -> Step:
    """A step on whole texts, joint ones or one about each study."""
    return Step(examples, rows, [whole_views(examples.triplets[row], together=together) for row in rows])


def trainable_copy(model: More, also: Sequence[str] = ()) -> More:
    """A copy in evaluation mode; ``also`` names frozen parameters that train in it besides the others."""
    copied = copy.deepcopy(model).eval()
    for name in also:
        copied.get_parameter(name).requires_grad_(True)
    return copied


def plain_gradients(model: More, step: Step, names: Sequence[str], site: AuditedSite) -> Gradients:
    """Gradients of the parameters ``names`` of the contrastive loss of the whole step."""
    batch = make_batch(step.examples, step.rows, step.views, **site.words)
    wanted = [model.get_parameter(name) for name in names]
    with using_threads(site.threads), torch.enable_grad():
        loss = batch_terms(model, batch, augment=False).total
        found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return {name: gradient.cpu().double().numpy() for name, gradient in zip(names, found, strict=True)}


def private_words(recipe: Recipe) -> str | None:
    """What to call `private_gradients` in a report; None where a site of this run could not take such a step.

    Under `hospital` no step is ever seen; and without a public bank there is nothing to contrast a patient with.
    """
    if recipe.bank is None or recipe.privacy.mode == "hospital":
        return None
    noise, _ = _noise(recipe)
    return f"one step, private (z = {noise:.3g}{'' if recipe.plan else ', stated'})"


def private_gradients(model: More, step: Step, names: Sequence[str], site: AuditedSite) -> Gradients:
    """The same parameters' share of a private step on the same examples: each patient (or group) clipped, all summed,
    noised and divided by the number of units, the bank's share carried back, as `train_privately` does."""
    recipe = site.recipe
    assert recipe.bank is not None  # private_words says whether to call this
    unit_model = UnitModel(model)
    noise, clip_norm = _noise(recipe)
    grouped = recipe.privacy.mode in {"patient-groups", "patient-shuffled"}
    size = recipe.privacy.group_size if grouped else 1
    with using_threads(site.threads):
        contrast = Contrast(unit_model, None if grouped else recipe.bank, recipe.training, **site.words)
        loss = contrast.loss()
        private = private_step(
            loss,
            contrast.parameters(loss),
            _units(step, size, next(model.parameters()).device, site.words),
            clip_norm=clip_norm,
            noise_multiplier=noise,
            expected_units=max(1.0, len(step.rows) / size),
            gradients=gradients_one_by_one,
        )
        gradient = contrast.carried_back(private.gradient)
    return {name: gradient[f"model.{name}"].cpu().double().numpy() for name in names}


def name_of(model: nn.Module, parameter: nn.Parameter) -> str:
    """The full name of one of ``model``'s parameters."""
    return next(name for name, own in model.named_parameters() if own is parameter)


def _noise(recipe: Recipe) -> tuple[float, float]:
    if recipe.plan is None:
        return STATED_NOISE, STATED_CLIP_NORM
    return recipe.plan.noise_multiplier, recipe.privacy.clip_norm


def _units(step: Step, size: int, device: torch.device, words: Mapping[str, Any]) -> Iterator[Unit]:
    for start in range(0, len(step.rows), size):
        part = slice(start, start + size)
        yield tensors_of(step.examples, [step.rows[part]], [step.views[part]], device=device, **words)
