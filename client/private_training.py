"""Private local training: Poisson patients (or groups), clipped one by one, summed, noised, divided by a public number.

`privacy` holds the mechanism; here it meets the model, the examples of a site and the public bank. The towers run on
one unit at a time (the text tower looks at lengths, which vectorisation cannot express), in evaluation mode and in
float32: nothing is drawn by position and nothing is normalised across patients.

Start from a model that was trained on public records, such as the bank itself. `patient-decoupled` from a cold start
first draws all embeddings together: the bank, which has no gradient, does not move away, and only after tens of steps
do findings come apart. Under noise, such steps are budget thrown away.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from client.private_bank import PublicBank, embed_bank
from client.private_loss import UnitModel, decoupled, in_group
from client.private_units import Unit, rows_of_units, stacked, tensors_of, unit_tensors
from more_model.data.study import Modality, Triplet
from more_model.errors import ConfigError, RoundError
from more_model.model.more import More
from more_model.training.examples import Examples
from more_model.training.settings import TrainingSettings
from more_model.training.threads import using_threads
from more_model.training.views import whole_views
from privacy.isolation import check_units
from privacy.private_step import private_parameters, private_step, put_gradient
from privacy.sampling import poisson_draw
from privacy.settings import PrivacySettings, Schedule
from privacy.unit_gradients import ClippedSum, LossOfUnit, gradients_one_by_one

_WHERE = "private training"


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
    """What ran. Everything but ``counts`` is public; there is no loss in it, as that would be a release of its own."""

    mode: Literal["patient-decoupled", "patient-groups"]
    steps: int
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
        charge: called with the step (from 1) before it looks at any patient; whatever it raises stops the training
            there, and the steps before stand.
        on_step: called with the steps done and ``steps``; a learning rate that changes is set there.

    Raises:
        ConfigError: a mode, a model or a bank that private training cannot use.
        RoundError: a site without a pair to train on.
    """
    usable = examples.trainable()
    units = rows_of_units(usable, settings, schedule, site_key)
    if len(usable) == 0:
        raise RoundError("there is no study with words about it", remedy="check the pairing and the reports")
    assert settings.mode in ("patient-decoupled", "patient-groups")  # rows_of_units refuses the others
    _check_batch_norm(model)
    _check_bank(model, public_bank, usable)
    model.eval()
    unit_model, device = UnitModel(model), next(model.parameters()).device
    words: dict[str, Any] = {"tokenizer": tokenizer, "max_tokens": max_tokens}
    drawn: list[ClippedSum] = []
    with using_threads(training.threads), torch.autocast(device.type, enabled=False):
        loss = _loss(unit_model, public_bank, settings, training, words)
        _check_isolation(unit_model, loss, public_bank, settings, words)
        for step in range(1, steps + 1):
            charge(step)
            if step > 1 and (step - 1) % public_bank.refresh_every == 0:
                loss = _loss(unit_model, public_bank, settings, training, words)
            rows = [units[number] for number in poisson_draw(len(units), schedule.sampling_rate)]
            chunks = _one_by_one(usable, rows, training, device, words)
            drawn.append(_step(unit_model, optimiser, loss, chunks, settings, schedule, noise_multiplier))
            if on_step is not None:
                on_step(step, steps)
    return PrivateReport(
        mode=settings.mode,
        steps=steps,
        clip_norm=settings.clip_norm,
        noise_multiplier=noise_multiplier,
        sampling_rate=schedule.sampling_rate,
        expected_units=schedule.expected_units,
        bank_digest=public_bank.examples.digest(),
        counts=_counts(drawn),
    )


def _step(
    model: UnitModel,
    optimiser: torch.optim.Optimizer,
    loss: LossOfUnit,
    chunks: Iterator[Unit],
    settings: PrivacySettings,
    schedule: Schedule,
    noise_multiplier: float,
) -> ClippedSum:
    private = private_step(
        loss,
        private_parameters(model),
        chunks,
        clip_norm=settings.clip_norm,
        noise_multiplier=noise_multiplier,
        expected_units=schedule.expected_units,
        gradients=gradients_one_by_one,
    )
    # Whatever gradient lay there was neither clipped nor noised.
    optimiser.zero_grad(set_to_none=True)
    put_gradient(model, private.gradient)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return private.drawn


def _loss(
    model: UnitModel,
    bank: PublicBank,
    settings: PrivacySettings,
    training: TrainingSettings,
    words: dict[str, Any],
) -> LossOfUnit:
    if settings.mode == "patient-groups":
        return in_group(model)
    return decoupled(model, embed_bank(model.model, bank, training, **words))


