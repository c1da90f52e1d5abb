from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from more_model.errors import DataError
from more_model.evaluation.auroc import delong_variance
from more_model.evaluation.bootstrap import (
    mean_over_labels,
    percentile_interval,
    replicate_aurocs,
    resample_patients,
    reverse_percentile_interval,
)


def test_draws_depend_on_the_set_of_patients_only() -> None:
    once = resample_patients(["b", "a", "c"], ["s", "s", "s"], replicates=50, seed=3)
    again = resample_patients(["c", "c", "a", "b", "a"], ["s"] * 5, replicates=50, seed=3)
    assert once.row_of == again.row_of
    np.testing.assert_array_equal(once.counts, again.counts)
    assert (once.counts.sum(axis=0) == 3).all()
    other = resample_patients(["b", "a", "c"], ["s", "s", "s"], replicates=50, seed=4)
    assert (other.counts != once.counts).any()


def test_the_same_number_at_two_hospitals_is_two_patients() -> None:
    resamples = resample_patients(["1", "1"], ["north", "south"], replicates=5, seed=0)
    assert len(resamples.row_of) == 2
    assert resamples.rows(["1", "1"], ["south", "north"]).tolist() == [1, 0]


def test_an_unknown_patient_is_refused_without_naming_them() -> None:
    resamples = resample_patients(["a"], ["s"], replicates=2, seed=0)
    with pytest.raises(DataError, match="not among the resampled") as caught:
        resamples.rows(["secret-7"], ["s"])
    assert "secret-7" not in str(caught.value)
    with pytest.raises(DataError, match="0 bootstrap replicates"):
        resample_patients(["a"], ["s"], replicates=0, seed=0)


def test_replicates_equal_an_explicit_resampling_of_all_rows_of_a_patient(make_scored) -> None:
    generator = np.random.default_rng(0)
    patient = [f"p{i}" for i in generator.integers(0, 15, size=60)]
    y = generator.integers(0, 2, size=60).astype(float)
    score = np.round(generator.normal(size=60) + y, 1)
    scored = make_scored(y, score, patient=patient)
    resamples = resample_patients(patient, scored.site, replicates=20, seed=1)
    ours = replicate_aurocs(scored, resamples)
    for replicate in range(20):
        counts = {patient: resamples.counts[row, replicate] for (_, patient), row in resamples.row_of.items()}
        rows = [i for i in range(60) for _ in range(counts[patient[i]])]
        assert ours[replicate] == pytest.approx(roc_auc_score(y[rows], score[rows]), abs=1e-12)


def test_replicates_without_a_class_are_nan(make_scored) -> None:
    scored = make_scored([1, 1, 0, 0, 0, 0, 0, 0], range(8))
    resamples = resample_patients(scored.patient, scored.site, replicates=400, seed=0)
    values = replicate_aurocs(scored, resamples)
    lacking = (resamples.counts[:2].sum(axis=0) == 0) | (resamples.counts[2:].sum(axis=0) == 0)
    assert 20 < lacking.sum() < 80  # (6/8)^8 = 10 % of 400
    np.testing.assert_array_equal(np.isnan(values), lacking)


def test_percentile_interval() -> None:
    assert percentile_interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert percentile_interval(np.array([np.nan, 1.0, 3.0, np.nan])) == pytest.approx((1.05, 2.95))
    assert percentile_interval(np.array([np.nan, 1.0])) is None


def test_reverse_percentile_interval_mirrors_and_stays_within_a_share() -> None:
    drawn = np.linspace(0.1, 0.3, 1001)
    assert reverse_percentile_interval(0.15, drawn) == pytest.approx((0.005, 0.195))
    assert reverse_percentile_interval(0.1, drawn) == pytest.approx((0.0, 0.095))
    assert reverse_percentile_interval(0.1, np.array([np.nan, 0.2])) is None


def test_mean_over_labels_skips_what_is_missing() -> None:
    values = np.array([[0.5, np.nan, np.nan], [0.7, 0.9, np.nan]])
    np.testing.assert_allclose(mean_over_labels(values), [0.6, 0.9, np.nan])


def test_intervals_cover_the_truth_about_as_often_as_they_claim(make_scored) -> None:
    # Two normal classes one deviation apart: AUROC = Phi(1 / sqrt 2).
    truth, covered, trials = 0.7602499, 0, 200
    for seed in range(trials):
        generator = np.random.default_rng(seed)
        y = np.repeat([0.0, 1.0], [50, 30])
        scored = make_scored(y, generator.normal(size=80) + y)
        resamples = resample_patients(scored.patient, scored.site, replicates=200, seed=seed)
        low, high = percentile_interval(replicate_aurocs(scored, resamples))
        covered += low <= truth <= high
    assert 0.90 <= covered / trials <= 0.98


def test_several_rows_per_patient_widen_the_interval(make_scored) -> None:
    generator = np.random.default_rng(1)
    y = np.repeat(generator.integers(0, 2, size=40), 5).astype(float)
    score = y + np.repeat(generator.normal(size=40), 5) + 0.01 * generator.normal(size=200)
    by_patient = make_scored(y, score, patient=[f"p{i // 5}" for i in range(200)])
    by_row = make_scored(y, score)

    def deviation(scored) -> float:
        resamples = resample_patients(scored.patient, scored.site, replicates=500, seed=2)
        return float(np.nanstd(replicate_aurocs(scored, resamples)))

    assert deviation(by_row) == pytest.approx(np.sqrt(delong_variance(y, score)), rel=0.15)
    assert deviation(by_patient) > 1.8 * deviation(by_row)
