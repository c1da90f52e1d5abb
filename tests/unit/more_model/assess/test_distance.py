"""Distances grow away from training, and limits keep what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from more_model.assess.distance import Distance, fit_distance, held_out_distances, set_limit
from more_model.errors import DataError


def drawn(n: int, seed: int) -> np.ndarray:
    """Correlated columns of different size."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(6, 6)) * [0.01, 0.1, 1, 1, 10, 100]
    return generator.normal(size=(n, 6)) @ mixing + 3


def test_a_distance_is_that_of_mahalanobis_per_direction() -> None:
    rows, item = drawn(400, 0), drawn(1, 1)
    expected = (item - rows.mean(0)) @ np.linalg.inv(np.cov(rows.T, bias=True)) @ (item - rows.mean(0)).T / 6
    assert fit_distance(rows).of(item)[0] == pytest.approx(float(np.sqrt(expected[0, 0])), rel=0.1)
    assert np.sqrt((fit_distance(rows).of(rows) ** 2).mean()) == pytest.approx(1, rel=0.1)


def test_a_column_that_never_varied_and_rows_without_an_item() -> None:
    rows = np.column_stack([drawn(50, 0), np.full(50, 7.0)])
    rows[3, 2] = np.nan
    distance = fit_distance(rows)
    other = rows[:2].copy()
    other[:, 6] += 5
    np.testing.assert_array_equal(distance.of(other), distance.of(rows[:2]))
    assert np.isnan(distance.of(rows[3:4])[0])
    with pytest.raises(DataError, match="1 training items"):
        fit_distance(rows[:1])
    with pytest.raises(DataError, match="2 columns, fitted on 7"):
        distance.of(rows[:, :2])


def test_it_comes_back_from_its_tensors() -> None:
    distance = fit_distance(drawn(30, 0))
    again = Distance.from_tensors(distance.tensors("a"), "a")
    np.testing.assert_array_equal(again.of(drawn(5, 1)), distance.of(drawn(5, 1)))


def test_good_items_are_refused_as_rarely_as_promised() -> None:
    """Over many training and validation sets; the share is an expectation over them."""
    shares, promised = [], set()
    for seed in range(60):
        distance = fit_distance(drawn(60, 3 * seed))
        limit = set_limit(distance.of(drawn(39, 3 * seed + 1)), np.empty(0), 0.1)
        promised.add(limit.false_refusals)
        shares.append(float((distance.of(drawn(500, 3 * seed + 2)) > limit.value).mean()))
    assert promised == {0.1}
    assert 0.07 < float(np.mean(shares)) < 0.13


def test_a_limit_by_few_items_says_what_it_can_promise() -> None:
    limit = set_limit(np.array([1.0, 3.0, np.nan, 2.0]), np.empty(0), 0.05)
    assert (limit.value, limit.false_refusals, limit.items) == (3.0, 0.25, 3)
    with pytest.raises(DataError, match="no validation item"):
        set_limit(np.array([np.nan]), np.ones(5), 0.05)


def test_a_lucky_validation_set_does_not_set_the_limit_alone() -> None:
    training = np.linspace(0, 10, 101)
    assert set_limit(np.array([1.0, 1.0, 1.0]), training, 0.25).value == pytest.approx(7.5)
    assert set_limit(np.array([1.0, 1.0, 20.0]), training, 0.25).value == 20.0


def test_training_items_are_measured_from_other_patients() -> None:
    rows = drawn(40, 0)
    rows[:2] += 500.0
    alone = held_out_distances(rows, ["a", "a", *(f"p{row}" for row in range(38))])
    # Both outliers belong to one patient, so neither pulls the distance towards the other.
    assert alone[:2].min() > 3 * fit_distance(rows).of(rows)[:2].max()
    assert np.isnan(held_out_distances(rows[:1], ["a"])).all()
