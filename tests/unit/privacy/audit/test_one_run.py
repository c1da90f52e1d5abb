"""The one-run bound: against an independent formulation, published figures, and mechanisms whose epsilon is known."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from more_model.errors import ConfigError, DataError
from privacy.accounting import epsilon
from privacy.audit.one_run import (
    correct_guesses,
    fair_coins,
    guess_counts,
    one_run_bound,
    one_run_epsilon,
    one_run_p_value,
)
from privacy.audit.subject import CanaryScores


def exact_p_value(canaries: int, guesses: int, correct: int, right: Fraction, delta: Fraction) -> Fraction:
    """The theorem with whole numbers only: the distribution of right guesses by adding one guess after the other."""
    chances = [Fraction(1)]
    for _ in range(guesses):
        chances = [
            (chances[k] * (1 - right) if k < len(chances) else 0) + (chances[k - 1] * right if k else 0)
            for k in range(len(chances) + 1)
        ]
    beta = sum(chances[correct:], Fraction(0))
    steepest = max(
        (sum(chances[correct - i : correct], Fraction(0)) / i for i in range(1, correct + 1)), default=Fraction(0)
    )
    return min(Fraction(1), beta + 2 * canaries * delta * steepest)


@pytest.mark.parametrize(("canaries", "guesses", "correct"), [(20, 10, 9), (60, 30, 24), (60, 30, 0), (100, 40, 40)])
@pytest.mark.parametrize("delta", [Fraction(0), Fraction(1, 100_000), Fraction(1, 500)])
def test_p_value_agrees_with_exact_arithmetic(canaries: int, guesses: int, correct: int, delta: Fraction) -> None:
    for right in (Fraction(1, 2), Fraction(3, 4), Fraction(9, 10)):
        ours = one_run_p_value(canaries, guesses, correct, math.log(right / (1 - right)), float(delta))
        assert ours == pytest.approx(float(exact_p_value(canaries, guesses, correct, right, delta)), rel=1e-9)


def test_epsilon_is_where_the_p_value_meets_the_error_allowed() -> None:
    found = one_run_epsilon(100, 40, 34, 1e-4, 0.95)
    odds = [Fraction(round(math.exp(found + step) * 10**6), 10**6) for step in (-2e-3, 2e-3)]
    below, above = (exact_p_value(100, 40, 34, odd / (1 + odd), Fraction(1, 10_000)) for odd in odds)
    assert below < 0.05 < above


def test_randomised_response_with_a_leak_reaches_its_own_bound_and_never_passes_it() -> None:
    """Each coin is shown truly with probability delta, and else answered by randomised response: (epsilon, delta)."""
    claimed, delta, canaries = 1.0, 0.01, 40
    right = delta + (1 - delta) / (1 + math.exp(-claimed))
    chances = np.array([1.0])
    for _ in range(canaries):
        chances = np.convolve(chances, [1 - right, right])
    tails = chances[::-1].cumsum()[::-1]
    bounds = np.array([one_run_p_value(canaries, canaries, v, claimed, delta) for v in range(canaries + 1)])
    assert (tails <= bounds + 1e-12).all()
    # Without the delta term the bound would be false.
    without = np.array([one_run_p_value(canaries, canaries, v, claimed, 0.0) for v in range(canaries + 1)])
    assert (tails > without + 1e-6).any()


@pytest.mark.parametrize(
    ("true", "noise", "published"), [(1, 3.73, (0.12, 0.3)), (4, 1.08, (1.4, 1.8)), (8, 0.6, (2.6, 3.2))]
)
def test_an_optimal_attack_on_a_gaussian_finds_what_is_published(
    true: float, noise: float, published: tuple[float, float]
) -> None:
    assert epsilon(noise, 1.0, 1, 1e-5).epsilon == pytest.approx(true, rel=0.01)
    draws = np.random.default_rng(7)
    for canaries, expected in zip((1000, 5000), published, strict=True):
        found = []
        for _ in range(6):
            included = draws.random(canaries) < 0.5
            found.append(one_run_bound(CanaryScores(included, included + noise * draws.normal(size=canaries)), 1e-5))
        assert np.mean([bound.epsilon for bound in found]) == pytest.approx(expected, abs=0.35)
        assert max(bound.epsilon for bound in found) < true


def test_scores_that_know_nothing_certify_nothing() -> None:
    draws = np.random.default_rng(3)
    found = [
        one_run_bound(CanaryScores(draws.random(200) < 0.5, draws.normal(size=200)), 0.0).epsilon for _ in range(100)
    ]
    # One in twenty may be wrong, although several numbers of guesses were tried.
    assert sum(bound > 0 for bound in found) <= 5


def test_scores_that_know_everything_certify_the_most_that_so_many_can() -> None:
    included = np.arange(400) % 2 == 0
    found = one_run_bound(CanaryScores(included, included.astype(float)), 1e-5)
    assert found.epsilon == found.most > 3
    assert found.correct == found.guesses in guess_counts(400)


def test_guesses_are_the_highest_for_in_and_the_lowest_for_out() -> None:
    included = np.array([True, True, False, False, True, False])
    scored = CanaryScores(included, np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]))
    assert [correct_guesses(scored, guesses) for guesses in (2, 4, 6)] == [2, 3, 4]


def test_numbers_of_guesses_depend_on_the_number_of_canaries_alone() -> None:
    assert guess_counts(1000) == (500, 200, 100, 40)
    assert guess_counts(20) == (10,)


def test_coins_are_fair_independent_and_new_each_time() -> None:
    coins = fair_coins(20_001)
    assert coins.shape == (20_001,)
    assert abs(coins.mean() - 0.5) < 5 * 0.5 / math.sqrt(20_001)
    assert abs((coins[1:] == coins[:-1]).mean() - 0.5) < 5 * 0.5 / math.sqrt(20_000)
    assert (coins != fair_coins(20_001)).any()


@pytest.mark.parametrize(
    ("scored", "words"),
    [
        (CanaryScores(np.zeros(30, bool), np.zeros(29)), "29 scores for 30 coins"),
        (CanaryScores(np.zeros(30, bool), np.full(30, np.inf)), "not finite"),
        (CanaryScores(np.zeros(10, bool), np.zeros(10)), "fewer than 20"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(scored: CanaryScores, words: str) -> None:
    with pytest.raises(DataError, match=words):
        one_run_bound(scored, 1e-5)


def test_a_delta_that_is_no_probability_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be probabilities"):
        one_run_bound(CanaryScores(np.zeros(30, bool), np.zeros(30)), 1.5)
