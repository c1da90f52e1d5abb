"""Deletion and insertion on a score whose parts are known, and the estimates made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from more_model.evaluation.bootstrap import resample_patients
from more_model.explain.estimates import above, by_label, difference_estimate, mean_estimate, ratio_estimate
from more_model.explain.faithfulness import curve_area, removal, removal_curves
from more_model.explain.randomised import rank_agreement

WORTH = torch.tensor([4.0, 3.0, 2.0, 1.0])
CELLS = torch.arange(4)


def score(studies: torch.Tensor) -> torch.Tensor:
    return studies @ WORTH


def test_a_perfect_map_by_hand() -> None:
    ones = torch.ones(1, 4)
    deleted, inserted = removal_curves(score, ones, torch.zeros(1, 4), CELLS, CELLS[None], 4)
    assert deleted.tolist() == [[10.0, 6.0, 3.0, 1.0, 0.0]]
    assert inserted.tolist() == [[0.0, 4.0, 7.0, 9.0, 10.0]]
    # Trapezoids of width 1/4: (10 + 6 + 6 + 3 + 3 + 1 + 1 + 0) / 8.
    assert curve_area(deleted).tolist() == [3.75]
    assert curve_area(inserted).tolist() == [6.25]


def test_random_orders_lie_on_the_straight_line_in_the_mean() -> None:
    studies = torch.ones(400, 4)
    perfect = WORTH.expand(400, 4)
    found = removal(score, studies, torch.zeros_like(studies), CELLS, perfect, steps=4, orders=2, seed=0)
    assert found.deletion.mean() == pytest.approx(5.0 - 3.75, abs=0.1)
    assert found.insertion.mean() == pytest.approx(6.25 - 5.0, abs=0.1)
    worst = removal(score, studies, torch.zeros_like(studies), CELLS, -perfect, steps=4, orders=2, seed=0)
    assert worst.deletion.mean() == pytest.approx(-1.25, abs=0.1)


def test_cells_are_replaced_whole() -> None:
    seen = []

    def keep(studies: torch.Tensor) -> torch.Tensor:
        seen.append(studies.clone())
        return studies.sum(dim=(1, 2))

    cell_of = torch.tensor([[0, 0, 1], [0, 0, 1]])
    removal_curves(keep, torch.ones(1, 2, 3), torch.full((1, 2, 3), 7.0), cell_of, torch.tensor([[1, 0]]), 2)
    assert seen[2].tolist() == [[[1.0, 1.0, 7.0], [1.0, 1.0, 7.0]]]
    assert seen[3].tolist() == [[[7.0, 7.0, 1.0], [7.0, 7.0, 1.0]]]


def test_estimates_resample_patients() -> None:
    patient, site = ["a", "a", "b", "c"], ["s"] * 4
    resamples = resample_patients(patient, site, replicates=300, seed=0)
    unit = resamples.rows(patient, site)
    values = np.array([1.0, 3.0, 5.0, np.nan])
    mean = mean_estimate(values, unit, resamples)
    assert mean["value"] == 3.0
    # The patient with two rows comes whole: a resample has means 2, 5, or between.
    assert mean["ci95"] == [2.0, 5.0]
    ratio = ratio_estimate(values, np.array([1.0, 1.0, 1.0, np.nan]), unit, resamples)
    assert ratio["value"] == 3.0
    assert ratio["ci95"] == [2.0, 5.0]
    assert above(mean, 1.9)
    assert not above(mean, 2.0)
    present = np.array([True, True, False, False])
    gap = difference_estimate(np.array([1.0, 3.0, 5.0, 7.0]), present, unit, resamples)
    assert gap["value"] == -4.0
    assert gap["ci95"] == [-5.0, -3.0]
    assert difference_estimate(values, np.ones(4, dtype=bool), unit, resamples)["value"] is None
    assert mean_estimate(np.full(4, np.nan), unit, resamples) == {"value": None, "ci95": None}
    assert by_label(["x", "y", "y", "y"], values) == {
        "x": {"value": 1.0, "cases": 1}, "y": {"value": 4.0, "cases": 2}
    }  # fmt: skip


def test_agreement_of_ranks() -> None:
    rows = np.array([[1.0, 2.0, 3.0], [5.0, 1.0, 2.0]])
    assert rank_agreement(rows, rows * 10) == pytest.approx(1.0)
    assert rank_agreement(rows, -rows) == pytest.approx(-1.0)
    assert rank_agreement(np.vstack([rows, [1.0, 1.0, 1.0]]), np.vstack([rows, rows[:1]])) == pytest.approx(1.0)
    assert rank_agreement(np.ones((2, 3)), rows) is None
