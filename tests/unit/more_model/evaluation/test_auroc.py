from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from more_model.errors import DataError
from more_model.evaluation import auroc as module
from more_model.evaluation.auroc import (
    auroc,
    delong_difference_variance,
    delong_variance,
    roc_curve,
    weighted_aurocs,
)


def sample(seed: int, n: int = 120, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = (generator.random(n) < 0.3).astype(float)
    score = generator.normal(size=n) + y
    return y, score if levels is None else np.round(score * levels) / levels


def test_hand_computed_with_ties() -> None:
    # Positives 3, 1; negatives 2, 1, 0. Pairs won: 3 > 2, 1, 0 (3); 1 = 1 (half), 1 > 0 (1): 4.5 of 6.
    result = auroc([1, 0, 1, 0, 0], [3, 2, 1, 1, 0])
    assert result.value == 4.5 / 6
    assert (result.positives, result.negatives, result.reason) == (2, 3, None)


@pytest.mark.parametrize("levels", [None, 2, 1])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_learn(seed, levels) -> None:
    y, score = sample(seed, levels=levels)
    assert auroc(y, score).value == pytest.approx(roc_auc_score(y, score), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2])
def test_weighted_agrees_with_scikit_learn_replicate_by_replicate(levels) -> None:
    y, score = sample(5, levels=levels)
    weights = np.random.default_rng(1).integers(0, 4, size=(25, len(y)))
    ours = weighted_aurocs(y, score, weights)
    theirs = [roc_auc_score(y, score, sample_weight=row) for row in weights]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_weighted_takes_fractional_weights() -> None:
    y, score = sample(6, levels=3)
    weights = np.random.default_rng(2).random((7, len(y)))
    theirs = [roc_auc_score(y, score, sample_weight=row) for row in weights]
    np.testing.assert_allclose(weighted_aurocs(y, score, weights), theirs, atol=1e-12)


def test_unit_weights_give_the_plain_value_and_blocks_do_not_matter(monkeypatch) -> None:
    y, score = sample(7, levels=2)
    weights = np.random.default_rng(3).integers(0, 3, size=(40, len(y)))
    whole = weighted_aurocs(y, score, weights)
    monkeypatch.setattr(module, "_BLOCK_BYTES", 8 * len(y) * 3)
    np.testing.assert_array_equal(weighted_aurocs(y, score, weights), whole)
    assert weighted_aurocs(y, score, np.ones((1, len(y))))[0] == auroc(y, score).value


def test_a_weighting_without_one_class_is_nan() -> None:
    weights = [[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    values = weighted_aurocs([1, 1, 0, 0], [2, 3, 1, 0], weights)
    assert np.isnan(values).tolist() == [True, False, True]


def test_order_of_rows_does_not_matter() -> None:
    y, score = sample(8, levels=2)
    weights = np.random.default_rng(4).integers(0, 4, size=(30, len(y)))
    order = np.random.default_rng(5).permutation(len(y))
    np.testing.assert_array_equal(
        weighted_aurocs(y, score, weights), weighted_aurocs(y[order], score[order], weights[:, order])
    )


def test_rows_without_label_or_score_are_left_out() -> None:
    y = np.array([1, 0, 1, 0, np.nan, 1])
    score = np.array([0.9, 0.1, 0.4, 0.6, 0.99, np.nan])
    result = auroc(y, score)
    assert (result.value, result.positives, result.negatives) == (0.75, 2, 2)
    assert weighted_aurocs(y, score, np.ones((1, 6)))[0] == 0.75


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        ([1, 0, 0, 0], "1 positive, at least 2"),
        ([1, 1, 1, 0], "1 negative, at least 2"),
        ([0, 0, 0, 0], "0 positives, at least 2"),
        ([1, 0, np.nan, np.nan], "1 positive and 1 negative"),
    ],
)
def test_refuses_too_few_of_a_class(y, reason) -> None:
    result = auroc(y, [0.1, 0.2, 0.3, 0.4])
    assert result.value is None
    assert reason in str(result.reason)
    assert len(roc_curve(y, [0.1, 0.2, 0.3, 0.4])[0]) == 0
    assert delong_variance(y, [0.1, 0.2, 0.3, 0.4]) is None


def test_uncertain_labels_and_odd_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="labels other than 0, 1 and NaN"):
        auroc([1, -1, 0, 0], [1, 2, 3, 4])
    with pytest.raises(DataError, match="do not belong together"):
        auroc([1, 0], [1, 2, 3])
    with pytest.raises(DataError, match=r"weights have shape \(2, 3\), expected \[replicates, 2\]"):
        weighted_aurocs([1, 0], [1, 2], np.ones((2, 3)))


def test_roc_curve_hand_computed() -> None:
    fpr, tpr = roc_curve([1, 0, 1, 0, 0], [3, 2, 1, 1, 0])
    np.testing.assert_allclose(fpr, [0, 0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(tpr, [0, 0.5, 0.5, 1, 1])


def test_roc_curve_is_thinned_and_keeps_its_area() -> None:
    y, score = sample(9, n=6000)
    fpr, tpr = roc_curve(y, score)
    assert len(fpr) <= 200
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(auroc(y, score).value, abs=2e-3)
    small = sample(10, n=50)
    assert np.trapezoid(*roc_curve(*small)[::-1]) == pytest.approx(auroc(*small).value, abs=1e-12)


def test_delong_hand_computed() -> None:
    # Positives 3, 1; negatives 2, 1, 0. Placements of positives: 1, (0 + 1/2 + 1)/3 = 1/2; variance 1/8.
    # Placements of negatives: 2 -> 1/2, 1 -> 3/4, 0 -> 1; variance 1/16. Sum: 1/8/2 + 1/16/3.
    assert delong_variance([1, 0, 1, 0, 0], [3, 2, 1, 1, 0]) == pytest.approx(1 / 16 + 1 / 48)


def test_delong_matches_the_spread_over_fresh_samples() -> None:
    draws = [sample(seed, n=200) for seed in range(400)]
    spread = np.var([auroc(*draw).value for draw in draws], ddof=1)
    expected = np.mean([delong_variance(*draw) for draw in draws])
    assert spread == pytest.approx(expected, rel=0.2)


def test_delong_difference() -> None:
    y, score = sample(11)
    assert delong_difference_variance(y, score, score) == 0.0
    other = score + np.random.default_rng(6).normal(size=len(y))
    paired = delong_difference_variance(y, score, other)
    unpaired = delong_variance(y, score) + delong_variance(y, other)
    assert 0 < paired < unpaired
