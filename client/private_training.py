"""Private local training: Poisson patients (or groups), clipped one by one, summed, noised, divided by a public number.

`privacy` holds the mechanism; here it meets the model, the examples of a site and the public bank. The towers run in
evaluation mode and in float32: nothing is drawn by position and nothing is normalised across patients.

Start from a model that was trained on public records, such as the bank itself. `patient-decoupled` from a cold start
first draws all embeddings together: the bank, which has no gradient, does not move away, and only after tens of steps
do findings come apart. Under noise, such steps are budget thrown away.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from client.private_bank import PublicBank
from client.private_checks import check_bank, check_batch_norm, checked_gradients, trained_modalities
from client.private_contrast import Contrast
from client.private_loss import UnitModel
from client.private_units import Unit, rows_of_units, unit_tensors, units_at_once
from more_model.errors import ConfigError, RoundError
from more_model.model.more import More
from more_model.training.examples import Examples
from more_model.training.settings import TrainingSettings
from more_model.training.threads import using_threads
from privacy.private_step import private_step, put_gradient
from privacy.sampling import epoch_of_groups, poisson_draw
from privacy.settings import PrivacySettings, Schedule
from privacy.unit_gradients import ClippedSum, Tensors

PatientMode = Literal["patient-decoupled", "patient-groups", "patient-shuffled"]


@dataclass(frozen=True, slots=True)
class SiteCounts:
    """What really happened, over all steps. Private: for the site's own screen and log, never to be sent.

    units: drawn, those of an empty group not counted. clipped: longer than C. refused: with a gradient that was not
    finite, which counts as zero. empty_steps: of noise alone.
    """

    units: int
    clipped: int
    refused: int
    empty_steps: int


@dataclass(frozen=True, slots=True)
class PrivateReport:
    """What ran. Everything but ``counts`` is public; there is no loss in it, as that would be a release of its own.

    steps: of the optimiser. epochs: how often every group took part (`patient-shuffled`), None where that is left to
    chance. What was charged is epochs where there are any, otherwise steps.
    """

    mode: PatientMode
    steps: int
    epochs: int | None
    clip_norm: float
    noise_multiplier: float
    sampling_rate: float
    expected_units: float
    bank_digest: str
    counts: SiteCounts


def train_privately(
    model: More,
    optimiser: torch.optim.Optimizer,
    examples: Examples,
    public_bank: PublicBank,
    settings: PrivacySettings,
    schedule: Schedule,
    *,
    steps: int,
    noise_multiplier: float,
    site_key: bytes,
    training: TrainingSettings,
    tokenizer: Any,
    max_tokens: int,
    charge: Callable[[int], None],
    on_step: Callable[[int, int], None] | None = None,
) -> PrivateReport:
    """Train ``model`` in place for ``steps`` steps; no two runs are alike, as draws and noise come from the operating
    system. The model is left in evaluation mode.

    A tower of a modality that this site says it lacks must be frozen beforehand: noise moves whatever trains.

    Args:
        schedule: of `privacy.settings.schedule`, with the site's *public* number of patients.
        noise_multiplier: z, as charged.
        site_key: secret of the site, the same in all rounds of a run; it decides groups and chosen studies.
        training: of these, only the shares of joint texts and sentences and the threads have a say here.
        steps: a whole number of epochs (`Schedule.steps_per_epoch`) for `patient-shuffled`.
        charge: called with the number (from 1) of what is accounted, before it looks at any patient: of each step, or
            of each epoch for `patient-shuffled`. Whatever it raises stops the training there, and what was done before
            stands.
        on_step: called with the steps done and ``steps``; a learning rate that changes is set there.

    Raises:
        ConfigError: a mode, a model, a bank or a number of steps that private training cannot use.
        RoundError: a site without a pair to train on.
    """
    usable = examples.trainable()
    units = rows_of_units(usable, settings, schedule, site_key)
    if len(usable) == 0:
        raise RoundError("there is no study with words about it", remedy="check the pairing and the reports")
    assert settings.mode != "none" and settings.mode != "hospital"  # rows_of_units refuses these
    epochs = _epochs(schedule, steps)
    check_batch_norm(model)
    check_bank(model, public_bank, usable)
    model.eval()
    unit_model, device = UnitModel(model), next(model.parameters()).device
    words: dict[str, Any] = {"tokenizer": tokenizer, "max_tokens": max_tokens}
    # Of the model alone: what this site's patients have may not decide which public records they are contrasted with.
    modalities = trained_modalities(model)
    drawn: list[ClippedSum] = []
    with using_threads(training.threads), torch.autocast(device.type, enabled=False):
        bank = public_bank if settings.mode == "patient-decoupled" else None
        contrast = Contrast(unit_model, bank, training, modalities=modalities, **words)
        gradients = checked_gradients(unit_model, contrast.loss(), public_bank, settings, words)
        for step, numbers in enumerate(_draws(schedule, len(units), steps, charge), start=1):
            if step > 1 and (step - 1) % public_bank.refresh_every == 0:
                contrast.draw()
            loss = contrast.loss()
            # A group without patients has no gradient, so it is left out.
            drawn_units = [units[number] for number in numbers if units[number]]
            private = private_step(
                loss,
                contrast.parameters(loss),
                units_in_chunks(model, usable, drawn_units, training, words),
                clip_norm=settings.clip_norm,
                noise_multiplier=noise_multiplier,
                expected_units=schedule.expected_units,
                gradients=gradients,
            )
            _move(unit_model, optimiser, contrast.carried_back(private.gradient))
            drawn.append(private.drawn)
            if on_step is not None:
                on_step(step, steps)
    return PrivateReport(
        mode=settings.mode,
        steps=steps,
        epochs=epochs,
        clip_norm=settings.clip_norm,
        noise_multiplier=noise_multiplier,
        sampling_rate=schedule.sampling_rate,
        expected_units=schedule.expected_units,
        bank_digest=public_bank.examples.digest(),
        counts=_counts(drawn),
    )


def _epochs(schedule: Schedule, steps: int) -> int | None:
    if schedule.steps_per_epoch is None:
        return None
    epochs, left = divmod(steps, schedule.steps_per_epoch)
    if left:
        raise ConfigError(
            "private training",
            [f"steps {steps}: patient-shuffled is accounted by epochs, of {schedule.steps_per_epoch} steps each"],
            remedy=f"train for a multiple of {schedule.steps_per_epoch} steps",
        )
    return epochs


def _draws(schedule: Schedule, units: int, steps: int, charge: Callable[[int], None]) -> Iterator[Sequence[int]]:
    """The numbers of those that take part in each step; charged before chance has a say."""
    if schedule.steps_per_epoch is None:
        for step in range(1, steps + 1):
            charge(step)
            yield poisson_draw(units, schedule.sampling_rate).tolist()
        return
    for epoch in range(1, steps // schedule.steps_per_epoch + 1):
        charge(epoch)
        yield from epoch_of_groups(units, schedule.steps_per_epoch)


def _move(model: UnitModel, optimiser: torch.optim.Optimizer, gradient: Tensors) -> None:
    # Whatever gradient lay there was neither clipped nor noised.
    optimiser.zero_grad(set_to_none=True)
    put_gradient(model, gradient)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def units_in_chunks(
    model: More, examples: Examples, units: Sequence[Sequence[int]], training: TrainingSettings, words: dict[str, Any]
) -> Iterator[Unit]:
    """Drawn units of these rows, stacked, a bounded number in memory at a time.

    words: ``tokenizer`` and ``max_tokens``.
    """
    step_key, device = os.urandom(32), next(model.parameters()).device
    at_once = units_at_once(model, max(map(len, units), default=0), words["max_tokens"])
    for start in range(0, len(units), at_once):
        rows = units[start : start + at_once]
        yield unit_tensors(examples, rows, training, step_key, device=device, **words)


def _counts(drawn: Sequence[ClippedSum]) -> SiteCounts:
    return SiteCounts(
        units=sum(step.units for step in drawn),
        clipped=sum(step.clipped for step in drawn),
        refused=sum(step.refused for step in drawn),
        empty_steps=sum(step.units == 0 for step in drawn),
    )
