"""What may be said about privacy, and to whom: an epsilon together with its unit, its adjacency and its warnings.

An epsilon printed without its unit is read as the patient's. So a claim about studies is made by a function of its own,
never has the unit "patient", and carries the figure that a patient with several studies would really have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from privacy.accounting import Epsilon, Event, composed_epsilon, patient_epsilon_of_sampled_studies
from privacy.sensitivity import MODES, Mode, event_of

Unit = Literal["patient", "hospital", "study"]

#: Above this the likelihood ratio is bounded by e^20, half a billion: nothing that a person would call a bound.
MEANINGLESS_EPSILON = 20.0


@dataclass(frozen=True)
class Claim:
    """A guarantee in words and numbers. ``sentence`` may be quoted; ``warnings`` belong beside it."""

    unit: Unit
    mode: str
    neighbours: str
    result: Epsilon
    sentence: str
    warnings: tuple[str, ...]


def mode_claim(mode: Mode, sigma: float, clip_norm: float, sampling_rate: float, steps: int, delta: float) -> Claim:
    """The claim of ``steps`` steps of one mode; arguments as in `privacy.sensitivity.event_of`.

    Raises:
        ConfigError: arguments that no claim can be made from.
    """
    contract = MODES[mode]
    result = composed_epsilon([event_of(mode, sigma, clip_norm, sampling_rate, steps)], delta)
    warnings = list(_size_warnings(result))
    if contract.unit == "patient":
        warnings.append(
            "Holds at each hospital. A patient known to several hospitals is exposed by all of them together: "
            "compose, or say 'per hospital visited'."
        )
    return Claim(
        contract.unit, mode, contract.neighbours, result, _sentence(contract.unit, contract.neighbours, result),
        tuple(warnings),
    )  # fmt: skip


def study_claim(
    noise_multiplier: float, sampling_rate: float, steps: int, delta: float, studies_per_patient: int
) -> Claim:
    """The claim of training that clips and draws single studies (a per-example loss); the unit is the study.

    studies_per_patient: the most studies that any patient contributes; where it is above 1, the warnings hold the
    epsilon that such a patient has.

    Raises:
        ConfigError: arguments that no claim can be made from.
    """
    result = composed_epsilon([Event(noise_multiplier, 1.0, "add-remove", sampling_rate, steps)], delta)
    neighbours = "one study more or less"
    warnings = list(_size_warnings(result))
    if studies_per_patient != 1:
        patient = patient_epsilon_of_sampled_studies(noise_multiplier, sampling_rate, steps, delta, studies_per_patient)
        warnings.append(
            f"This is not a guarantee for patients: one with {studies_per_patient} studies has epsilon "
            f"{rounded_up(patient)}. Draw and clip patients instead of studies."
        )
    return Claim("study", "per-study", neighbours, result, _sentence("study", neighbours, result), tuple(warnings))


def rounded_up(value: float, digits: int = 2) -> str:
    """An epsilon as text, never below the value: rounding to nearest could print less than what holds."""
    scale = 10**digits
    return f"{math.ceil(value * scale) / scale:.{digits}f}"


def _sentence(unit: Unit, neighbours: str, result: Epsilon) -> str:
    return (
        f"Per {unit}: epsilon {rounded_up(result.epsilon)} at delta {result.delta:g}. What is released is nearly as "
        f"likely with {neighbours}."
    )


def _size_warnings(result: Epsilon) -> tuple[str, ...]:
    if result.epsilon <= MEANINGLESS_EPSILON:
        return ()
    return (
        f"Epsilon {rounded_up(result.epsilon)} may still hinder the reconstruction of records, but promises "
        "nothing about whether someone's membership can be found out.",
    )
