"""How much one unit (a patient, or a hospital) is exposed by a whole training run: epsilon at a given delta.

One function, one convention, so that the library's own conventions cannot be mixed up: the noise multiplier is always
z = sigma / C, where C is the norm to which each unit's contribution is clipped and sigma the standard deviation of the
Gaussian noise added to the sum of contributions. The two adjacencies differ in the sensitivity of that sum:

    add-remove   a unit is added, removed, or its contribution set to zero: the sum moves by at most C
    replace      a unit is exchanged for another one:                       the sum moves by at most 2 C

Under `replace` the doubling happens inside, so z stays sigma / C. (dp-accounting's own PLD accountant does the same,
its RDP accountant does not; that is why nothing else in this project calls that library.)

An `Event` is what one privacy mode did with the data: sigma, C, adjacency, sampling rate, steps. `privacy.sensitivity`
makes the event of each mode; `composed_epsilon` turns any number of them into one epsilon.

Accountants used, both from dp-accounting:
- without sampling (rate 1): the exact curve of the Gaussian mechanism, Balle and Wang 2018, arXiv 1805.06530,
  theorem 8; T releases at multiplier z equal one release at z / sqrt(T);
- with Poisson sampling: privacy loss distributions with connect-the-dots discretisation, Doroshenko et al. 2022,
  arXiv 2207.04380. Always an upper bound of the true epsilon.

A Gaussian central-limit ("gdp") accountant reports too little and is not offered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from more_model.errors import ConfigError

Adjacency = Literal["add-remove", "replace"]

# Below these the numbers of the accountant mean nothing: its own rounding (1e-15 of probability mass) would show.
MIN_DELTA = 1e-10
MIN_NOISE_MULTIPLIER = 0.01

FINEST_GRID = 1e-4
# The mixture mechanism is a hundred times slower to discretise; this grid still is right to three digits, from above.
_COARSE_GRID = 4e-3
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


@dataclass(frozen=True)
class Event:
    """``steps`` noisy releases of one kind, made from one data set.

    sigma: standard deviation of the noise on the sum of contributions. clip_norm: C, the norm that no contribution
    exceeds; in the same unit as sigma. adjacency: how far the sum moves, C (`add-remove`) or 2 C (`replace`).
    sampling_rate: Poisson probability of a unit in each step, 1 for none.
    """

    sigma: float
    clip_norm: float
    adjacency: Adjacency
    sampling_rate: float
    steps: int

    @property
    def noise_multiplier(self) -> float:
        """z = sigma / C."""
        return self.sigma / self.clip_norm if self.clip_norm > 0 else math.nan


def epsilon(
    noise_multiplier: float, sampling_rate: float, steps: int, delta: float, adjacency: Adjacency = "add-remove"
) -> Epsilon:
    """The epsilon of `steps` releases of a Gaussian-noised sum of clipped contributions.

    noise_multiplier: z = sigma / C, for both adjacencies. sampling_rate: probability with which each unit takes part in
    a step, drawn independently (Poisson); 1 means that everyone always takes part. steps: noisy releases over the whole
    life of the data, all rounds and all local steps together. delta: probability with which the guarantee may fail.

    Raises `ConfigError` with all faults at once.
    """
    return composed_epsilon([Event(noise_multiplier, 1.0, adjacency, sampling_rate, steps)], delta)


def composed_epsilon(events: Sequence[Event], delta: float, *, grid: float = FINEST_GRID) -> Epsilon:
    """The epsilon of everything that ``events`` released from one data set, at one ``delta`` for all of it.

    Composition is of the mechanisms: epsilons are never added. Events of both adjacencies may be mixed; what is then
    claimed is `add-remove` (one unit added, removed or zeroed), which a `replace` event covers as well, because the
    removal of a unit moves no contribution further than its exchange does.

    grid: width of the privacy-loss grid; a wider one is faster and can only make the epsilon larger.

    Raises `ConfigError` with all faults of all events at once.
    """
    faults = [fault for event in events for fault in _event_faults(event, delta)]
    if not events:
        faults = ["no event: nothing was released, so there is no epsilon to report"]
    if faults:
        raise ConfigError(
            "privacy accounting",
            list(dict.fromkeys(faults)),
            remedy="give the noise, the sampling and the number of steps that training really used",
            avoid="round the noise multiplier up or the number of steps down: the epsilon would then be false",
        )
    return _composed(tuple(_merged(events)), delta, grid)


# A composition takes about a second, and a round, a report and a ledger ask for the same one.
@lru_cache(maxsize=512)
def _composed(merged: tuple[Event, ...], delta: float, grid: float) -> Epsilon:
    if all(event.sampling_rate == 1 for event in merged):
        value, accountant = _gaussian_epsilon(merged, delta), _EXACT
    else:
        value, accountant = _sampled_epsilon(merged, delta, grid), _PLD
    return Epsilon(value, delta, accountant, _assumptions(merged, delta))


def patient_epsilon_of_sampled_studies(
    noise_multiplier: float, sampling_rate: float, steps: int, delta: float, studies: int
) -> float:
    """What study-level training leaves a patient with ``studies`` studies: a figure to warn with, never to claim.

    Each study is clipped to C and drawn by itself, so the patient's share of a step has norm k C with k binomial:
    the mixture-of-Gaussians mechanism (Choquette-Choo et al. 2023, arXiv 2310.15526), add-remove.

    Raises `ConfigError` with all faults at once.
    """
    faults = list(argument_faults(noise_multiplier, sampling_rate, steps, delta, "add-remove"))
    if isinstance(studies, bool) or not isinstance(studies, int) or studies < 1:
        faults.append(f"studies {studies}: must be a whole number of at least 1")
    if faults:
        raise ConfigError("privacy accounting", faults, remedy="give what training really used")
    import dp_accounting
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    counts = range(studies + 1)
    probabilities = [math.comb(studies, k) * sampling_rate**k * (1 - sampling_rate) ** (studies - k) for k in counts]
    mean_square = sum(p * k**2 for k, p in zip(counts, probabilities, strict=True)) / noise_multiplier**2
    interval = _grid(_COARSE_GRID, studies / noise_multiplier, steps * mean_square / 2)
    accountant = PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, interval)
    step = dp_event.MixtureOfGaussiansDpEvent(noise_multiplier, [float(k) for k in counts], probabilities)
    accountant.compose(dp_accounting.SelfComposedDpEvent(step, steps))
    return float(accountant.get_epsilon(delta))


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


def _event_faults(event: Event, delta: float) -> tuple[str, ...]:
    if not (math.isfinite(event.clip_norm) and event.clip_norm > 0):
        return (f"clipping norm {event.clip_norm:g}: must be a finite number above 0",)
    return argument_faults(event.noise_multiplier, event.sampling_rate, event.steps, delta, event.adjacency)


def _merged(events: Sequence[Event]) -> list[Event]:
    """One event a kind, with C = 1 and in a fixed order: equal histories give equal bits."""
    steps: dict[tuple[float, Adjacency, float], int] = {}
    for event in events:
        kind = (event.noise_multiplier, event.adjacency, event.sampling_rate)
        steps[kind] = steps.get(kind, 0) + event.steps
    return [Event(z, 1.0, adjacency, rate, steps[z, adjacency, rate]) for z, adjacency, rate in sorted(steps)]


def _shift(event: Event) -> float:
    """How far one unit can move the sum, in standard deviations of the noise."""
    return (1.0 if event.adjacency == "add-remove" else 2.0) / event.noise_multiplier


def _gaussian_epsilon(events: Sequence[Event], delta: float) -> float:
    # Imported here: it takes seconds, and a --help must not wait for it.
    import dp_accounting

    total = math.sqrt(sum(event.steps * _shift(event) ** 2 for event in events))
    return float(dp_accounting.get_epsilon_gaussian(1 / total, delta))


def _sampled_epsilon(events: Sequence[Event], delta: float, grid: float) -> float:
    interval = _grid(
        grid,
        max(_shift(event) for event in events),
        sum(event.steps * event.sampling_rate * _shift(event) ** 2 / 2 for event in events),
    )
    losses = None
    for event in events:
        own = _loss_distribution(event, interval)
        losses = own if losses is None else losses.compose(own)
    assert losses is not None
    return float(losses.get_epsilon_for_delta(delta))


def _loss_distribution(event: Event, interval: float) -> Any:
    """The privacy loss distribution of one event, as dp-accounting's accountant builds it for that adjacency."""
    import dp_accounting
    from dp_accounting.pld import privacy_loss_distribution

    relations = {
        "add-remove": dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
        "replace": dp_accounting.NeighboringRelation.REPLACE_ONE,
    }
    unsampled = event.sampling_rate == 1
    one = privacy_loss_distribution.from_gaussian_mechanism(
        # T releases without sampling are exactly one with less noise; the grid then rounds once, not T times.
        standard_deviation=event.noise_multiplier / (math.sqrt(event.steps) if unsampled else 1.0),
        value_discretization_interval=interval,
        sampling_prob=event.sampling_rate,
        neighboring_relation=relations[event.adjacency],
    )
    return one if unsampled else one.self_compose(event.steps)


