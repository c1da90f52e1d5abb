"""From a privacy budget to the noise that keeps it, and what that noise costs.

The cost is stated as what an optimiser sees: the standard deviation of the noise on the mean gradient (hospital: on the
mean update) in units of the clipping norm C, which bounds the signal. It falls with the number of units in a step, so
large hospitals pay little and small ones much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from more_model.errors import ConfigError
from privacy.accounting import MIN_DELTA, MIN_NOISE_MULTIPLIER, argument_faults, composed_epsilon
from privacy.claims import Claim, mode_claim
from privacy.sensitivity import MODES, Mode, event_of
from privacy.settings import Schedule, delta_faults, schedule_of

#: Wide enough for some 0.1 s an epsilon; the noise found is at most 0.1 % more than needed.
_SEARCH_GRID = 1e-3
_LARGEST_NOISE = 1e5
_RELATIVE_STEP = 1e-3

#: Budgets shown beside the one asked for.
CUSTOMARY_EPSILONS = (1.0, 3.0, 8.0)


@dataclass(frozen=True)
class Cohort:
    """Whom a plan is for; every number is public.

    units: patients of one hospital, or hospitals. per_step: expected patients a step (unused by `hospital`).
    group_size: patients a group. largest_weight: share of the largest hospital (`hospital` only; default 1 / units).
    """

    mode: Mode
    units: int
    per_step: float
    group_size: int = 4
    largest_weight: float | None = None

    def faults(self) -> list[str]:
        """Everything that is wrong with these numbers, one sentence each."""
        hospital = self.mode == "hospital"
        faults = [] if self.units >= 1 else [f"{self.units} units: there must be at least one"]
        if not hospital and not 0 < self.per_step <= self.units:
            faults.append(f"{self.per_step:g} patients a step: must lie above 0 and be at most {self.units}")
        if MODES[self.mode].clipped == "group" and not 4 <= self.group_size <= 8:
            faults.append(f"groups of {self.group_size}: 4 to 8 patients, because the noise falls with their number")
        if hospital and not self._share_fits():
            faults.append(f"largest weight {self.largest_weight:g}: must be at most 1 and at least 1 / hospitals")
        return faults

    def _share_fits(self) -> bool:
        return self.largest_weight is None or 1 / max(self.units, 1) <= self.largest_weight + 1e-9 <= 1 + 1e-9

    @property
    def sampling_rate(self) -> float:
        """q of a patient or group in one accounted step; 1 where no sampling is counted on."""
        return 1.0 if self.mode == "hospital" else self._schedule().sampling_rate

    @property
    def mean_divisor(self) -> float:
        """By how much the noise on the sum shrinks on the mean: expected clipped contributions a step; for `hospital`
        the inverse of the largest weight."""
        if self.mode == "hospital":
            return 1 / (self.largest_weight or 1 / self.units)
        return self._schedule().expected_units

    def _schedule(self) -> Schedule:
        return schedule_of(self.mode, self.units, self.per_step, self.group_size)


@dataclass(frozen=True)
class Cost:
    """One budget and its price.

    noise_on_mean: standard deviation in every coordinate of the mean, in units of C. norm_on_mean: the noise's
    expected norm over all trained parameters, in units of C (None where their number was not given); the mean itself
    has norm at most 1 in this unit.
    """

    target_epsilon: float
    noise_multiplier: float
    epsilon: float
    noise_on_mean: float
    norm_on_mean: float | None


@dataclass(frozen=True)
class Plan:
    """What a run of ``steps`` accounted steps needs: ``costs`` ascending in epsilon, ``chosen`` the one asked for."""

    cohort: Cohort
    steps: int
    delta: float
    chosen: Cost
    costs: tuple[Cost, ...]
    claim: Claim


def customary_delta(mode: Mode, units: int) -> float:
    """units^-1.1 for patients, always below one over their number; 1e-5 for hospitals, whose number is too small for
    that to mean anything."""
    return 1e-5 if mode == "hospital" else max(MIN_DELTA, float(max(units, 2)) ** -1.1)


def make_plan(
    cohort: Cohort, steps: int, target_epsilon: float, delta: float | None = None, parameters: int | None = None
) -> Plan:
    """The plan for ``target_epsilon``, with the customary budgets beside it.

    steps: optimiser steps, epochs (`patient-shuffled`) or rounds (`hospital`), over the whole run. delta: see
    `customary_delta` for the default. parameters: how many numbers train.

    Raises:
        ConfigError: with all faults at once.
    """
    delta = customary_delta(cohort.mode, cohort.units) if delta is None else delta
    faults = [*cohort.faults(), *argument_faults(1.0, 1.0, steps, delta, "add-remove"), *_target_faults(target_epsilon)]
    if cohort.mode != "hospital":
        faults += delta_faults(delta, cohort.units)
    if parameters is not None and parameters < 1:
        faults.append(f"{parameters} parameters: there must be at least one")
    if faults:
        raise ConfigError("privacy plan", faults, remedy="correct all of them")
    targets = sorted({*CUSTOMARY_EPSILONS, target_epsilon})
    costs = tuple(_cost(cohort, steps, target, delta, parameters) for target in targets)
    chosen = costs[targets.index(target_epsilon)]
    claim = mode_claim(cohort.mode, chosen.noise_multiplier, 1.0, cohort.sampling_rate, steps, delta)
    return Plan(cohort, steps, delta, chosen, costs, claim)


@lru_cache(maxsize=512)
def noise_for(mode: Mode, sampling_rate: float, steps: int, target_epsilon: float, delta: float) -> float:
    """The smallest z, within 0.2 %, rounded up to three digits behind the point, whose epsilon over ``steps`` steps
    stays within ``target_epsilon``.

    Raises:
        ConfigError: a budget that no usable noise keeps, or arguments that no epsilon can be computed from.
    """
    if faults := _target_faults(target_epsilon):
        raise ConfigError("privacy plan", faults)

    from scipy.optimize import brentq

    def excess(log_z: float) -> float:
        return _epsilon(mode, math.exp(log_z), sampling_rate, steps, delta) - target_epsilon

    high = 0.0  # logarithms of z; epsilon falls as z grows
    while excess(high) > 0:
        high += math.log(2)
        if high > math.log(_LARGEST_NOISE):
            raise ConfigError(
                "privacy plan",
                [f"epsilon {target_epsilon:g} over {steps} steps: no noise up to {_LARGEST_NOISE:g} C keeps it"],
                remedy="take fewer steps, draw fewer units a step, or allow a larger epsilon",
            )
    low = high - math.log(2)
    while excess(low) <= 0:
        if low <= math.log(MIN_NOISE_MULTIPLIER) + math.log(2):
            return MIN_NOISE_MULTIPLIER
        low, high = low - math.log(2), low
    return _rounded_up(math.exp(brentq(excess, low, high, xtol=_RELATIVE_STEP) + _RELATIVE_STEP))


def _target_faults(target_epsilon: float) -> list[str]:
    usable = math.isfinite(target_epsilon) and target_epsilon > 0
    return [] if usable else [f"target epsilon {target_epsilon:g}: must be finite and above 0"]


def _rounded_up(noise_multiplier: float) -> float:
    return math.ceil(noise_multiplier * 1000) / 1000


def spending(cohort: Cohort, noise_multiplier: float, steps: Sequence[int], delta: float) -> list[float]:
    """Epsilon after each of ``steps`` steps at one noise multiplier: how a run uses up its budget."""
    return [_epsilon(cohort.mode, noise_multiplier, cohort.sampling_rate, count, delta) for count in steps]


def _epsilon(mode: Mode, noise_multiplier: float, sampling_rate: float, steps: int, delta: float) -> float:
    event = event_of(mode, noise_multiplier, 1.0, sampling_rate, steps)
    return composed_epsilon([event], delta, grid=_SEARCH_GRID).epsilon


def _cost(cohort: Cohort, steps: int, target: float, delta: float, parameters: int | None) -> Cost:
    noise = noise_for(cohort.mode, cohort.sampling_rate, steps, target, delta)
    kept = composed_epsilon([event_of(cohort.mode, noise, 1.0, cohort.sampling_rate, steps)], delta).epsilon
    on_mean = noise / cohort.mean_divisor
    return Cost(target, noise, kept, on_mean, None if parameters is None else on_mean * math.sqrt(parameters))
