"""What training asks of a data set, what it may ask, and the epsilon that all of it composes to.

The ledger keeps mechanisms, not epsilons: epsilons of several runs cannot be added, the mechanisms can be composed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from more_model.errors import ConfigError
from privacy.accounting import MIN_DELTA, Adjacency, Event, argument_faults, composed_epsilon
from privacy.sensitivity import MODES, Mode, event_of

ChargedMode = Mode | Literal["none"]
Unit = Literal["patient", "hospital"]


@dataclass(frozen=True, slots=True)
class Charge:
    """``steps`` steps of one privacy mode, with noise z = sigma / C and Poisson rate q, as in `privacy.sensitivity`.

    ``steps`` counts what the mode counts: optimiser steps, epochs (`patient-shuffled`) or rounds (`hospital`).
    ``delta`` is the one at which the run states its claim; the ledger composes at the budget's. Mode ``none`` is
    training without noise: it makes the data set's epsilon infinite, which is what it is.
    """

    mode: ChargedMode
    noise_multiplier: float
    sampling_rate: float
    steps: int
    delta: float

    @property
    def adjacency(self) -> Adjacency | None:
        """The relation under which the mode is accounted; None without noise."""
        return None if self.mode == "none" else MODES[self.mode].adjacency


@dataclass(frozen=True, slots=True)
class Budget:
    """No patient's epsilon may cross ``epsilon`` at ``delta``; infinity only records."""

    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True)
class Spent:
    """The epsilon at ``delta`` of everything charged. ``unit`` says of whom: the hospital only where every charge was
    `hospital`. Infinite after training without noise. ``assumptions`` belong to the number."""

    epsilon: float
    delta: float
    unit: Unit
    accountant: str
    assumptions: tuple[str, ...]


def check_charge(charge: Charge) -> None:
    """Raises `ConfigError` with all faults of a charge."""
    if charge.mode not in (*MODES, "none"):
        raise ConfigError("ledger charge", [f"mode '{charge.mode}': must be one of {', '.join((*MODES, 'none'))}"])
    if charge.mode == "none":
        if charge.steps < 1:
            raise ConfigError("ledger charge", [f"steps {charge.steps}: must be at least 1"])
        return
    contract = MODES[charge.mode]
    faults = list(
        argument_faults(charge.noise_multiplier, charge.sampling_rate, charge.steps, charge.delta, contract.adjacency)
    )
    if not contract.sampled and charge.sampling_rate != 1:
        faults.append(f"sampling rate {charge.sampling_rate:g}: {charge.mode} counts on no sampling, so the rate is 1")
    if faults:
        raise ConfigError("ledger charge", faults, remedy="charge the noise, sampling and steps that will really run")


def check_budget(budget: Budget) -> None:
    """Raises `ConfigError` with all faults of a budget."""
    faults = []
    if not budget.epsilon > 0:
        faults.append(f"epsilon {budget.epsilon:g}: must be above 0")
    if not MIN_DELTA <= budget.delta < 1:
        faults.append(f"delta {budget.delta:g}: must be at least {MIN_DELTA:g} and below 1")
    if faults:
        raise ConfigError("ledger budget", faults, remedy="choose delta below one over the number of patients")


def composed(charges: Iterable[Charge], delta: float) -> Spent:
    """What all ``charges`` together cost, at one delta (`privacy.accounting.composed_epsilon`).

    Where patient modes and `hospital` meet, the claim is the patient's: a patient's exchange turns one clipped update
    of the hospital into another, so those rounds are composed as `replace`.
    """
    return _composed(_merged(charges), delta)


def _merged(charges: Iterable[Charge]) -> tuple[Charge, ...]:
    """One charge a kind, in a fixed order; the delta that a run claims at plays no part."""
    steps: Counter[tuple[ChargedMode, float, float]] = Counter()
    for charge in charges:
        steps[charge.mode, charge.noise_multiplier, charge.sampling_rate] += charge.steps
    return tuple(Charge(*kind, count, 0.0) for kind, count in sorted(steps.items()) if count)


# A composition takes seconds, and data sets that overlap, or a refusal, ask for the same one again.
@lru_cache(maxsize=64)
def _composed(ran: tuple[Charge, ...], delta: float) -> Spent:
    units = {MODES[charge.mode].unit for charge in ran if charge.mode != "none"}
    unit: Unit = "hospital" if units == {"hospital"} else "patient"
    if any(charge.mode == "none" for charge in ran):
        return Spent(math.inf, delta, "patient", "none", ("Some training ran without noise: nothing is guaranteed.",))
    if not ran:
        return Spent(0.0, delta, "patient", "none", ("Nothing was released.",))
    result = composed_epsilon([_event(charge, unit) for charge in ran], delta)
    return Spent(result.epsilon, delta, unit, result.accountant, result.assumptions)


def steps_that_fit(before: Sequence[Charge], asked: Charge, budget: Budget) -> int:
    """How many of the asked steps can be charged on top of ``before`` without crossing the budget, by bisection."""
    low, high = 0, asked.steps
    while low < high:
        middle = (low + high + 1) // 2
        if composed([*before, replace(asked, steps=middle)], budget.delta).epsilon <= budget.epsilon:
            low = middle
        else:
            high = middle - 1
    return low


def charge_content(charge: Charge) -> dict[str, Any]:
    """The charge as an entry holds it, with the relation spelled out for whoever audits it."""
    return {**asdict(charge), "adjacency": charge.adjacency}


def charge_of(content: Any) -> Charge:
    """The charge of an entry.

    Raises:
        ValueError: a mode that this release does not know, or accounts under another relation.
    """
    charge = Charge(
        content["mode"], float(content["noise_multiplier"]), float(content["sampling_rate"]), int(content["steps"]),
        float(content["delta"]),
    )  # fmt: skip
    if charge.mode not in (*get_args(Mode), "none") or content["adjacency"] != charge.adjacency:
        raise ValueError("unknown mode or relation")
    return charge


def _event(charge: Charge, unit: Unit) -> Event:
    assert charge.mode != "none"
    event = event_of(charge.mode, charge.noise_multiplier, 1.0, charge.sampling_rate, charge.steps)
    exchanged = MODES[charge.mode].unit == "hospital" and unit == "patient"
    return replace(event, adjacency="replace") if exchanged else event