def _grid(finest: float, shift: float, all_steps: float) -> float:
    """Width of the privacy-loss grid: as fine as bounded memory allows. A coarser grid only makes the bound larger.

    One step's loss reaches about s^2/2 + 10 s (s = sensitivity / noise; the tail beyond is under 1e-22); the mean loss
    of all steps is at most steps * rate * s^2/2, by joint convexity of the Kullback-Leibler divergence.
    """
    one_step = shift**2 / 2 + 10 * shift
    return max(finest, one_step / _STEP_GRID_POINTS, all_steps / _COMPOSED_GRID_POINTS)


def _assumptions(events: Sequence[Event], delta: float) -> tuple[str, ...]:
    adjacencies = {event.adjacency for event in events}
    claimed: Adjacency = "replace" if adjacencies == {"replace"} else "add-remove"
    steps = sum(event.steps for event in events)
    return (
        "Unit: whatever is clipped and sampled as a whole (all studies of a patient, or a hospital). "
        "A smaller unit, such as one study, is not what this number is about unless it was the one clipped.",
        _NEIGHBOURS[claimed],
        *((_MIXED,) if len(adjacencies) == 2 else ()),
        "Clipping: each unit's contribution is computed without the data of any other unit's contribution and has norm "
        "at most C. Per-example clipping of an in-batch contrastive loss does not satisfy this.",
        "Noise: Gaussian with standard deviation z times C on the sum, in every step, also when the step is empty.",
        *(_sampling(rate) for rate in sorted({event.sampling_rate for event in events})),
        f"Steps: {steps} noisy releases, everything ever computed from these data under this budget.",
        f"Failure: with probability up to delta = {delta:g} the guarantee need not hold; delta should be below one "
        "over the number of units.",
        "Not covered: anything else that left the site, such as counts, losses, AUROC, or settings chosen by looking "
        "at the data.",
    )


_NEIGHBOURS: dict[Adjacency, str] = {
    "add-remove": "Adjacency add-remove: two cohorts are neighbours if one has one unit more, or if one unit's "
    "contribution is set to zero. The sum of contributions then moves by at most the clipping norm C.",
    "replace": "Adjacency replace: two cohorts are neighbours if one unit is exchanged for another. "
    "The sum of contributions then moves by at most twice the clipping norm, 2 C.",
}
_MIXED = (
    "Some of the steps clipped groups of units: there the sum moves by up to 2 C when one unit is added or removed, "
    "and they are counted so."
)


def _sampling(rate: float) -> str:
    if rate == 1:
        return "No sampling: every unit may take part in every step, and nothing is gained from secrecy of who did."
    return (
        f"Poisson sampling: in every step each unit is drawn independently with probability {rate:g}, and "
        "who was drawn stays secret. Shuffled or fixed-size batches are not covered by this number."
    )
