"""What a site does and pays for in every round of a run, from public numbers alone: the same for all who compute it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from more_model.errors import ConfigError
from privacy.claims import Claim, mode_claim
from privacy.planning import noise_for
from privacy.sensitivity import MODES, Mode
from privacy.settings import PrivacySettings, Schedule, schedule


@dataclass(frozen=True)
class RoundPlan:
    """One site's part in each of ``rounds`` rounds, and in ``spare_rounds`` that can be repeated.

    schedule: None for `hospital`. optimiser_steps: private steps a round, 0 for `hospital`. accounted_steps: what the
    accountant counts in a round (optimiser steps; epochs for `patient-shuffled`; 1 for `hospital`).
    noise_multiplier: z.
    """

    mode: Mode
    schedule: Schedule | None
    optimiser_steps: int
    accounted_steps: int
    noise_multiplier: float
    delta: float
    rounds: int
    spare_rounds: int = 0

    @property
    def sampling_rate(self) -> float:
        """q of the accounted steps."""
        return self.schedule.sampling_rate if self.schedule is not None else 1.0

    @property
    def all_steps(self) -> int:
        """Accounted steps of the whole run, spare rounds included."""
        return self.accounted_steps * (self.rounds + self.spare_rounds)

    def claim(self) -> Claim:
        """The guarantee of the whole run at this site."""
        return mode_claim(self.mode, self.noise_multiplier, 1.0, self.sampling_rate, self.all_steps, self.delta)


def round_plan(settings: PrivacySettings, public_patients: int, *, rounds: int, local_epochs: int) -> RoundPlan:
    """The plan of a site that has declared ``public_patients`` patients.

    Where the settings name a target epsilon, the noise is the least that keeps it over all rounds.

    Raises:
        ConfigError: mode ``none``; see `privacy.settings.schedule` and `privacy.planning.noise_for`.
    """
    mode, delta = settings.mode, settings.delta
    if mode == "none" or delta is None:
        raise ConfigError("privacy", ['mode "none" has no plan: nothing is clipped, noised or accounted'])
    own = None if mode == "hospital" else schedule(settings, public_patients)
    steps, accounted = _steps(settings, own, local_epochs)
    noise = settings.noise_multiplier
    if noise is None:
        assert settings.target_epsilon is not None  # the settings demand one of the two
        rate = 1.0 if own is None else own.sampling_rate
        every_step = accounted * (rounds + settings.spare_rounds)
        noise = noise_for(mode, rate, every_step, settings.target_epsilon, delta)
    return RoundPlan(mode, own, steps, accounted, noise, delta, rounds, settings.spare_rounds)


def _steps(settings: PrivacySettings, own: Schedule | None, local_epochs: int) -> tuple[int, int]:
    if own is None:
        return 0, 1
    if own.steps_per_epoch is not None:
        return own.steps_per_epoch * local_epochs, local_epochs
    steps = settings.steps_per_round or math.ceil(local_epochs / own.sampling_rate)
    return steps, steps


def weakest(claims: Mapping[str, Claim]) -> Claim:
    """The claim of the site with the largest epsilon: what a consortium may say of all its patients (or hospitals)."""
    return max(claims.values(), key=lambda claim: claim.result.epsilon)


def is_patient_mode(settings: PrivacySettings) -> bool:
    """Whether sites add the noise themselves, in every step, for their patients."""
    return settings.mode != "none" and MODES[settings.mode].unit == "patient"
