"""Figures of readers: against direct computation, and that the two intervals mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from more_model.reader_study.measured import (
    LEAST_RANDOM_READERS,
    Measured,
    average,
    difference,
    draw,
    measure_auroc,
    measure_share,
    reader_mean,
)


def test_auroc_replicates_are_those_of_repeated_cases() -> None:
    generator = np.random.default_rng(1)
    truth, rating = np.arange(20) % 2.0, generator.integers(1, 6, size=20).astype(np.float64)
    draws = draw(list(range(20)), 2, replicates=5, seed=3)
    measured = measure_auroc(truth, rating, draws)
    assert measured.value == pytest.approx(roc_auc_score(truth, rating))
    for replicate in range(5):
        repeats = draws.case_weights[:, replicate]
        expected = roc_auc_score(np.repeat(truth, repeats), np.repeat(rating, repeats))
        assert measured.replicates[replicate] == pytest.approx(expected)


def test_cases_of_one_patient_are_drawn_together() -> None:
    draws = draw([0, 0, 1, 1, 2], 1, replicates=50, seed=0)
    weights = draws.case_weights
    assert np.array_equal(weights[0], weights[1]) and np.array_equal(weights[2], weights[3])
    assert ((weights[0] + weights[2] + weights[4]) == 3).all()


def test_shares_by_hand() -> None:
    draws = draw([0, 1, 2, 3], 1, replicates=4, seed=0)
    hits = np.array([1.0, 0.0, 1.0, np.nan])
    measured = measure_share(hits, np.array([True, True, False, True]), draws, empty="nothing")
    assert measured.value == 0.5
    first_two = draws.case_weights[:2].astype(float)
    with np.errstate(invalid="ignore"):
        assert measured.replicates == pytest.approx(first_two[0] / first_two.sum(axis=0), nan_ok=True)
    none = measure_share(hits, np.array([False, False, False, True]), draws, empty="nothing")
    assert none.as_json() == {"value": None, "reason": "nothing"}


def test_difference_is_paired() -> None:
    """Two figures that move together differ by the same in every resample: no width is left to the interval."""
    wobble = np.random.default_rng(0).normal(size=200)
    gain = difference(Measured(0.8, 0.8 + wobble), Measured(0.7, 0.7 + wobble))
    assert gain.value == pytest.approx(0.1)
    assert np.ptp(gain.replicates) < 1e-9


def test_a_figure_without_spread_or_of_one_patient_has_no_interval() -> None:
    assert Measured(1.0, np.ones(9)).as_json()["interval_reason"].startswith("every resample gives the same value")
    draws = draw([0, 0, 1, 2], 1, replicates=30, seed=0)
    measured = measure_auroc(np.array([1.0, 1, 0, 0]), np.array([5.0, 2, 1, 3]), draws)
    assert measured.as_json() == {
        "value": 0.75, "ci95": None, "interval_reason": "all cases of a class belong to one patient",
    }  # fmt: skip
    assert difference(measured, Measured(0.5, np.zeros(30))).as_json()["ci95"] is None


def test_means_leave_out_what_has_no_value() -> None:
    parts = [Measured(0.6, np.array([0.5, 0.7])), Measured(None, np.full(2, np.nan), "why"), Measured(0.8, np.ones(2))]
    mean = average(parts)
    assert mean.value == pytest.approx(0.7)
    assert mean.replicates == pytest.approx([0.75, 0.85])
    assert average([parts[1]]).as_json() == {"value": None, "reason": "why"}


def readers(levels: list[float], replicates: int) -> list[Measured]:
    noise = np.random.default_rng(2).normal(0, 0.01, size=replicates)
    return [Measured(level, level + noise) for level in levels]


def test_random_readers_widen_the_interval_where_readers_differ() -> None:
    draws = draw(list(range(30)), 6, replicates=2000, seed=1)
    levels = [0.6, 0.65, 0.7, 0.8, 0.85, 0.9]
    mean = reader_mean(readers(levels, 2000), draws)
    assert mean["value"] == pytest.approx(0.75)
    fixed, random = np.ptp(mean["ci95_fixed_readers"]), np.ptp(mean["ci95_random_readers"])
    assert fixed == pytest.approx(2 * 1.96 * 0.01, rel=0.1)
    # The mean of six draws from the six levels has the standard deviation sd / sqrt(6).
    expected = 2 * 1.96 * np.hypot(np.std(levels) / np.sqrt(6), 0.01)
    assert random == pytest.approx(expected, rel=0.1)
    alike = reader_mean(readers([0.75] * 6, 2000), draws)
    assert np.ptp(alike["ci95_random_readers"]) == pytest.approx(np.ptp(alike["ci95_fixed_readers"]))


def test_few_readers_stand_for_themselves() -> None:
    count = LEAST_RANDOM_READERS - 1
    draws = draw(list(range(30)), count, replicates=50, seed=1)
    mean = reader_mean(readers([0.6, 0.9][:count], 50), draws)
    assert mean["ci95_random_readers"] is None
    assert "at least 3 are needed" in mean["random_readers_reason"]
