"""Pooled AUROC from counts: always within its bounds, and no count below the minimum is ever told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from more_model.errors import ConfigError, DataError
from more_model.evaluation.auroc import auroc, delong_variance
from more_model.evaluation.embedded import Float64, LabelTask, ScoredLabel
from more_model.evaluation.score_histograms import (
    ScoreBins,
    centred_bins,
    joined,
    macro_auroc,
    one_per_patient,
    pooled_auroc,
    quantile_bins,
    score_counts,
)
from more_model.score_exchange import ScoreCounts

Z95 = 1.959963984540054
CLOSE = 1e-9


def scored(y: Sequence[float], score: Sequence[float], patient: Sequence[str] | None = None) -> ScoredLabel:
    names = [str(row) for row in range(len(y))] if patient is None else patient
    values = np.array(y, dtype=np.float64), np.array(score, dtype=np.float64)
    return ScoredLabel(LabelTask("Edema", "xray"), *values, names, ["north"] * len(y))


def drawn(generator: np.random.Generator, ties: bool) -> tuple[Float64, Float64]:
    """Labels and scores of one site with 0 to 59 patients, of any prevalence."""
    patients = int(generator.integers(0, 60))
    y = (generator.random(patients) < generator.random()).astype(np.float64)
    score = generator.normal(0, 0.1, patients) + y * generator.normal(0.05, 0.1)
    return y, np.round(score, int(generator.integers(0, 3))) if ties else score


@pytest.mark.parametrize("minimum", [1, 2, 5, 10])
@pytest.mark.parametrize("ties", [False, True], ids=["scores", "tied scores"])
def test_the_exact_figures_lie_within_the_bounds(minimum: int, ties: bool) -> None:
    generator = np.random.default_rng([minimum, ties])
    measured = 0
    for _ in range(200):
        bins = centred_bins(int(generator.choice([1, 2, 7, 50, 200])), float(generator.choice([0.02, 0.05, 1.0])))
        sites = [drawn(generator, ties) for _ in range(generator.integers(1, 5))]
        told = [(score_counts(scored(list(y), list(score)), bins, minimum), minimum) for y, score in sites]
        y, score = (np.concatenate(part) for part in zip(*sites, strict=True))
        pooled, exact = pooled_auroc(told, bins.count), auroc(y, score)
        assert pooled.positives[0] <= exact.positives <= pooled.positives[1]
        assert pooled.negatives[0] <= exact.negatives <= pooled.negatives[1]
        if pooled.value is None:
            continue
        measured += 1
        assert pooled.low is not None and pooled.high is not None and exact.value is not None
        assert pooled.low - CLOSE <= exact.value <= pooled.high + CLOSE
        assert pooled.low <= pooled.value <= pooled.high
        variance = delong_variance(y, score)
        assert variance is not None and pooled.standard_error is not None and pooled.ci95 is not None
        error = float(np.sqrt(variance))
        assert error <= pooled.standard_error + CLOSE
        assert pooled.ci95[0] <= max(0.0, exact.value - Z95 * error) + CLOSE
        assert pooled.ci95[1] >= min(1.0, exact.value + Z95 * error) - CLOSE
    assert measured > 100


def test_without_joining_the_bounds_are_as_far_apart_as_patients_share_bins() -> None:
    generator = np.random.default_rng(3)
    y, score = (generator.random(400) < 0.3).astype(np.float64), generator.normal(0, 0.1, 400)
    bins = centred_bins(40)
    p, n = (np.bincount(bins.of(score[y == side]), minlength=40) for side in (1.0, 0.0))
    pooled = pooled_auroc([(score_counts(scored(list(y), list(score)), bins, 1), 1)], 40)
    assert pooled.low is not None and pooled.high is not None
    assert pooled.high - pooled.low == pytest.approx(float(p @ n) / (p.sum() * n.sum()), abs=1e-12)
    assert pooled.value == pytest.approx((pooled.low + pooled.high) / 2, abs=1e-12)


def test_more_patients_and_more_bins_narrow_the_bounds() -> None:
    def width(patients: int, bins: int, minimum: int) -> float:
        generator = np.random.default_rng(4)
        y = (generator.random(patients) < 0.3).astype(np.float64)
        score = generator.normal(0, 0.1, patients) + 0.1 * y
        counts = score_counts(scored(list(y), list(score)), centred_bins(bins), minimum)
        pooled = pooled_auroc([(counts, minimum)], bins)
        assert pooled.low is not None and pooled.high is not None
        return pooled.high - pooled.low

    assert width(3000, 200, 5) < 0.05 < width(200, 200, 5)
    assert width(3000, 200, 1) < 0.02 < width(3000, 20, 1)


def test_both_bounds_are_attained() -> None:
    """Two patients of each class in one bin: anything from 0 to 1 is possible."""
    bins = ScoreBins((-2.0, 0.0, 2.0))
    for score in ([0.1, 0.2, 0.3, 0.4], [0.3, 0.4, 0.1, 0.2]):
        pooled = pooled_auroc([(score_counts(scored([0, 0, 1, 1], score), bins, 1), 1)], bins.count)
        assert (pooled.low, pooled.value, pooled.high) == (0.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("counts", "minimum", "runs"),
    [
        ([0, 3, 0, 1, 1, 9], 1, ((1, 2, 3), (3, 4, 1), (4, 5, 1), (5, 6, 9))),
        ([0, 3, 0, 1, 1, 9], 4, ((1, 4, 4), (4, 6, 10))),
        ([0, 3, 0, 1, 1, 9], 5, ((1, 5, 5), (5, 6, 9))),
        ([6, 0, 0, 2, 0, 0], 5, ((0, 4, 8),)),
        ([0, 2, 0, 2, 0, 0], 5, None),
        ([0, 2, 0, 2, 0, 0], 4, ((1, 4, 4),)),
        ([0, 0, 0, 0, 0, 0], 5, ()),
    ],
)
def test_small_counts_join_their_neighbours(counts: list[int], minimum: int, runs: object) -> None:
    assert joined(np.array(counts), minimum) == runs


def test_no_count_below_the_minimum_is_told_and_none_is_lost() -> None:
    generator = np.random.default_rng(5)
    for _ in range(300):
        counts, minimum = generator.poisson(generator.random() * 3, 30), int(generator.integers(1, 12))
        runs = joined(counts, minimum)
        if runs is None:
            assert 0 < counts.sum() < minimum
            continue
        assert all(count >= minimum for *_, count in runs)
        assert all(counts[start:stop].sum() == count for start, stop, count in runs)
        assert sum(count for *_, count in runs) == counts.sum()


def test_a_withheld_class_widens_the_bounds_of_the_others() -> None:
    north = ScoreCounts(positives=((60, 61, 20),), negatives=((40, 41, 80),))
    alone = pooled_auroc([(north, 5)], 100)
    assert (alone.low, alone.value, alone.high) == (1.0, 1.0, 1.0)
    south = ScoreCounts(positives=None, negatives=())
    both = pooled_auroc([(north, 5), (south, 5)], 100)
    assert (both.positives, both.negatives) == ((21, 24), (80, 80))
    # At worst four more positives below every negative.
    assert (both.low, both.value, both.high) == (pytest.approx(20 / 24), 1.0, 1.0)


def test_withheld_classes_alone_give_no_figure() -> None:
    sites = [(ScoreCounts(None, ((0, 9, 30),)), 5)] * 3
    pooled = pooled_auroc(sites, 10)
    assert (pooled.value, pooled.low, pooled.ci95, pooled.positives) == (None, None, None, (3, 12))
    assert pooled.reason == "0 positives, at least 2 of either are needed"


def test_a_patient_counts_once_with_the_first_study_that_says_something() -> None:
    nan = float("nan")
    label = scored([nan, 1, 0, 1, 0], [0.1, nan, 0.2, 0.3, 0.4], ["a", "a", "a", "b", "b"])
    rows = one_per_patient(label)
    assert (rows.patient, list(rows.y), list(rows.score)) == (["a", "b"], [0, 1], [0.2, 0.3])
    assert score_counts(label, centred_bins(), 2) == ScoreCounts(None, None)


def test_every_score_has_a_bin() -> None:
    bins = centred_bins(10, 0.05)
    assert bins.of([-2.0000001, -2.0, 0.0, 2.0, 2.0000001]).tolist() == [0, 0, 5, 9, 9]
    assert np.diff(bins.edges)[4] < np.diff(bins.edges)[0] / 20
    assert centred_bins(4, 1e6).edges == pytest.approx((-2, -1, 0, 1, 2))


def test_edges_at_quantiles_are_dense_where_scores_are() -> None:
    scores = np.random.default_rng(7).normal(0.3, 0.001, (50, 20))
    scores[0, 0] = np.nan
    counts = np.bincount(quantile_bins(scores, 100).of(scores[~np.isnan(scores)]), minlength=100)
    assert len(counts) == 100 and counts.min() >= 9 and counts.max() <= 11
    assert quantile_bins([0.1] * 50, 100).edges == (-2.0, 0.1, 2.0)


@pytest.mark.parametrize(
    ("edges", "fault"),
    [
        ((-2.0, 0.0, 1.0), "not from -2 to 2"),
        ((-2.0, 0.5, 0.5, 2.0), "do not rise"),
        ((-2.0, float("nan"), 2.0), "do not rise"),
        ((-2.0,), "0 bins"),
        ((), "-1 bins"),
    ],
    ids=str,
)
def test_edges_that_are_none(edges: tuple[float, ...], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        ScoreBins(edges)


def test_runs_outside_the_bins_are_not_pooled() -> None:
    with pytest.raises(DataError, match="outside the agreed bins"):
        pooled_auroc([(ScoreCounts(((0, 11, 9),), ((0, 1, 9),)), 5)], 10)


def test_the_macro_interval_contains_that_of_labels_that_rise_and_fall_together() -> None:
    """Three labels that are the same one: the mean varies as much as each."""
    generator = np.random.default_rng(6)
    y = (generator.random(500) < 0.4).astype(np.float64)
    score = generator.normal(0, 0.1, 500) + 0.05 * y
    one = pooled_auroc([(score_counts(scored(list(y), list(score)), centred_bins(), 5), 5)], 200)
    macro = macro_auroc([one, one, one])
    assert (macro.labels, macro.value, macro.low, macro.high) == (
        3,
        *map(pytest.approx, (one.value, one.low, one.high)),
    )
    assert macro.ci95 == pytest.approx(one.ci95)
    none = macro_auroc([])
    assert (none.value, none.ci95, none.labels) == (None, None, 0)
