"""Privacy as configured: the mode, the noise or the budget, and every number that must be public beforehand.

All faults of a configuration are reported at once: each check stands at the key it is about and sees the keys above it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from more_model.errors import ConfigError
from privacy.accounting import MIN_DELTA, MIN_NOISE_MULTIPLIER
from privacy.sensitivity import MODES, Mode, equalised_clip_norms

ModeOrNone = Literal["none", "patient-decoupled", "patient-groups", "patient-shuffled", "hospital"]

#: Weights are written by hand and rounded; the noise does not depend on their sum being exactly 1.
_WEIGHT_SUM_TOLERANCE = 1e-6


def _not_a_flag(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Number = Annotated[float, BeforeValidator(_not_a_flag), Field(allow_inf_nan=False)]


class PrivacySettings(BaseModel):
    """``mode = "none"`` without noise or budget, or a mode with what it needs (see `privacy.sensitivity.MODES`).

    Everything here is public and the same for the whole run; nothing may be chosen by looking at private data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    mode: ModeOrNone = "none"
    #: C: the norm to which the gradient of a patient or a group, or the update of a hospital, is clipped.
    clip_norm: Number = Field(default=1.0, gt=0)
    #: z: noise on the sum of clipped contributions, in units of C (hospital: of S = max w_i C_i).
    noise_multiplier: Number | None = Field(default=None, ge=MIN_NOISE_MULTIPLIER)
    #: Instead of z: the smallest z is then computed that keeps the whole run within this epsilon.
    target_epsilon: Number | None = Field(default=None, gt=0)
    #: Probability with which the guarantee may fail; below one over the number of units.
    delta: Number | None = Field(default=None, ge=MIN_DELTA, lt=1)
    #: q: probability with which each patient (or group) is drawn in a step.
    sampling_rate: Number | None = Field(default=None, gt=0, le=1)
    #: Instead of q: expected patients a step. Each site divides by its public number of patients. For
    #: `patient-shuffled` and `patient-groups` too this counts patients, not groups.
    expected_patients: Number | None = Field(default=None, gt=0)
    #: Optimiser steps that a site takes in a round, the same whatever its data hold; without it, as many as see each
    #: patient once on average in every local epoch.
    steps_per_round: Annotated[int, BeforeValidator(_not_a_flag)] | None = Field(default=None, ge=1)
    #: Rounds beyond the planned ones that noise, budget and claim allow for: a round that was paid for and then lost to
    #: a crash is paid for again. Without any, the site that lost one has no budget left for the last.
    spare_rounds: Annotated[int, BeforeValidator(_not_a_flag)] = Field(default=0, ge=0)
    #: Of Adam on the private mean gradient, at its height (patient modes). What Adam makes of it costs no privacy, and
    #: frees the rate from the clipping norm.
    learning_rate: Number = Field(default=1e-3, gt=0)
    #: Mean number of patients in a group. Fewer is better: the noise counts less, the more groups there are.
    group_size: Annotated[int, BeforeValidator(_not_a_flag)] = Field(default=4, ge=4, le=8)
    #: m: at most so many studies of a patient are used; the patient is one unit whatever their number.
    max_studies_per_patient: Annotated[int, BeforeValidator(_not_a_flag)] = Field(default=4, ge=1, le=64)
    #: Share of each site in the average (`hospital` only); public, fixed, sum 1.
    public_weights: dict[str, Number] = Field(default_factory=dict)
    #: `equalised` gives site i the norm C * median(w) / w_i, so that no site pays for the largest one's noise.
    hospital_clipping: Literal["same", "equalised"] = "same"

    @field_validator("target_epsilon")
    @classmethod
    def _one_way_to_set_the_noise(cls, value: float | None, info: ValidationInfo) -> float | None:
        mode, noise = info.data.get("mode"), info.data.get("noise_multiplier")
        if mode == "none" and (value is not None or noise is not None):
            raise ValueError(
                'noise or a budget without a mode: with mode = "none" nothing is clipped or noised; choose '
                f"{', '.join(get_args(Mode))}, or leave both out"
            )
        if mode in MODES and "noise_multiplier" in info.data and (value is None) == (noise is None):
            raise ValueError("give exactly one of noise_multiplier and target_epsilon; the other follows from it")
        return value

    @field_validator("delta")
    @classmethod
    def _a_failure_probability(cls, value: float | None, info: ValidationInfo) -> float | None:
        if info.data.get("mode") in MODES and value is None:
            raise ValueError("an epsilon means nothing without its delta; give one below 1 / (number of units)")
        return value

    @field_validator("sampling_rate")
    @classmethod
    def _a_rate_only_where_it_is_used(cls, value: float | None, info: ValidationInfo) -> float | None:
        if info.data.get("mode") in {"patient-shuffled", "hospital"} and value not in (None, 1.0):
            raise ValueError(
                "this mode counts on no sampling: patient-shuffled sees every group once an epoch, and which hospitals "
                "take part is no secret; leave it out, or use patient-groups"
            )
        return value

    @field_validator("expected_patients")
    @classmethod
    def _one_way_to_set_the_step(cls, value: float | None, info: ValidationInfo) -> float | None:
        mode, rate = info.data.get("mode"), info.data.get("sampling_rate")
        if mode in {"patient-decoupled", "patient-groups"} and "sampling_rate" in info.data:
            if (value is None) == (rate is None):
                raise ValueError("give exactly one of sampling_rate and expected_patients; the other follows from it")
        elif mode == "patient-shuffled" and value is None:
            raise ValueError("patient-shuffled needs the number of patients a step, in whole groups of them")
        elif mode == "hospital" and value is not None:
            raise ValueError("hospital clips whole updates, whatever the steps inside; leave it out")
        return value

    @field_validator("steps_per_round")
    @classmethod
    def _steps_of_sampling_modes(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("mode") not in {"patient-decoupled", "patient-groups", None}:
            raise ValueError("patient-shuffled takes whole epochs, hospital trains as without privacy; leave it out")
        return value

    @field_validator("public_weights")
    @classmethod
    def _weights_of_hospitals(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        mode = info.data.get("mode")
        if mode == "hospital" and not value:
            raise ValueError(
                "hospital needs the public weight of every site: a weight taken from the data (such as the number of "
                "examples of the round) reveals it, and the noise depends on the largest"
            )
        if mode not in {"hospital", None} and value:
            raise ValueError("only the mode hospital uses these; leave them out")
        unusable = sorted(site for site, weight in value.items() if weight <= 0)
        if unusable:
            raise ValueError(f"must be above 0: {', '.join(unusable)}")
        if value and abs(math.fsum(value.values()) - 1) > _WEIGHT_SUM_TOLERANCE:
            raise ValueError(f"must sum to 1, but sum to {math.fsum(value.values()):.6g}")
        return value

    @property
    def on(self) -> bool:
        """Whether differential privacy is on."""
        return self.mode != "none"

    def clip_norms(self) -> dict[str, float]:
        """C_i of every site of `public_weights`."""
        if self.hospital_clipping == "equalised":
            return equalised_clip_norms(self.public_weights, self.clip_norm)
        return dict.fromkeys(self.public_weights, self.clip_norm)


@dataclass(frozen=True)
class Schedule:
    """How the clipped things of one site take part in a step.

    units: public number of patients or groups. sampling_rate: probability of each (1: see ``steps_per_epoch``).
    expected_units: the public divisor of every step, never the number that was really drawn. steps_per_epoch: for
    `patient-shuffled` only, the number of batches that the groups are dealt into.
    """

    units: int
    sampling_rate: float
    expected_units: float
    steps_per_epoch: int | None = None


def schedule(settings: PrivacySettings, public_patients: int) -> Schedule:
    """The schedule of a site that has declared ``public_patients`` patients (a public, possibly rounded number: it is
    part of what everyone may know).

    Raises:
        ConfigError: a mode without steps over patients, a delta that is too large for so many patients, or more
            patients expected a step than there are.
    """
    if settings.mode == "none" or settings.mode == "hospital":
        raise ConfigError("privacy", [f'mode "{settings.mode}" has no schedule over patients'])
    if faults := delta_faults(settings.delta or 0.0, public_patients):
        raise ConfigError("privacy", faults, remedy=f"use a delta below {1 / public_patients:.1g}")
    expected = settings.expected_patients or (settings.sampling_rate or 0.0) * public_patients
    return schedule_of(settings.mode, public_patients, expected, settings.group_size)


def schedule_of(mode: Mode, public_patients: int, expected_patients: float, group_size: int) -> Schedule:
    """The schedule of a patient-level mode that expects ``expected_patients`` of ``public_patients`` in a step.

    Raises:
        ConfigError: more patients expected a step than there are, or none.
    """
    if not 0 < expected_patients <= public_patients:
        raise ConfigError(
            "privacy",
            [f"{expected_patients:g} patients expected a step: must lie above 0 and be at most {public_patients}"],
            remedy="change expected_patients, or give this site a sampling rate",
        )
    rate = expected_patients / public_patients
    if mode == "patient-decoupled":
        return Schedule(public_patients, rate, expected_patients)
    groups = math.ceil(public_patients / group_size)
    if mode == "patient-groups":
        return Schedule(groups, rate, rate * groups)
    steps = max(1, round(1 / rate))
    return Schedule(groups, 1.0, groups / steps, steps)


def delta_faults(delta: float, patients: int) -> tuple[str, ...]:
    """Why ``delta`` is too large for so many patients; empty where it is not."""
    if delta * patients < 1:
        return ()
    return (
        f"delta {delta:g}: must be below 1 / {patients}; at or above that, publishing the whole record of one patient "
        "drawn at random would count as private",
    )
