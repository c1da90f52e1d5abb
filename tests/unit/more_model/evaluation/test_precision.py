from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from more_model.errors import DataError
from more_model.evaluation import ranked
from more_model.evaluation.precision import average_precision, weighted_average_precisions_by_unit


def sample(seed: int, n: int = 120, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = (generator.random(n) < 0.3).astype(float)
    score = generator.normal(size=n) + y
    return y, score if levels is None else np.round(score * levels) / levels


def test_hand_computed_with_ties() -> None:
    # At 3: 1 of 1, recall 1/3. At 2: a hit and an alarm enter together, 2 of 3, recall 2/3. At 1: 3 of 5, recall 1.
    result = average_precision([1, 1, 0, 0, 1], [3, 2, 2, 1, 1])
    assert result.value == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert (result.positives, result.negatives, result.prevalence, result.reason) == (3, 2, 0.6, None)


@pytest.mark.parametrize("levels", [None, 2, 1])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_learn(seed, levels) -> None:
    y, score = sample(seed, levels=levels)
    assert average_precision(y, score).value == pytest.approx(average_precision_score(y, score), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2])
def test_weighted_agrees_with_scikit_learn_replicate_by_replicate(levels) -> None:
    y, score = sample(5, levels=levels)
    weights = np.random.default_rng(1).integers(0, 4, size=(25, len(y)))
    ours = weighted_average_precisions_by_unit(y, score, np.arange(len(y)), weights.T)
    theirs = [average_precision_score(y, score, sample_weight=row) for row in weights]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_rows_of_one_patient_share_their_weight_and_blocks_do_not_matter(monkeypatch) -> None:
    y, score = sample(6, levels=2)
    unit = np.random.default_rng(2).integers(0, 30, size=len(y))
    weights = np.random.default_rng(3).integers(0, 3, size=(30, 40))
    whole = weighted_average_precisions_by_unit(y, score, unit, weights)
    theirs = [average_precision_score(y, score, sample_weight=column[unit]) for column in weights.T]
    np.testing.assert_allclose(whole, theirs, atol=1e-12)
    monkeypatch.setattr(ranked, "_BLOCK_BYTES", 8 * len(y) * 3)
    np.testing.assert_allclose(weighted_average_precisions_by_unit(y, score, unit, weights), whole, rtol=1e-12)


def test_rows_without_label_or_score_are_left_out() -> None:
    y, score = np.array([1, 0, 1, 0, np.nan, 1]), np.array([4, 3, 2, 1, 9, np.nan])
    result = average_precision(y, score)
    assert result.value == pytest.approx((1 + 2 / 3) / 2)
    assert (result.positives, result.negatives) == (2, 2)


def test_refuses_where_the_auroc_is_refused() -> None:
    result = average_precision([1, 0, 0], [3, 2, 1])
    assert result.value is None
    assert result.reason == "1 positive, at least 2 of either are needed"
    assert average_precision([], []).prevalence is None
    lacking = weighted_average_precisions_by_unit([1, 1, 0, 0], [3, 2, 1, 0], np.arange(4), np.eye(4)[:, :1])
    assert np.isnan(lacking).all()


def test_unsettled_labels_are_refused() -> None:
    with pytest.raises(DataError, match="other than 0, 1 and NaN"):
        average_precision([1, -1, 0], [3, 2, 1])
    with pytest.raises(DataError, match="do not belong together"):
        average_precision([1, 0], [3, 2, 1])
