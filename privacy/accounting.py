"""How much one unit (a patient, or a hospital) is exposed by a whole training run: epsilon at a given delta.

One function, one convention, so that the library's own conventions cannot be mixed up: the noise multiplier is always
z = sigma / C, where C is the norm to which each unit's contribution is clipped and sigma the standard deviation of the
Gaussian noise added to the sum of contributions. The two adjacencies differ in the sensitivity of that sum:

    add-remove   a unit is added, removed, or its contribution set to zero: the sum moves by at most C
    replace      a unit is exchanged for another one:                       the sum moves by at most 2 C

Under `replace` the doubling happens inside, so z stays sigma / C. (dp-accounting's own PLD accountant does the same,
its RDP accountant does not; that is why nothing else in this project calls that library.)

Accountants used, both from dp-accounting:
- without sampling (rate 1): the exact curve of the Gaussian mechanism, Balle and Wang 2018, arXiv 1805.06530,
  theorem 8; T releases at multiplier z equal one release at z / sqrt(T);
- with Poisson sampling: privacy loss distributions with connect-the-dots discretisation, Doroshenko et al. 2022,
  arXiv 2207.04380. Always an upper bound of the true epsilon.

A Gaussian central-limit ("gdp") accountant reports too little and is not offered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from more_model.errors import ConfigError

Adjacency = Literal["add-remove", "replace"]

# Below these the numbers of the accountant mean nothing: its own rounding (1e-15 of probability mass) would show.
MIN_DELTA = 1e-10
MIN_NOISE_MULTIPLIER = 0.01

_FINEST_INTERVAL = 1e-4
_STEP_GRID_POINTS = 200_000
_COMPOSED_GRID_POINTS = 5_000_000


@dataclass(frozen=True)
class Epsilon:
    """A privacy loss with everything that must be said beside it.

    ``epsilon`` holds together with ``delta`` only, and only as long as every sentence of ``assumptions`` is true.
    """

    epsilon: float
    delta: float
    accountant: str
    assumptions: tuple[str, ...]


def epsilon(
    noise_multiplier: float, sampling_rate: float, steps: int, delta: float, adjacency: Adjacency = "add-remove"
) -> Epsilon:
    """The epsilon of `steps` releases of a Gaussian-noised sum of clipped contributions.

    noise_multiplier: z = sigma / C, for both adjacencies. sampling_rate: probability with which each unit takes part in
    a step, drawn independently (Poisson); 1 means that everyone always takes part. steps: noisy releases over the whole
    life of the data, all rounds and all local steps together. delta: probability with which the guarantee may fail.

    Raises `ConfigError` with all faults at once.
    """
    faults = argument_faults(noise_multiplier, sampling_rate, steps, delta, adjacency)
    if faults:
        raise ConfigError(
            "privacy accounting",
            faults,
            remedy="give the noise, the sampling and the number of steps that training really used",
            avoid="round the noise multiplier up or the number of steps down: the epsilon would then be false",
        )
    sensitivity = 1.0 if adjacency == "add-remove" else 2.0
    if sampling_rate == 1:
        value, accountant = _gaussian_epsilon(noise_multiplier / sensitivity, steps, delta), _EXACT
    else:
        value, accountant = _sampled_epsilon(noise_multiplier, sampling_rate, steps, delta, adjacency), _PLD
    return Epsilon(value, delta, accountant, _assumptions(sampling_rate, steps, delta, adjacency))


def argument_faults(
    noise_multiplier: float, sampling_rate: float, steps: int, delta: float, adjacency: str
) -> tuple[str, ...]:
    """Everything that is wrong with these arguments, one sentence each; empty when they can be used."""
    faults = []
    if not (math.isfinite(noise_multiplier) and noise_multiplier >= MIN_NOISE_MULTIPLIER):
        faults.append(
            f"noise multiplier {noise_multiplier:g}: must be a finite number of at least {MIN_NOISE_MULTIPLIER:g}; "
            "with less noise there is no differential privacy to report"
        )
    if not 0 < sampling_rate <= 1:
        faults.append(f"sampling rate {sampling_rate:g}: must lie above 0 and be at most 1")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        faults.append(f"steps {steps}: must be a whole number of at least 1")
    if not MIN_DELTA <= delta < 1:
        faults.append(f"delta {delta:g}: must be at least {MIN_DELTA:g} and below 1")
    if adjacency not in get_args(Adjacency):
        faults.append(f"adjacency '{adjacency}': must be one of {', '.join(get_args(Adjacency))}")
    return tuple(faults)


_EXACT = "exact Gaussian mechanism (analytic)"
_PLD = "privacy loss distributions (PLD), Poisson-sampled Gaussian mechanism"


def _gaussian_epsilon(noise_over_sensitivity: float, steps: int, delta: float) -> float:
    # Imported here: it takes seconds, and a --help must not wait for it.
    import dp_accounting

    return float(dp_accounting.get_epsilon_gaussian(noise_over_sensitivity / math.sqrt(steps), delta))


def _sampled_epsilon(
    noise_multiplier: float, sampling_rate: float, steps: int, delta: float, adjacency: Adjacency
) -> float:
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    relations = {
        "add-remove": dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
        "replace": dp_accounting.NeighboringRelation.REPLACE_ONE,
    }
    accountant = PLDAccountant(
        relations[adjacency],
        value_discretization_interval=_interval(noise_multiplier, sampling_rate, steps, adjacency),
    )
    step = dp_accounting.PoissonSampledDpEvent(sampling_rate, dp_accounting.GaussianDpEvent(noise_multiplier))
    accountant.compose(dp_accounting.SelfComposedDpEvent(step, steps))
    return float(accountant.get_epsilon(delta))


def _interval(noise_multiplier: float, sampling_rate: float, steps: int, adjacency: Adjacency) -> float:
    """Width of the privacy-loss grid: as fine as bounded memory allows. A coarser grid only makes the bound larger.

    One step's loss reaches about s^2/2 + 10 s (s = sensitivity / noise; the tail beyond is under 1e-22); the mean loss
    of all steps is at most steps * rate * s^2/2, by joint convexity of the Kullback-Leibler divergence.
    """
    shift = (1.0 if adjacency == "add-remove" else 2.0) / noise_multiplier
    one_step = shift**2 / 2 + 10 * shift
    all_steps = steps * sampling_rate * shift**2 / 2
    return max(_FINEST_INTERVAL, one_step / _STEP_GRID_POINTS, all_steps / _COMPOSED_GRID_POINTS)


def _assumptions(sampling_rate: float, steps: int, delta: float, adjacency: Adjacency) -> tuple[str, ...]:
    neighbours = {
        "add-remove": "Adjacency add-remove: two cohorts are neighbours if one has one unit more, or if one unit's "
        "contribution is set to zero. The sum of contributions then moves by at most the clipping norm C.",
        "replace": "Adjacency replace: two cohorts are neighbours if one unit is exchanged for another. "
        "The sum of contributions then moves by at most twice the clipping norm, 2 C.",
    }
    if sampling_rate == 1:
        sampling = "No sampling: every unit may take part in every step, and nothing is gained from secrecy of who did."
    else:
        sampling = (
            f"Poisson sampling: in every step each unit is drawn independently with probability {sampling_rate:g}, and "
            "who was drawn stays secret. Shuffled or fixed-size batches are not covered by this number."
        )
    return (
        "Unit: whatever is clipped and sampled as a whole (all studies of a patient, or a hospital). "
        "A smaller unit, such as one study, is not what this number is about unless it was the one clipped.",
        neighbours[adjacency],
        "Clipping: each unit's contribution is computed without the data of any other unit's contribution and has norm "
        "at most C. Per-example clipping of an in-batch contrastive loss does not satisfy this.",
        "Noise: Gaussian with standard deviation z times C on the sum, in every step, also when the step is empty.",
        sampling,
        f"Steps: {steps} noisy releases, everything ever computed from these data under this budget.",
        f"Failure: with probability up to delta = {delta:g} the guarantee need not hold; delta should be below one "
        "over the number of units.",
        "Not covered: anything else that left the site, such as counts, losses, AUROC, or settings chosen by looking "
        "at the data.",
    )
