"""The AUROC of patients at several hospitals from counts of their scores: no score leaves a hospital.

Everybody agrees beforehand on the edges of bins, and a hospital counts its patients per bin, positives and negatives
apart. Neighbouring bins are joined until a run of them holds ``minimum_count`` patients, so no smaller count is ever
told. Each patient counts once for a label (`one_per_patient`): a count is of people, as its minimum must be, and
patients are independent, as the interval needs. A class with fewer patients altogether is withheld: from 1 to
``minimum_count - 1``, anywhere. A class without patients is told as empty.

From runs, the order of a positive and a negative is known unless their runs overlap. With p and n patients in each
positive and negative run, P and N in all, and where every run is one bin b (nothing joined, nothing withheld):

    low  = sum over pairs of runs with the positive one wholly above                           p n / (P N)
    high = 1 - sum over pairs of runs with the positive one wholly below                       p n / (P N)
    high - low = sum_b p_b n_b / (P N),  so the middle is at most half of that from the AUROC of the patients.

Both ends are attained by some patients with these counts. Counts that are only known to lie in a range widen them by
interval arithmetic (`_least_mean`, `_surely`); the bounds then stay valid and are no longer the narrowest.

How wide they are depends on patients per site and class. Five sites, 15 % positives, an AUROC of 0.8, minimum 5, 200
bins: high - low is 0.15 with 200 patients a site, 0.04 with 1000, 0.015 with 5000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from more_model.errors import ConfigError, DataError
from more_model.evaluation.auroc import refusal
from more_model.evaluation.embedded import Float64, Indices, ScoredLabel
from more_model.score_exchange import Runs, ScoreCounts

#: Zero-shot scores are differences of two cosines (`more_model.evaluation.zero_shot`).
LOWEST_SCORE, HIGHEST_SCORE = -2.0, 2.0

#: Finer bins would tell where single patients stand, and narrow the bounds little.
MAX_BINS = 1000

#: The standard normal quantile of a central interval of 95 %.
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class ScoreBins:
    """Bin b holds scores in [edges[b], edges[b + 1]); the last one its upper edge as well.

    Raises ConfigError for edges that do not rise from -2 to 2, or for more than `MAX_BINS` bins.
    """

    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        faults = []
        if not 1 <= self.count <= MAX_BINS:
            faults.append(f"{self.count} bins, from 1 to {MAX_BINS} are possible")
        elif (self.edges[0], self.edges[-1]) != (LOWEST_SCORE, HIGHEST_SCORE):
            faults.append(f"the edges go from {self.edges[0]:g} to {self.edges[-1]:g}, not from -2 to 2")
        if not all(lower < upper for lower, upper in pairwise(self.edges)):
            faults.append("the edges do not rise")
        if faults:
            raise ConfigError("score bins", faults)

    @property
    def count(self) -> int:
        """How many bins there are."""
        return len(self.edges) - 1

    def of(self, scores: ArrayLike) -> Indices:
        """The bin [n] of each score [n]; what rounding puts beyond an end counts as that end."""
        inner: Indices = np.searchsorted(np.array(self.edges[1:-1]), np.asarray(scores, dtype=np.float64), side="right")
        return inner


def centred_bins(count: int = 200, scale: float = 0.05) -> ScoreBins:
    """``count`` bins from -2 to 2, of even width in asinh(score / ``scale``).

    Differences of cosines lie close to zero, mostly within 0.3: even widths over the whole range would put all patients
    into a few bins. With 200 bins and 0.05, a bin at zero is 0.002 wide, one at 0.3 is 0.013. A large ``scale`` gives
    even widths.
    """
    if not (np.isfinite(scale) and scale > 0 and 1 <= count <= MAX_BINS):
        raise ConfigError("score bins", [f"{count} bins with scale {scale:g}: both have to be positive"])
    inner = scale * np.sinh(np.linspace(-1.0, 1.0, count + 1)[1:-1] * np.arcsinh(HIGHEST_SCORE / scale))
    return ScoreBins((LOWEST_SCORE, *inner.tolist(), HIGHEST_SCORE))


def quantile_bins(public_scores: ArrayLike, count: int = 200) -> ScoreBins:
    """At most ``count`` bins with about as many of ``public_scores`` in each: narrow where scores are dense.

    For a model that draws scores little apart, or far from zero. The scores have to be of public patients (such as
    those that the base was warmed up on), over all labels: edges made from a hospital's own would tell of its patients.
    """
    scores = np.asarray(public_scores, dtype=np.float64).ravel()
    inner = np.unique(np.quantile(scores[~np.isnan(scores)], np.linspace(0.0, 1.0, count + 1)[1:-1]))
    within = inner[(inner > LOWEST_SCORE) & (inner < HIGHEST_SCORE)]
    return ScoreBins((LOWEST_SCORE, *within.tolist(), HIGHEST_SCORE))


def one_per_patient(scored: ScoredLabel) -> ScoredLabel:
    """The first row of each patient that states the label and has a score, in the order given.

    Which one that is depends on the order of a site's store alone, never on a score.
    """
    known = np.flatnonzero(~np.isnan(scored.y) & ~np.isnan(scored.score))
    first: dict[tuple[str, str], int] = {}
    for row in known.tolist():
        first.setdefault((scored.site[row], scored.patient[row]), row)
    return scored.select(np.array(list(first.values()), dtype=np.intp))


def score_counts(scored: ScoredLabel, bins: ScoreBins, minimum_count: int) -> ScoreCounts:
    """What a hospital tells of one label: runs of bins per class, each patient once. No rows: two empty classes."""
    rows = one_per_patient(scored)
    positives, negatives = (bins.of(rows.score[rows.y == side]) for side in (1.0, 0.0))
    return ScoreCounts(
        joined(np.bincount(positives, minlength=bins.count), minimum_count),
        joined(np.bincount(negatives, minlength=bins.count), minimum_count),
    )


def joined(counts: NDArray[np.intp], minimum_count: int) -> Runs | None:
    """Counts [bins] as runs (first bin, bin after the last, patients), each of at least ``minimum_count`` patients.

    From the lowest score up, a run ends at the bin that fills it; what is left at the top joins the last run. Empty
    bins between runs belong to none. None (withheld): there are patients, but fewer than ``minimum_count``.
    """
    if minimum_count < 1:
        raise ConfigError("score counts", [f"a minimum count of {minimum_count}: it has to be 1 or more"])
    runs: list[tuple[int, int, int]] = []
    start, held = -1, 0
    for number in np.flatnonzero(counts).tolist():
        start = number if held == 0 else start
        held += int(counts[number])
        if held >= minimum_count:
            runs.append((start, number + 1, held))
            held = 0
    if held and not runs:
        return None
    if held:
        last = int(np.flatnonzero(counts)[-1])
        runs[-1] = (runs[-1][0], last + 1, runs[-1][2] + held)
    return tuple(runs)


@dataclass(frozen=True, slots=True)
class PooledAuroc:
    """The AUROC of one label over the patients of several hospitals, as far as counts tell it.

    ``value`` spreads the patients of a run evenly over its bins, ties within a bin counting half, and leaves withheld
    classes out. The AUROC that the scores of all patients would give lies within ``low`` and ``high``, surely.
    ``ci95`` contains DeLong's interval (1.96 standard errors, cut to [0, 1]) that those scores would give, and
    ``standard_error`` is at least DeLong's. ``positives`` and ``negatives`` are the least and the largest number that
    there can be. All figures are None, with the ``reason``, where fewer than two patients of a class are told.
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    ci95: tuple[float, float] | None
    positives: tuple[int, int]
    negatives: tuple[int, int]
    reason: str | None = None


