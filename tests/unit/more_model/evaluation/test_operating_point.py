from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from more_model.errors import DataError
from more_model.evaluation.operating_point import (
    sensitivity_at_specificity,
    sensitivity_figure,
    specificity_at_sensitivity,
    specificity_figure,
)
from more_model.evaluation.ranked import rank, weighted_figures

#: Hanley and McNeil, Radiology 1982, table I: ratings 1 to 5 of 58 normal and 51 abnormal CT images.
NORMAL, ABNORMAL = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)


def hanley_mcneil() -> tuple[np.ndarray, np.ndarray]:
    ratings = np.arange(1.0, 6.0)
    y = np.repeat([0.0, 1.0], [sum(NORMAL), sum(ABNORMAL)])
    return y, np.concatenate([np.repeat(ratings, NORMAL), np.repeat(ratings, ABNORMAL)])


def test_hanley_and_mcneil_by_hand() -> None:
    y, score = hanley_mcneil()
    # Rating 5 alone: 2 of 58 false alarms; 4 and 5: 13 of 58.
    strict = sensitivity_at_specificity(y, score, 0.9)
    assert (strict.sensitivity, strict.specificity, strict.threshold) == (33 / 51, 1 - 2 / 58, 5.0)
    loose = sensitivity_at_specificity(y, score, 0.75)
    assert (loose.sensitivity, loose.specificity, loose.threshold) == (44 / 51, 1 - 13 / 58, 4.0)
    # 46 of 51 rated at least 3: the first rating that reaches 0.9.
    sensitive = specificity_at_sensitivity(y, score, 0.9)
    assert (sensitive.sensitivity, sensitive.specificity, sensitive.threshold) == (46 / 51, 1 - 19 / 58, 3.0)


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("seed", range(3))
def test_is_the_best_point_of_the_roc_curve_of_scikit_learn(seed, levels) -> None:
    generator = np.random.default_rng(seed)
    y = (generator.random(150) < 0.4).astype(float)
    score = generator.normal(size=150) + y
    score = score if levels is None else np.round(score * levels) / levels
    alarms, hits, _ = roc_curve(y, score, drop_intermediate=False)
    for at in (0.8, 0.9, 0.95):
        assert sensitivity_at_specificity(y, score, at).sensitivity == pytest.approx(hits[1 - alarms >= at].max())
        assert specificity_at_sensitivity(y, score, at).specificity == pytest.approx((1 - alarms)[hits >= at].max())


def test_the_threshold_gives_what_is_stated() -> None:
    generator = np.random.default_rng(3)
    y = (generator.random(90) < 0.4).astype(float)
    score = np.round(generator.normal(size=90) + y, 1)
    for point in (sensitivity_at_specificity(y, score, 0.9), specificity_at_sensitivity(y, score, 0.9)):
        called = score >= point.threshold
        assert called[y == 1].mean() == pytest.approx(point.sensitivity)
        assert (~called[y == 0]).mean() == pytest.approx(point.specificity)


def test_a_share_that_is_met_exactly_counts_as_met() -> None:
    y, score = [0] * 10 + [1, 1], [9, *range(9), 9.5, 8.5]
    point = sensitivity_at_specificity(y, score, 0.9)
    assert (point.sensitivity, point.specificity, point.threshold) == (1.0, 0.9, 8.5)


def test_where_no_threshold_is_specific_enough_nothing_is_called() -> None:
    point = sensitivity_at_specificity([1, 1, 0, 0], [1, 1, 2, 2], 0.9)
    assert (point.sensitivity, point.specificity, point.threshold, point.reason) == (0.0, 1.0, None, None)


def test_refusals() -> None:
    point = specificity_at_sensitivity([1, 0, 0, np.nan], [3, 2, 1, 0])
    assert (point.sensitivity, point.specificity, point.threshold) == (None, None, None)
    assert point.reason == "1 positive, at least 2 of either are needed"
    with pytest.raises(DataError, match="operating point at 90"):
        sensitivity_at_specificity([1, 1, 0, 0], [4, 3, 2, 1], 90)
    with pytest.raises(DataError, match="operating point at 0"):
        specificity_figure(0.0)


def test_every_weighting_chooses_its_own_threshold() -> None:
    generator = np.random.default_rng(4)
    y = (generator.random(60) < 0.4).astype(float)
    score = np.round(generator.normal(size=60) + y, 1)
    weights = generator.integers(0, 3, size=(30, 60))
    drawn = weighted_figures(
        rank(y, score), np.arange(60), weights.T, [sensitivity_figure(0.9), specificity_figure(0.9)]
    )
    for replicate, weight in enumerate(weights):
        rows = np.repeat(np.arange(60), weight)
        sensitive = sensitivity_at_specificity(y[rows], score[rows], 0.9).sensitivity
        specific = specificity_at_sensitivity(y[rows], score[rows], 0.9).specificity
        assert drawn[:, replicate] == pytest.approx([sensitive, specific])
