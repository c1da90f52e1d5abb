"""Level 2: what one training run says about its own claim, by canaries that took part or not by the toss of a coin.

Steinke, Nasr, Jagielski 2023, arXiv 2305.08846, theorem 5.2. The auditor tosses m fair coins; canary i takes part where
coin i says so. From what the run released the auditor guesses r of the coins: "in" for the r/2 highest scores, "out"
for the r/2 lowest, no guess for the rest. If the run is (epsilon, delta)-private, then

    Pr[at least v guesses right]  <=  beta + 2 m delta max over i = 1..m of alpha_i / i
    beta = Pr[B >= v],   alpha_i = Pr[v - i <= B < v],   B ~ Binomial(r, e^epsilon / (1 + e^epsilon))

so the smallest epsilon at which that is above the error allowed is a lower bound of the true one.

How many guesses. The theorem wants r fixed beforehand. `GUESSED_SHARES` is: several r are tried, each at its share of
the error (Bonferroni), and the best bound counts. The r depend on m alone, never on the scores.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from more_model.errors import ConfigError, DataError
from privacy.audit.subject import CanaryScores

#: Shares of the canaries that are guessed. A strong attack on much noise wants many guesses, one on little noise few.
GUESSED_SHARES = (0.5, 0.2, 0.1, 0.04)
#: With fewer guesses than this, even all right ones certify next to nothing.
_MIN_GUESSES = 10
MIN_CANARIES = 20
#: Beyond this nothing can be certified by a number of canaries that a run can carry.
_MAX_EPSILON = 50.0
_PRECISION = 1e-4


@dataclass(frozen=True)
class OneRunBound:
    """``epsilon``: what the run's true epsilon is at least, with probability ``confidence`` over coins and training; 0
    if nothing was found. ``guesses`` and ``correct``: of the number of guesses that gave it. ``most``: what would have
    been certified had all guesses been right, the largest bound that so many canaries can give."""

    epsilon: float
    delta: float
    confidence: float
    canaries: int
    guesses: int
    correct: int
    most: float


def fair_coins(count: int) -> NDArray[np.bool_]:
    """[count] fair coins from the operating system's entropy: the run must not be able to know them."""
    bits = np.frombuffer(secrets.token_bytes((count + 7) // 8), dtype=np.uint8)
    return np.unpackbits(bits)[:count].astype(np.bool_)


def one_run_bound(scored: CanaryScores, delta: float, confidence: float = 0.95) -> OneRunBound:
    """The best bound over all numbers of guesses, corrected for their number.

    Raises:
        DataError: scores that are not one finite number for each coin, or fewer than `MIN_CANARIES`.
        ConfigError: a delta or a confidence that is no probability.
    """
    _check(scored, delta, confidence)
    canaries = scored.included.size
    tried = guess_counts(canaries)
    each = 1 - (1 - confidence) / len(tried)
    found = []
    for guesses in tried:
        correct = correct_guesses(scored, guesses)
        found.append((one_run_epsilon(canaries, guesses, correct, delta, each), guesses, correct))
    best, guesses, correct = max(found)
    most = max(one_run_epsilon(canaries, count, count, delta, each) for count in tried)
    return OneRunBound(best, delta, confidence, canaries, guesses, correct, most)


def guess_counts(canaries: int) -> tuple[int, ...]:
    """The numbers of guesses that are tried for so many canaries: even, fixed beforehand."""
    counts = {max(_MIN_GUESSES, 2 * round(canaries * share / 2)) for share in GUESSED_SHARES}
    return tuple(sorted(counts, reverse=True))


def correct_guesses(scored: CanaryScores, guesses: int) -> int:
    """How many are right when the ``guesses`` / 2 highest scores are taken for "in" and as many lowest for "out".
    Equal scores are taken in the order of the canaries, which the coins know nothing of."""
    order = np.argsort(scored.scores, kind="stable")
    half = guesses // 2
    return int(scored.included[order[-half:]].sum() + (~scored.included[order[:half]]).sum())


def one_run_epsilon(canaries: int, guesses: int, correct: int, delta: float, confidence: float) -> float:
    """The largest epsilon that ``correct`` right ones of ``guesses`` refute; 0 if they refute none.

    The p-value grows with epsilon, so it is searched by halving; what is returned is the lower end.
    """
    error = 1 - confidence
    if one_run_p_value(canaries, guesses, correct, 0.0, delta) > error:
        return 0.0
    low, high = 0.0, _MAX_EPSILON
    while high - low > _PRECISION:
        middle = (low + high) / 2
        if one_run_p_value(canaries, guesses, correct, middle, delta) <= error:
            low = middle
        else:
            high = middle
    return low


def one_run_p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Upper bound of the probability of at least ``correct`` right guesses under (epsilon, delta)."""
    from scipy.special import bdtr

    right = 1 / (1 + math.exp(-epsilon))
    # cdf[k] = Pr[B < correct - k], so alpha_i = cdf[0] - cdf[i].
    below = correct - 1 - np.arange(correct + 1)
    cdf = np.where(below >= 0, bdtr(np.maximum(below, 0), guesses, right), 0.0)
    beta = 1.0 - float(cdf[0])
    if correct == 0 or delta == 0:
        return min(1.0, beta)
    steepest = float(np.max((cdf[0] - cdf[1:]) / np.arange(1, correct + 1)))
    return min(1.0, beta + 2 * canaries * delta * steepest)


def _check(scored: CanaryScores, delta: float, confidence: float) -> None:
    if not (0 <= delta < 1 and 0 < confidence < 1):
        raise ConfigError("one-run audit", [f"delta {delta:g} and confidence {confidence:g}: must be probabilities"])
    if scored.included.shape != scored.scores.shape or scored.included.ndim != 1:
        raise DataError(f"{scored.scores.size} scores for {scored.included.size} coins: need one for each canary")
    if not np.isfinite(scored.scores).all():
        raise DataError("the score of a canary is not finite", remedy="lower the learning rate of the run under audit")
    if scored.included.size < MIN_CANARIES:
        raise DataError(f"{scored.included.size} canaries: fewer than {MIN_CANARIES} certify nothing")