def pooled_auroc(sites: Sequence[tuple[ScoreCounts, int]], bins: int) -> PooledAuroc:
    """The AUROC over all ``sites``, each with its counts of one label and its minimum count.

    Raises DataError for runs that do not lie within the bins.
    """
    positive = _class([(counts.positives, minimum) for counts, minimum in sites], bins)
    negative = _class([(counts.negatives, minimum) for counts, minimum in sites], bins)
    support = positive.support, negative.support
    reason = refusal(positive.told, negative.told)
    if reason is not None:
        return PooledAuroc(None, None, None, None, None, *support, reason)
    above, below = _surely(positive, negative, bins), _surely(negative, positive, bins)
    low = _least_mean(above.below, positive)
    high = 1.0 - _least_mean(above.above, positive)
    error = float(np.sqrt(_variance_of_mean(above, positive) + _variance_of_mean(below, negative)))
    value = min(max(_even_auroc(positive.spread, negative.spread), low), high)
    return PooledAuroc(value, low, high, error, _interval(low, high, error), *support)


@dataclass(frozen=True, slots=True)
class MacroAuroc:
    """The mean over ``labels`` labels, with bounds and interval as in `PooledAuroc`; None where there is no label."""

    value: float | None
    low: float | None
    high: float | None
    ci95: tuple[float, float] | None
    labels: int


