"""Level 3: area, rates and ceilings against what is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from more_model.errors import DataError
from privacy.audit.bounds import rate_ceiling
from privacy.audit.membership import auc, auc_ceiling, membership
from privacy.audit.subject import MembershipScores

DRAWS = np.random.default_rng(0)


def test_auc_with_ties_is_that_of_scikit_learn() -> None:
    members, outsiders = DRAWS.integers(0, 8, 60) + 1.0, DRAWS.integers(0, 8, 40) + 0.0
    truth = np.concatenate([np.ones(60), np.zeros(40)])
    assert auc(members, outsiders) == pytest.approx(roc_auc_score(truth, np.concatenate([members, outsiders])))


def test_a_gaussian_attack_is_measured_within_its_intervals() -> None:
    draws, shift = np.random.default_rng(4), 1.0
    result = membership(MembershipScores(shift + draws.normal(size=4000), draws.normal(size=4000), 16))
    normal = lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2)))  # noqa: E731
    assert result.auc.low < normal(shift / math.sqrt(2)) < result.auc.high
    quantiles = {0.001: 3.0902, 0.01: 2.3263}
    for rate in result.rates:
        assert rate.found is not None
        assert rate.found.low < 1 - normal(quantiles[rate.false_positive_rate] - shift) < rate.found.high
    assert (result.members, result.outsiders, result.references) == (4000, 4000, 16)


def test_too_few_outsiders_for_a_rate_are_said_and_no_rate_is_made_up() -> None:
    draws = np.random.default_rng(5)
    thousandth, hundredth = membership(MembershipScores(draws.normal(size=50), draws.normal(size=500), 4)).rates
    assert thousandth.found is None
    assert thousandth.why_not == "500 outsiders cannot show a rate of 0.1%: at least 1000 are needed"
    assert hundredth.found is not None and hundredth.why_not == ""


def test_resampling_is_repeatable_and_chance_is_inside() -> None:
    draws = np.random.default_rng(6)
    scores = MembershipScores(draws.normal(size=300), draws.normal(size=300), 4)
    assert membership(scores) == membership(scores)
    assert membership(scores).auc.low < 0.5 < membership(scores).auc.high


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (1.0, 0.0), (0.93, 0.01), (8.0, 1e-5)])
def test_the_ceiling_of_the_area_is_the_area_under_the_ceiling_of_rates(epsilon: float, delta: float) -> None:
    rates = np.concatenate([[0.0], np.geomspace(1e-7, 1, 40_001)])
    heights = np.array([rate_ceiling(epsilon, delta, rate) for rate in rates])
    area = float(((heights[1:] + heights[:-1]) / 2 * np.diff(rates)).sum())
    assert auc_ceiling(epsilon, delta) == pytest.approx(area, abs=1e-4)


def test_no_claim_allows_everything() -> None:
    assert auc_ceiling(math.inf, 0.0) == 1.0


@pytest.mark.parametrize(
    ("members", "outsiders", "words"),
    [(np.zeros(9), np.zeros(100), "9 members"), (np.zeros(10), np.full(10, np.nan), "not finite")],
)
def test_scores_that_show_nothing_are_refused(members: np.ndarray, outsiders: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        membership(MembershipScores(members, outsiders, 1))
