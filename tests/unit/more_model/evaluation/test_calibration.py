from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from more_model.errors import DataError
from more_model.evaluation.calibration import (
    Calibrator,
    brier,
    calibration_refusal,
    error_floor,
    expected_calibration_error,
    fit_calibrator,
    reliability_table,
)


def sample(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    score = generator.normal(size=n)
    return (generator.random(n) < 1 / (1 + np.exp(-(2 * score - 1)))).astype(float), score


def test_brier_and_its_decomposition_by_hand() -> None:
    # Five times 0.2 with one positive, five times 0.8 with three: prevalence 0.4.
    p, y = [0.2] * 5 + [0.8] * 5, [1, 0, 0, 0, 0, 1, 1, 1, 0, 0]
    result = brier(y, p)
    assert result.value == pytest.approx((0.64 + 4 * 0.04 + 3 * 0.04 + 2 * 0.64) / 10)
    assert result.uncertainty == pytest.approx(0.4 * 0.6)
    assert result.reliability == pytest.approx((5 * 0.0**2 + 5 * 0.2**2) / 10)
    assert result.resolution == pytest.approx((5 * 0.2**2 + 5 * 0.2**2) / 10)
    assert result.within == pytest.approx(0.0, abs=1e-15)
    assert result.skill == pytest.approx(1 - 0.22 / 0.24)


@pytest.mark.parametrize("kind", ["width", "mass"])
def test_brier_agrees_with_scikit_learn_and_its_parts_add_up(kind) -> None:
    y, score = sample(0)
    p = 1 / (1 + np.exp(-score))
    result = brier(y, p, kind=kind)
    assert result.value == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    parts = result.reliability - result.resolution + result.uncertainty + result.within
    assert parts == pytest.approx(result.value, abs=1e-12)
    assert abs(result.within) < 0.2 * result.value
    assert brier([1, 1], [0.5, 0.7]).skill is None


def test_expected_calibration_error_by_hand() -> None:
    # Bins (0, .1], (.1, .2] with two rows, (.8, .9], (.9, 1]: gaps .05, .35 twice, .85, .05.
    y, p = [0, 1, 0, 0, 1], [0.05, 0.15, 0.15, 0.85, 0.95]
    assert expected_calibration_error(y, p) == pytest.approx((0.05 + 2 * 0.35 + 0.85 + 0.05) / 5)
    # Two bins of equal mass split at the median 0.15, which is in the lower one: gaps .35 / 3 and .9 - .5.
    assert expected_calibration_error(y, p, bins=2, kind="mass") == pytest.approx(
        (3 * abs(0.35 / 3 - 1 / 3) + 2 * 0.4) / 5
    )
    assert expected_calibration_error([1, 0, np.nan], [1.0, 0.0, 0.5]) == 0.0


@pytest.mark.parametrize(("kind", "strategy"), [("width", "uniform"), ("mass", "quantile")])
@pytest.mark.parametrize("digits", [1, 6])
def test_reliability_table_is_the_curve_of_scikit_learn(kind, strategy, digits) -> None:
    y, score = sample(1)
    p = np.round(1 / (1 + np.exp(-score)), digits)
    observed, predicted = calibration_curve(y, p, n_bins=8, strategy=strategy)
    table = reliability_table(y, p, bins=8, kind=kind)
    np.testing.assert_allclose([row.observed for row in table], observed, atol=1e-12)
    np.testing.assert_allclose([row.predicted for row in table], predicted, atol=1e-12)
    assert sum(row.rows for row in table) == len(y)
    assert all(row.low - 1e-12 <= row.predicted <= row.high + 1e-12 for row in table)
    error = sum(row.rows * abs(row.observed - row.predicted) for row in table) / len(y)
    assert expected_calibration_error(y, p, bins=8, kind=kind) == pytest.approx(error, abs=1e-12)


def test_the_floor_is_what_perfect_probabilities_show_by_chance() -> None:
    generator = np.random.default_rng(2)
    p = generator.random(400)
    shown = [expected_calibration_error((generator.random(400) < p).astype(float), p) for _ in range(300)]
    assert error_floor(p) == pytest.approx(np.mean(shown), rel=0.05)
    assert error_floor([0.0, 1.0, 1.0]) == 0.0


def test_calibrator_solves_platts_equations() -> None:
    y, score = sample(3)
    fitted = fit_calibrator(y, 40 * score + 1000)
    positives = y.sum()
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    residual = fitted.probability(40 * score + 1000) - target
    assert residual.sum() == pytest.approx(0, abs=1e-5)
    assert (residual * score).sum() == pytest.approx(0, abs=1e-5)
    assert fitted.rows == 200
    truth = 1 / (1 + np.exp(-(2 * score - 1)))
    assert np.abs(fitted.probability(40 * score + 1000) - truth).max() < 0.1


def test_calibrated_probabilities_are_better_than_raw_ones_on_other_patients() -> None:
    (y, score), (other_y, other) = sample(4), sample(5)
    probability = fit_calibrator(y, 0.01 * score).probability(0.01 * other)
    squashed = 1 / (1 + np.exp(-0.01 * other))
    assert brier(other_y, probability).value < brier(other_y, squashed).value - 0.05
    assert expected_calibration_error(other_y, probability) < expected_calibration_error(other_y, squashed)


def test_separated_constant_and_reversed_scores() -> None:
    y = np.repeat([0.0, 1.0], [10, 10])
    separated = fit_calibrator(y, y)
    assert np.isfinite([separated.slope, separated.intercept]).all()
    np.testing.assert_allclose(separated.probability([0.0, 1.0]), [1 / 12, 11 / 12], atol=1e-6)
    constant = fit_calibrator(np.repeat([0.0, 1.0], [30, 10]), np.full(40, 0.3))
    assert constant.slope == 0.0
    assert constant.probability(7.0) == pytest.approx(0.25, abs=0.02)
    assert fit_calibrator(y, -y).slope == pytest.approx(-separated.slope)


def test_too_few_rows_are_refused() -> None:
    y, score = np.repeat([0.0, 1.0], [20, 4]), np.arange(24.0)
    assert calibration_refusal(y, score) == (
        "4 positives and 20 negatives to calibrate on, at least 5 of either are needed"
    )
    with pytest.raises(DataError, match="no calibrator: 4 positives"):
        fit_calibrator(y, score)
    enough = np.append(y, 1.0), np.append(score, 30.0)
    assert calibration_refusal(*enough) is None
    assert calibration_refusal(enough[0], np.append(score, np.nan)) is not None


def test_calibrator_survives_json_and_refuses_rubbish() -> None:
    calibrator = Calibrator(1.5, -0.25, 80)
    assert Calibrator.from_dict(json.loads(json.dumps(calibrator.to_dict()))) == calibrator
    np.testing.assert_array_equal(np.isnan(calibrator.probability([[0.0, np.nan]])), [[False, True]])
    assert calibrator.probability([-1e6, 1e6]).tolist() == [0.0, 1.0]
    for rubbish in ({"slope": 1.0}, {"slope": "steep", "intercept": 0, "rows": 9}, {"slope": 1, "intercept": None}):
        with pytest.raises(DataError, match="a calibrator has to state"):
            Calibrator.from_dict(rubbish)
    with pytest.raises(DataError, match="finite"):
        Calibrator.from_dict({"slope": float("nan"), "intercept": 0.0, "rows": 9})


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(DataError, match=r"outside \[0, 1\]"):
        brier([1, 0], [1.2, 0.1])
    with pytest.raises(DataError, match="no row with both"):
        expected_calibration_error([np.nan], [0.5])
    with pytest.raises(DataError, match="0 bins"):
        expected_calibration_error([1], [0.5], bins=0)
    with pytest.raises(DataError, match="other than 0, 1 and NaN"):
        brier([-1, 0], [0.2, 0.1])
