"""One round of training with privacy at a site: agreed settings, paid steps, and nothing said beyond the update."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from client.private_rate import PrivateRate
from client.private_site import PrivateSite
from client.private_training import train_privately
from more_model.data.study import Modality
from more_model.errors import ConfigError, ExchangeError
from more_model.exchange import Instruction
from more_model.model.more import More
from more_model.training.examples import Examples
from more_model.training.settings import TrainingSettings
from privacy.ledger.spending import Charge
from privacy.rounds import RoundPlan
from privacy.settings import PrivacySettings

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RoundTraining:
    """What one site trains with in one round, whatever the mode. ``purpose`` stands in the ledger."""

    model: More
    examples: Examples
    settings: TrainingSettings
    instruction: Instruction
    local_epochs: int
    tokenizer: Any
    max_tokens: int
    purpose: str


def require_agreed(instruction: Instruction, site: PrivateSite | None) -> None:
    """Refuse an instruction whose privacy is not, in every setting, what this site agreed to, or that belongs to a run
    of other length: noise and charges were planned for the agreed number of rounds.

    Raises:
        ExchangeError: names the settings that differ.
    """
    if not 1 <= instruction.round <= instruction.rounds:
        raise ExchangeError(f"round {instruction.round} of {instruction.rounds}: there is no such round")
    if site is not None and instruction.rounds != site.plan.rounds:
        raise ExchangeError(
            f"the coordinator speaks of {instruction.rounds} rounds, this site agreed to {site.plan.rounds}",
            avoid="go on: the noise of this site is planned for the agreed number",
        )
    asked = privacy_of(instruction)
    agreed = site.settings if site is not None else PrivacySettings()
    if asked == agreed:
        return
    theirs, ours = asked.model_dump(), agreed.model_dump()
    differing = sorted(name for name in ours if theirs[name] != ours[name])
    raise ExchangeError(
        f"the coordinator asks for other privacy than this site agreed to: {', '.join(differing)} differ",
        remedy="let the coordinator announce the settings, and the site's people agree, before the run",
        avoid="train on with the coordinator's settings: the site's promise to its patients would be broken",
    )


def privacy_of(instruction: Instruction) -> PrivacySettings:
    """The privacy that an instruction asks for; none where it says nothing."""
    try:
        return PrivacySettings.model_validate_json(instruction.privacy or "{}")
    except ValueError as error:
        raise ExchangeError("the instruction's privacy settings cannot be read") from error


def train_patients_privately(training: RoundTraining, site: PrivateSite) -> int:
    """Train in place with the patient mode of ``site``; returns the public number of steps.

    All steps of the round are paid for before the first one looks at a patient. Where the process ends in between, they
    stay paid for.

    Raises:
        BudgetExhausted: the budget does not hold the round; nothing was charged or trained.
        ConfigError: no public bank.
    """
    plan, model = site.plan, training.model
    if site.bank is None:
        raise ConfigError("privacy", [f"{site.settings.mode} needs a bank of public records, and this site has none"])
    assert plan.schedule is not None
    optimiser_steps = plan.optimiser_steps
    with (
        frozen_towers(model, site.declaration.modalities),
        site.ledger.reserved(site.data_set, _charge(plan, plan.accounted_steps), training.purpose) as reservation,
    ):
        _LOG.info("ledger %s", reservation.anchor)
        rate = PrivateRate(
            model,
            training.settings,
            site.settings,
            index=training.instruction.round - 1,
            rounds=training.instruction.rounds,
            steps=optimiser_steps,
        )
        report = train_privately(
            model,
            rate.optimiser,
            training.examples,
            site.bank,
            site.settings,
            plan.schedule,
            steps=optimiser_steps,
            noise_multiplier=plan.noise_multiplier,
            site_key=site.key,
            training=training.settings,
            tokenizer=training.tokenizer,
            max_tokens=training.max_tokens,
            charge=lambda _step: reservation.take_step(),
            on_step=rate.after,
        )
        _LOG.info("private counts, for this site only: %s", report.counts)
    return optimiser_steps


def charge_round(training: RoundTraining, site: PrivateSite) -> None:
    """Pay for one round of `hospital` privacy, whose update leaves once, clipped. BudgetExhausted as above."""
    with site.ledger.reserved(site.data_set, _charge(site.plan, 1), training.purpose) as reservation:
        _LOG.info("ledger %s", reservation.anchor)
        reservation.take_step()


def _charge(plan: RoundPlan, steps: int) -> Charge:
    return Charge(plan.mode, plan.noise_multiplier, plan.sampling_rate, steps, plan.delta)


@contextmanager
def frozen_towers(model: More, modalities: frozenset[Modality]) -> Iterator[None]:
    """Within, the towers of modalities that the site does not declare stay as they are: noise moves what trains."""
    towers: dict[Modality, nn.Module] = {Modality.XRAY: model.xray, Modality.ECG: model.ecg}
    lacking = [tower for modality, tower in towers.items() if modality not in modalities]
    frozen = [p for tower in lacking for p in tower.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
