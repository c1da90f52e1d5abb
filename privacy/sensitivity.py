"""What each privacy mode protects, how far one unit can move the noised sum, and how that is accounted.

Every mode releases (sum of clipped contributions) + Gaussian noise with standard deviation sigma = z C. The contract of
a mode is one line of `MODES`: who is protected (unit), against which change (adjacency), what is clipped as a whole,
and whether secrecy of the sampling is counted on. The L2 sensitivity of the sum follows:

    patient-decoupled  a patient's gradient depends on that patient and public data only: add or remove one, C
    patient-groups     the clipped gradient of a fixed group changes from one vector of norm <= C to another:
                       replace, and also remove (the group stays, with one member less), 2 C
    patient-shuffled   the same, each group in exactly one release an epoch: 2 C per epoch; the releases of an epoch
                       touch disjoint groups, so an epoch counts once (parallel composition)
    hospital           whole updates D_i, public weights w_i: sum_i w_i clip(D_i, C_i), one hospital zeroed,
                       S = max_i w_i C_i
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from more_model.errors import ConfigError
from privacy.accounting import Adjacency, Event

Mode = Literal["patient-decoupled", "patient-groups", "patient-shuffled", "hospital"]


@dataclass(frozen=True)
class ModeContract:
    """One privacy mode.

    unit: who is protected. clipped: what one clipped contribution is made of. adjacency: the relation under which it
    is accounted. sampled: whether Poisson sampling of the clipped things is part of the claim. step: what one accounted
    step is. neighbours: the change that is hidden, in words.
    """

    unit: Literal["patient", "hospital"]
    clipped: Literal["patient", "group", "update"]
    adjacency: Adjacency
    sampled: bool
    step: Literal["optimiser step", "epoch", "round"]
    neighbours: str


#: Another patient would come to another group, and so change two of them.
_EXCHANGED = "one patient's records exchanged for any others under the same identity, or left out"

MODES: Mapping[Mode, ModeContract] = MappingProxyType(
    {
        "patient-decoupled": ModeContract(
            "patient", "patient", "add-remove", True, "optimiser step", "one patient, with all studies, more or less"
        ),
        "patient-groups": ModeContract("patient", "group", "replace", True, "optimiser step", _EXCHANGED),
        "patient-shuffled": ModeContract("patient", "group", "replace", False, "epoch", _EXCHANGED),
        "hospital": ModeContract(
            "hospital", "update", "add-remove", False, "round", "the whole update of one hospital set to zero"
        ),
    }
)


def sensitivity(mode: Mode, clip_norm: float) -> float:
    """How far (L2) one unit can move the sum: C, or 2 C where a contribution is exchanged for another.

    For `hospital`, ``clip_norm`` is `hospital_bound`.
    """
    return clip_norm if MODES[mode].adjacency == "add-remove" else 2 * clip_norm


def hospital_bound(weights: Mapping[str, float], clip_norms: Mapping[str, float]) -> float:
    """S = max_i w_i C_i, by site: the norm that no site's weighted, clipped update exceeds.

    The weights must be public and fixed. Where they differ by tower, give each site its largest one.

    Raises:
        ConfigError: names every site whose weight or norm is missing or unusable.
    """
    faults = [f"site {site!r}: has no clipping norm" for site in sorted(weights.keys() - clip_norms.keys())]
    faults += [f"site {site!r}: has no public weight" for site in sorted(clip_norms.keys() - weights.keys())]
    for name, values in (("weight", weights), ("clipping norm", clip_norms)):
        faults += [
            f"site {site!r}: {name} {value:g} must be a finite number above 0"
            for site, value in sorted(values.items())
            if not (math.isfinite(value) and value > 0)
        ]
    if not weights:
        faults.append("there is no site")
    if faults:
        raise ConfigError("hospital-level privacy", faults, remedy="agree on public weights and norms before training")
    return max(weights[site] * clip_norms[site] for site in weights)


def equalised_clip_norms(weights: Mapping[str, float], clip_norm: float) -> dict[str, float]:
    """C_i = C * median(w) / w_i: every site then has the same w_i C_i, and none pays for the largest one's noise."""
    ordered = sorted(weights.values())
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {site: clip_norm * median / weight for site, weight in weights.items()}


def event_of(mode: Mode, sigma: float, clip_norm: float, sampling_rate: float, steps: int) -> Event:
    """What ``steps`` steps of a mode are to the accountant (`privacy.accounting.composed_epsilon`).

    sigma: standard deviation of the noise on the sum; clip_norm: C, or S of `hospital_bound`, in the same unit.
    sampling_rate: probability of a patient or a group in one step; 1 for `patient-shuffled` and `hospital`. steps:
    optimiser steps, epochs (`patient-shuffled`) or rounds (`hospital`).

    Raises:
        ConfigError: a sampling rate below 1 for a mode that may not count on sampling.
    """
    contract = MODES[mode]
    if not contract.sampled and sampling_rate != 1:
        raise ConfigError(
            f"privacy mode {mode}",
            [f"sampling rate {sampling_rate:g}: this mode counts on no sampling, so the rate is 1"],
            remedy=_WHY_NO_SAMPLING[contract.unit],
        )
    return Event(sigma, clip_norm, contract.adjacency, sampling_rate, steps)


_WHY_NO_SAMPLING = {
    "patient": "for amplification by sampling use patient-groups, which draws groups independently",
    "hospital": "account every round in full: the coordinator sees which hospitals take part, so nothing is secret",
}