def macro_auroc(figures: Sequence[PooledAuroc]) -> MacroAuroc:
    """The mean over the labels that have a value.

    The bounds are means of bounds. Labels share patients, and counts do not say how their figures vary together: the
    standard error of a mean is at most the mean of the standard errors, however they do.
    """
    rows = [(each.value, each.low, each.high, each.standard_error) for each in figures if each.value is not None]
    if not rows:
        return MacroAuroc(None, None, None, None, 0)
    value, low, high, error = np.array(rows, dtype=np.float64).mean(axis=0).tolist()
    return MacroAuroc(value, low, high, _interval(low, high, error), len(rows))


@dataclass(frozen=True, slots=True, eq=False)
class _Class:
    """The runs of all sites for one class: bins [start, stop) hold from ``low`` to ``high`` patients; each [runs].
    ``spread`` [bins] are the patients told, ``told`` their number."""

    start: Indices
    stop: Indices
    low: Float64
    high: Float64
    spread: Float64
    told: int

    @property
    def support(self) -> tuple[int, int]:
        return int(self.low.sum()), int(self.high.sum())


def _class(sites: Sequence[tuple[Runs | None, int]], bins: int) -> _Class:
    told = np.array([run for runs, _ in sites for run in runs or ()], dtype=np.int64).reshape(-1, 3)
    if not ((told[:, 0] >= 0) & (told[:, 0] < told[:, 1]) & (told[:, 1] <= bins) & (told[:, 2] > 0)).all():
        raise DataError("score counts lie outside the agreed bins", remedy="admit the answers of sites before pooling")
    unknown = [(0, bins, 1, minimum - 1) for runs, minimum in sites if runs is None]
    rows = np.concatenate([told[:, [0, 1, 2, 2]], np.array(unknown, dtype=np.int64).reshape(-1, 4)])
    steps = np.zeros(bins + 1)
    density = told[:, 2] / (told[:, 1] - told[:, 0])
    np.add.at(steps, told[:, 0], density)
    np.subtract.at(steps, told[:, 1], density)
    spread = np.maximum(np.cumsum(steps)[:-1], 0.0)
    low, high = rows[:, 2].astype(np.float64), rows[:, 3].astype(np.float64)
    return _Class(rows[:, 0], rows[:, 1], low, high, spread, int(told[:, 2].sum()))


@dataclass(frozen=True, slots=True, eq=False)
class _Placement:
    """For each run of one class: the least share of the other class surely below it, and surely above it; [runs]."""

    below: Float64
    above: Float64


def _surely(of: _Class, among: _Class, bins: int) -> _Placement:
    """A share a / (a + b) is least where a, the surely placed, is as small and b, the others, as large as can be."""

    def share(edge: Indices, index: Indices) -> Float64:
        least = np.cumsum(np.bincount(edge, weights=among.low, minlength=bins + 1))[index]
        most = np.cumsum(np.bincount(edge, weights=among.high, minlength=bins + 1))[index]
        result: Float64 = least / (least + among.high.sum() - most)
        return result

    return _Placement(share(among.stop, of.start), share(bins - among.start, bins - of.stop))


def _least_mean(values: Float64, runs: _Class) -> float:
    """The least mean of ``values`` [runs] that patient numbers within their ranges can give: the smallest values with
    as many patients as possible, the others with as few; one of the places to change over is the best."""
    order = np.argsort(values, kind="stable")
    value, low, high = values[order], runs.low[order], runs.high[order]
    gain = np.concatenate([[0.0], np.cumsum(high - low)])
    total = np.concatenate([[0.0], np.cumsum((high - low) * value)])
    weight = low.sum() + gain
    return float(((low @ value + total) / weight).min())


def _variance_of_mean(placement: _Placement, runs: _Class) -> float:
    """At least DeLong's variance of the mean placement of one class: sum (V - mean)^2 / (m (m - 1)) over m patients.

    The sum is least about the mean, so it is at most that about the centre of the runs, where no V is further away
    than the middle of its range plus half of the range.
    """
    middle = (placement.below + 1.0 - placement.above) / 2
    reach = (1.0 - placement.above - placement.below) / 2
    centre = np.average(middle, weights=runs.low)
    patients = runs.low.sum()
    return float(runs.high @ (np.abs(middle - centre) + reach) ** 2 / (patients * (patients - 1)))


def _even_auroc(positive: Float64, negative: Float64) -> float:
    """AUROC of patients spread [bins] evenly within bins."""
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below / (positive.sum() * negative.sum()))


def _interval(low: float, high: float, error: float) -> tuple[float, float]:
    return max(0.0, low - _Z95 * error), min(1.0, high + _Z95 * error)
