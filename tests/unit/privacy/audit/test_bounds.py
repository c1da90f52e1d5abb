"""Bounds of errors and of epsilon: against scipy's own intervals, by hand, and against what is true."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from more_model.errors import ConfigError
from privacy.accounting import epsilon
from privacy.audit.bounds import (
    best_threshold_bound,
    lower_limit,
    rate_ceiling,
    resolution,
    threshold_epsilon,
    upper_limit,
)


@pytest.mark.parametrize(("hits", "trials"), [(0, 50), (3, 50), (25, 50), (50, 50), (1, 10_000)])
def test_limits_are_those_of_clopper_and_pearson(hits: int, trials: int) -> None:
    published = binomtest(hits, trials).proportion_ci(confidence_level=0.95, method="exact")
    assert float(lower_limit(hits, trials, 0.025)) == pytest.approx(published.low, abs=1e-12)
    assert float(upper_limit(hits, trials, 0.025)) == pytest.approx(published.high, abs=1e-12)


def test_no_hit_in_n_has_the_rule_of_three() -> None:
    assert float(upper_limit(0, 10_000, 0.05)) == pytest.approx(1 - 0.05 ** (1 / 10_000))


def test_epsilon_of_counts_is_the_formula_and_is_symmetric() -> None:
    positives, negatives = (float(upper_limit(count, 1000, 0.025)) for count in (10, 400))
    by_hand = math.log((1 - 1e-5 - negatives) / positives)
    assert threshold_epsilon(10, 400, 1000, 1e-5, 0.95) == pytest.approx(by_hand)
    assert threshold_epsilon(400, 10, 1000, 1e-5, 0.95) == pytest.approx(by_hand)
    assert threshold_epsilon(500, 500, 1000, 1e-5, 0.95) == 0


def test_outputs_that_never_mix_give_the_resolution_of_so_many() -> None:
    found = best_threshold_bound(np.zeros(20_000), np.ones(20_000), 1e-5)
    assert (found.false_positives, found.false_negatives, found.draws) == (0, 0, 10_000)
    assert found.epsilon == resolution(10_000, 1e-5) == pytest.approx(7.9, abs=0.05)


def test_equal_distributions_give_nothing_although_a_threshold_was_searched() -> None:
    draws = np.random.default_rng(0)
    found = [best_threshold_bound(*draws.normal(size=(2, 2000)), 0.0).epsilon for _ in range(100)]
    # The bound may err in one of twenty; searching and judging on the same outputs would err far more often.
    assert sum(bound > 0 for bound in found) <= 5


def test_the_bound_of_a_gaussian_stays_below_what_is_true_and_is_not_idle() -> None:
    draws, true = np.random.default_rng(1), epsilon(1.0, 1.0, 1, 1e-5).epsilon
    found = [
        best_threshold_bound(draws.normal(size=5000), 1 + draws.normal(size=5000), 1e-5).epsilon for _ in range(40)
    ]
    assert max(found) < true
    assert np.median(found) > 1


def test_either_order_of_the_two_sides_is_seen() -> None:
    draws = np.random.default_rng(2)
    low, high = draws.normal(size=5000), 4 + draws.normal(size=5000)
    assert best_threshold_bound(low, high, 0.0).epsilon > 4


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (np.zeros(3), np.zeros(3), "at least 4"),
        (np.zeros(10), np.zeros(12), "equal numbers"),
        (np.zeros(10), np.full(10, np.nan), "not finite"),
    ],
)
def test_outputs_that_cannot_be_judged_are_refused(first: np.ndarray, second: np.ndarray, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        best_threshold_bound(first, second, 1e-5)


def test_ceiling_of_an_attack_is_the_tradeoff_curve() -> None:
    assert rate_ceiling(0.0, 0.0, 0.3) == pytest.approx(0.3)
    assert rate_ceiling(1.0, 0.01, 0.05) == pytest.approx(math.e * 0.05 + 0.01)
    assert rate_ceiling(1.0, 0.0, 0.9) == pytest.approx(1 - 0.1 / math.e)
    assert rate_ceiling(math.inf, 0.0, 0.001) == rate_ceiling(1000.0, 0.0, 0.001) == 1
