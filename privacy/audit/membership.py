"""Level 3: can the trained model tell who was in its training?

Carlini et al. 2022 (LiRA), arXiv 2112.03570: what counts is not the average but the few patients that an attacker can
name almost without error, so the true positive rate at 0.1 % and 1 % false positives stands beside the AUC. Members and
outsiders must come from the same hospital, scanner and period; on such a footing published attacks on contrastive
models fall to near chance, and whatever is left is real.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from more_model.errors import DataError
from privacy.audit.subject import MembershipScores

Scores = NDArray[np.float64]

#: False positive rates at which the attack is read.
RATES = (0.001, 0.01)
_REPLICATES = 1_000
_MIN_RECORDS = 10
#: Beyond this e^epsilon is no number any more.
_MAX_EXPONENT = 700.0


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval by resampling records (percentiles)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RateAt:
    """The true positive rate at a false positive rate; ``found`` is None, with ``why_not``, where the outsiders are too
    few to know where that rate lies."""

    false_positive_rate: float
    found: Interval | None
    why_not: str = ""


@dataclass(frozen=True)
class MembershipResult:
    """The attack as one would run it: AUC (0.5: chance) and `RateAt` for each of `RATES`."""

    members: int
    outsiders: int
    references: int
    confidence: float
    auc: Interval
    rates: tuple[RateAt, ...]


def membership(scores: MembershipScores, *, confidence: float = 0.95, seed: int = 0) -> MembershipResult:
    """AUC and rates with intervals. seed: of the resampling.

    Raises:
        DataError: fewer than 10 of either, or scores that are not finite.
    """
    members, outsiders = (np.asarray(side, dtype=np.float64) for side in (scores.members, scores.outsiders))
    if min(members.size, outsiders.size) < _MIN_RECORDS:
        raise DataError(
            f"{members.size} members and {outsiders.size} outsiders: need at least {_MIN_RECORDS} of each",
            remedy="audit a site that has held out patients of its own",
        )
    if not (np.isfinite(members).all() and np.isfinite(outsiders).all()):
        raise DataError("a membership score is not finite")
    draws = np.random.default_rng(seed)
    samples = [
        (np.sort(draws.choice(members, members.size)), np.sort(draws.choice(outsiders, outsiders.size)))
        for _ in range(_REPLICATES)
    ]
    return MembershipResult(
        members.size,
        outsiders.size,
        scores.references,
        confidence,
        _interval(auc(members, outsiders), [auc_of_sorted(*pair) for pair in samples], confidence),
        tuple(_rate(members, outsiders, samples, rate, confidence) for rate in RATES),
    )


def auc(members: Scores, outsiders: Scores) -> float:
    """Probability that a member scores above an outsider, ties counting one half (Mann and Whitney 1947)."""
    return auc_of_sorted(np.sort(members), np.sort(outsiders))


def auc_of_sorted(members: Scores, outsiders: Scores) -> float:
    """`auc` of scores in ascending order."""
    below = np.searchsorted(outsiders, members, side="left")
    not_above = np.searchsorted(outsiders, members, side="right")
    return float((below + not_above).mean() / (2 * outsiders.size))


def auc_with_interval(members: Scores, outsiders: Scores, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """`auc` with an interval by resampling both sides."""
    draws = np.random.default_rng(seed)
    found = [
        auc(draws.choice(members, members.size), draws.choice(outsiders, outsiders.size)) for _ in range(_REPLICATES)
    ]
    return _interval(auc(members, outsiders), found, confidence)


def auc_ceiling(epsilon: float, delta: float) -> float:
    """The AUC that no attack on an (epsilon, delta)-private release exceeds: 1 - (1 - delta)^2 / (1 + e^epsilon), the
    area under `privacy.audit.bounds.rate_ceiling`."""
    return 1.0 if epsilon > _MAX_EXPONENT else 1 - (1 - delta) ** 2 / (1 + math.exp(epsilon))


def _rate(
    members: Scores, outsiders: Scores, samples: list[tuple[Scores, Scores]], rate: float, confidence: float
) -> RateAt:
    needed = round(1 / rate)
    if outsiders.size < needed:
        return RateAt(
            rate, None, f"{outsiders.size} outsiders cannot show a rate of {rate:.1%}: at least {needed} are needed"
        )
    value = _true_positive_rate(np.sort(members), np.sort(outsiders), rate)
    return RateAt(rate, _interval(value, [_true_positive_rate(*pair, rate) for pair in samples], confidence))


def _true_positive_rate(members: Scores, outsiders: Scores, rate: float) -> float:
    """Share of members above the threshold that at most ``rate`` of the outsiders exceed; both in ascending order."""
    allowed = int(rate * outsiders.size + 1e-9)
    threshold = outsiders[outsiders.size - 1 - allowed]
    return float(1 - np.searchsorted(members, threshold, side="right") / members.size)


def _interval(value: float, replicates: list[float], confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(value, float(min(low, value)), float(max(high, value)))
