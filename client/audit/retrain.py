"""Training a site once more, as it trained in its run, but alone and on other patients: what attacks compare with.

The trainings of an audit are thrown away and charged to no ledger. So what an audit prints is, itself, computed from
private data without noise: it is for the site, and no part of what the site's guarantee covers.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from client.audit.site import Recipe
from client.private_rate import PrivateRate
from client.private_round import frozen_towers
from client.private_site import declare
from client.private_training import train_privately
from more_model.errors import ConfigError
from more_model.model.inventory import export_tensors, import_tensors
from more_model.model.lora import only_training
from more_model.model.more import More
from more_model.training.examples import Examples
from more_model.training.loop import Segment, build_optimiser, train_segment
from more_model.training.seeds import derived_seed
from privacy.hospital import private_sum
from privacy.settings import Schedule

#: Called with the rounds done and all of them.
OnRound = Callable[[int, int], None]


def retrained(
    start: More,
    examples: Examples,
    recipe: Recipe,
    *,
    site: str,
    words: Mapping[str, Any],
    seed: int,
    rounds: int | None = None,
    expected_extra: float = 0.0,
    on_round: OnRound | None = None,
) -> More:
    """A copy of ``start``, trained on ``examples`` as the site trained in its run: in as many rounds, each with a new
    optimiser, with the run's noise where it had any. What the coordinator did between rounds is left out: there is
    nobody to average with.

    rounds: only so many, from the first on (the learning rate is then that of the run's first rounds). expected_extra:
    patients that are expected beside those of the run (canaries); the public divisor grows with them.

    Raises:
        ConfigError: a patient mode and no public bank.
        RoundError: nothing to train on.
    """
    model, count = copy.deepcopy(start), rounds or recipe.rounds
    key = os.urandom(32)
    for index in range(count):
        with only_training(model, {tensor.name for tensor in recipe.spec.upward(index + 1).tensors}):
            if recipe.plan is not None and recipe.plan.schedule is not None:
                _privately(model, examples, recipe, index, key, words, expected_extra)
            else:
                _openly(model, examples, recipe, index, derived_seed(seed, "round", index), words, site)
        if on_round is not None:
            on_round(index + 1, count)
    return model.eval()


def _openly(
    model: More, examples: Examples, recipe: Recipe, index: int, seed: int, words: Mapping[str, Any], site: str
) -> None:
    """One round without noise inside; under `hospital`, its update is clipped and noised as a whole.

    This site alone moves then: whoever knows the updates of the others can subtract them, so leaving them out takes
    nothing from the attacker.
    """
    before, training = export_tensors(model), recipe.training
    segment = Segment(index, recipe.rounds, recipe.local_epochs)
    train_segment(model, build_optimiser(model, training), examples, training, segment, seed=seed, **words)
    if recipe.plan is None:
        return
    after, spec, privacy = export_tensors(model), recipe.spec.upward(index + 1), recipe.privacy
    update = {tensor.name: np.subtract(after[tensor.name], before[tensor.name]) for tensor in spec.tensors}
    moved = private_sum(
        {site: update}, privacy.public_weights, privacy.clip_norms(), recipe.plan.noise_multiplier, spec
    )
    import_tensors(model, {name: tensor + moved[name] if name in moved else tensor for name, tensor in before.items()})


def _privately(
    model: More,
    examples: Examples,
    recipe: Recipe,
    index: int,
    key: bytes,
    words: Mapping[str, Any],
    expected_extra: float,
) -> None:
    plan, privacy = recipe.plan, recipe.privacy
    assert plan is not None and plan.schedule is not None
    if recipe.bank is None:
        raise ConfigError(
            "audit",
            [f"{privacy.mode} needs the bank of public records of the run, and the run directory has none"],
            remedy="copy the run directory whole, with workspace/public",
        )
    steps = plan.optimiser_steps
    rate = PrivateRate(model, recipe.training, privacy, index=index, rounds=recipe.rounds, steps=steps)
    with frozen_towers(model, declare(examples).modalities):
        train_privately(
            model,
            rate.optimiser,
            examples,
            recipe.bank,
            privacy,
            _with_extra(plan.schedule, expected_extra, recipe),
            steps=steps,
            noise_multiplier=plan.noise_multiplier,
            site_key=key,
            training=recipe.training,
            charge=lambda _: None,
            on_step=rate.after,
            **words,
        )


def _with_extra(schedule: Schedule, patients: float, recipe: Recipe) -> Schedule:
    """The schedule with room for more patients: the same sampling rate, and as many units and as large a divisor as the
    site would have declared with them. Rate, noise and number of steps, and with them the claim, stay as they are."""
    units = patients / recipe.privacy.group_size if recipe.privacy.mode != "patient-decoupled" else patients
    share = 1 + units / schedule.units
    return replace(schedule, units=round(schedule.units * share), expected_units=schedule.expected_units * share)
