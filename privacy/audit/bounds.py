"""Certified lower bounds of epsilon from the outputs of a mechanism on two adjacent data sets.

A mechanism that is (epsilon, delta)-private keeps every test between two adjacent data sets poor: with FPR the
probability that it says "second" on the first one and FNR the other way round,

    FPR + e^epsilon FNR >= 1 - delta,    FNR + e^epsilon FPR >= 1 - delta

(Kairouz, Oh, Viswanath 2015, arXiv 1311.0776). A test that does better refutes the claim; one that does not proves
nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.errors import ConfigError

Outputs = NDArray[np.floating[Any]]

#: Thresholds tried on the first half: the tails matter most, so quantiles are spaced evenly in their logarithm.
_THRESHOLDS = 200
#: Thresholds are chosen by what they would show with this much less room for error: the best of many counts in a thin
#: tail is mostly luck, which the other half does not repeat.
_CAUTION = 2e-5
#: A beta quantile of so small a probability is not computed accurately, and nobody would read it.
_MIN_ERROR = 1e-12
#: Beyond this e^epsilon is no number any more.
_MAX_EXPONENT = 700.0


@dataclass(frozen=True)
class ThresholdBound:
    """``epsilon``: what the mechanism's true epsilon is at least, with probability ``confidence`` over the draws; 0 if
    nothing was found. ``false_positives`` and ``false_negatives`` of ``draws`` outputs a side, at ``threshold``."""

    epsilon: float
    delta: float
    confidence: float
    threshold: float
    false_positives: int
    false_negatives: int
    draws: int


def upper_limit(successes: Any, trials: int, error: float) -> NDArray[np.float64]:
    """The probability that is exceeded by the true one with probability at most ``error`` (one-sided).

    Clopper and Pearson 1934, by quantiles of the beta distribution. successes: scalar or array.
    """
    from scipy.special import betaincinv

    hits = np.asarray(successes, dtype=np.float64)
    limit = betaincinv(hits + 1, np.maximum(trials - hits, 1), 1 - max(error, _MIN_ERROR))
    return np.asarray(np.where(hits >= trials, 1.0, limit), dtype=np.float64)


def lower_limit(successes: Any, trials: int, error: float) -> NDArray[np.float64]:
    """The probability that the true one is below with probability at most ``error`` (one-sided)."""
    return 1 - upper_limit(trials - np.asarray(successes), trials, error)


def threshold_epsilon(false_positives: Any, false_negatives: Any, trials: int, delta: float, confidence: float) -> Any:
    """Lower bound of epsilon from counts of both errors among ``trials`` outputs a side; 0 where there is none.

        max( ln((1 - delta - FPR) / FNR),  ln((1 - delta - FNR) / FPR) )

    with FPR and FNR replaced by their upper limits, each wrong with probability at most (1 - confidence) / 2.
    """
    error = (1 - confidence) / 2
    positives = upper_limit(false_positives, trials, error)
    negatives = upper_limit(false_negatives, trials, error)
    best = np.maximum((1 - delta - positives) / negatives, (1 - delta - negatives) / positives)
    return np.log(np.maximum(best, 1.0))


def best_threshold_bound(first: Outputs, second: Outputs, delta: float, confidence: float = 0.95) -> ThresholdBound:
    """The bound of the test "second if the output exceeds t".

    first, second: [n] each, independent outputs on the two data sets, in random order. t is chosen on one half of them
    and the errors are counted on the other: a threshold that was chosen on the outputs it is judged by would find a
    difference between equal distributions.

    Raises:
        ConfigError: fewer than 4 outputs a side, unequal numbers, or outputs that are not finite.
    """
    faults = []
    if first.shape != second.shape or first.ndim != 1 or first.size < 4:
        faults.append(f"outputs of shapes {list(first.shape)} and {list(second.shape)}: need equal numbers, at least 4")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        faults.append("an output is not finite")
    if faults:
        raise ConfigError("privacy audit", faults)
    half = first.size // 2
    chosen = _best_threshold(first[:half], second[:half], delta)
    trials = first.size - half
    positives, negatives = (int(count[0]) for count in _errors(first[half:], second[half:], np.array([chosen])))
    bound = float(threshold_epsilon(positives, negatives, trials, delta, confidence))
    return ThresholdBound(bound, delta, confidence, chosen, positives, negatives, trials)


def resolution(trials: int, delta: float, confidence: float = 0.95) -> float:
    """The largest bound that so many outputs a side (of the second half) can certify: that of no error at all."""
    return float(threshold_epsilon(0, 0, trials, delta, confidence))


def _best_threshold(first: Outputs, second: Outputs, delta: float) -> float:
    shares = np.geomspace(1 / first.size, 0.5, _THRESHOLDS)
    tried = np.unique([np.quantile(side, [*shares, *(1 - shares)]) for side in (first, second)])
    positives, negatives = _errors(first, second, tried)
    promise = threshold_epsilon(positives, negatives, first.size, delta, 1 - _CAUTION)
    return float(tried[int(np.argmax(promise))])


def _errors(first: Outputs, second: Outputs, thresholds: Outputs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    above = first.size - np.searchsorted(np.sort(first), thresholds, side="right")
    below = np.searchsorted(np.sort(second), thresholds, side="right")
    return np.asarray(above, dtype=np.int64), np.asarray(below, dtype=np.int64)


def rate_ceiling(epsilon: float, delta: float, rate: float) -> float:
    """The largest true positive rate that an attack with false positive rate ``rate`` can have against an
    (epsilon, delta)-private release: min(1, e^eps r + delta, 1 - e^-eps (1 - delta - r)). Same source as above."""
    flat = 1 - math.exp(-epsilon) * (1 - delta - rate)
    steep = math.exp(epsilon) * rate + delta if epsilon < _MAX_EXPONENT else math.inf
    return min(1.0, flat, steep)