def _one_by_one(
    examples: Examples,
    units: Sequence[Sequence[int]],
    training: TrainingSettings,
    device: torch.device,
    words: dict[str, Any],
) -> Iterator[Unit]:
    """Drawn units, one in memory at a time. A group without patients has no gradient, so it is left out."""
    step_key = os.urandom(32)
    for rows in units:
        if rows:
            yield stacked([unit_tensors(examples, rows, training, step_key, device=device, **words)])


def _counts(drawn: Sequence[ClippedSum]) -> SiteCounts:
    return SiteCounts(
        units=sum(step.units for step in drawn),
        clipped=sum(step.clipped for step in drawn),
        refused=sum(step.refused for step in drawn),
        empty_steps=sum(step.units == 0 for step in drawn),
    )


def _check_batch_norm(model: More) -> None:
    """Refuse BatchNorm, frozen or not: `module_faults` would let it pass in evaluation mode, which is no way out here,
    as everything before it trains."""
    faults = [
        f"{name}: BatchNorm, while it trains, normalises each record by the others of its batch and keeps running "
        "statistics of private data, which travel without clipping and noise; in evaluation mode those statistics "
        'grow stale. Instead: normalisation = "layer" in the model configuration'
        for name, part in model.named_modules()
        if isinstance(part, _BatchNorm)
    ]
    if faults:
        raise ConfigError(
            _WHERE,
            faults,
            remedy="train the federation's base with layer normalisation",
            avoid="freeze these parts and go on: frozen parameters do not stop the statistics",
        )


def _modalities_to_try(model: More) -> list[Modality]:
    """Those whose towers train; both where only the text tower does."""
    towers = ((Modality.XRAY, model.xray), (Modality.ECG, model.ecg))
    trained = [
        modality for modality, tower in towers if any(parameter.requires_grad for parameter in tower.parameters())
    ]
    return trained or [modality for modality, _ in towers]


def _check_bank(model: More, bank: PublicBank, examples: Examples) -> None:
    own = {(triplet.site, triplet.patient_id) for triplet in examples.triplets}
    faults = []
    if any((triplet.site, triplet.patient_id) in own for triplet in bank.examples.triplets):
        faults.append("the public bank holds patients of this site: their embeddings would enter without noise")
    faults += [
        f"the public bank has fewer than {_PROBED_PATIENTS} patients with a pair of words and {modality.value}, so "
        "there is nothing to contrast with and to try the model on; add some, or freeze that tower"
        for modality in _modalities_to_try(model)
        if len(_alone(bank.examples, modality)) < _PROBED_PATIENTS
    ]
    if faults:
        raise ConfigError(_WHERE, faults, remedy="use a bank of public records with pairs of every modality")


#: Two units of two patients each, which is what a group needs to have a loss at all.
_PROBED_PATIENTS = 4


def _check_isolation(
    model: UnitModel, loss: LossOfUnit, bank: PublicBank, settings: PrivacySettings, words: dict[str, Any]
) -> None:
    """Try the model and the loss on public patients: no unit may reach another, and every parameter must be reached."""
    size = 2 if settings.mode == "patient-groups" else 1
    device = next(model.parameters()).device
    probes = []
    for modality in _modalities_to_try(model.model):
        alone = _alone(bank.examples, modality)
        views = [whole_views(triplet, together=False) for triplet in alone.triplets]
        probes.append(
            [
                tensors_of(alone, rows, [views[row] for row in rows], device=device, **words)
                for rows in (range(size), range(size, 2 * size))
            ]
        )
    single = [unit for pair in probes for unit in pair]
    for pair in probes:
        check_units(model, loss, private_parameters(model), stacked(pair), single, gradients_one_by_one)


def _alone(examples: Examples, modality: Modality) -> Examples:
    """The first few public patients with a pair of ``modality``, one pair each, the other modality taken away."""
    rows: dict[tuple[str, str], int] = {}
    for row, triplet in enumerate(examples.triplets):
        if any(view.xray == (modality is Modality.XRAY) for view in whole_views(triplet, together=False)):
            rows.setdefault((triplet.site, triplet.patient_id), row)
    chosen = list(rows.values())[:_PROBED_PATIENTS]
    return Examples(
        tuple(_only(examples.triplets[row], modality) for row in chosen),
        tuple(examples.source_of[row] for row in chosen),
        examples.sources,
    )


def _only(triplet: Triplet, modality: Modality) -> Triplet:
    if modality is Modality.XRAY:
        return replace(triplet, ecg=None, ecg_report=None)
    return replace(triplet, xray=None, xray_report=None)
