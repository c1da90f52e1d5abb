"""Geometry of embeddings: values worked out by hand, and the loss of the training code."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from more_model.evaluation import health
from more_model.evaluation.health import (
    FEWEST_ROWS,
    alignment,
    contrastive_loss,
    effective_rank,
    first_direction_share,
    measure_geometry,
    modality_gap,
    uniformity,
)
from more_model.model.loss import symmetric_info_nce

CORNERS = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])


def test_effective_rank_counts_directions() -> None:
    assert effective_rank(CORNERS) == pytest.approx(2.0)
    assert effective_rank(np.array([[2.0, 5], [3, 5], [7, 5]])) == pytest.approx(1.0)
    # Singular values 3 and 1: shares 3/4 and 1/4.
    uneven = CORNERS * np.array([3.0, 1.0])
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(uneven) == pytest.approx(expected)
    assert effective_rank(uneven * 1e-3 + 4) == pytest.approx(expected)
    assert first_direction_share(uneven) == pytest.approx(0.9)


def test_noise_of_float32_is_no_direction() -> None:
    same = np.repeat(np.array([[0.6, 0.8, 0.0]], dtype=np.float32), 20, axis=0)
    assert (effective_rank(same), first_direction_share(same)) == (0.0, 1.0)
    line = same + np.linspace(-1, 1, 20, dtype=np.float32)[:, None] * np.array([0.8, -0.6, 0], dtype=np.float32)
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-4)


def test_uniformity_by_hand() -> None:
    # Six pairs of corners: two opposite (squared distance 4), four at a right angle (2).
    expected = math.log((2 * math.exp(-8) + 4 * math.exp(-4)) / 6)
    assert uniformity(CORNERS) == pytest.approx(expected)
    assert uniformity(np.repeat(CORNERS[:1], 5, axis=0)) == 0.0


def test_alignment_and_gap_by_hand() -> None:
    assert alignment(CORNERS, CORNERS) == 0.0
    assert alignment(CORNERS, -CORNERS) == pytest.approx(4.0)
    assert alignment(CORNERS[:1], CORNERS[2:3]) == pytest.approx(2.0)
    assert modality_gap(CORNERS, CORNERS[:2]) == pytest.approx(0.0)
    assert modality_gap(CORNERS[:1], CORNERS[2:3]) == pytest.approx(math.sqrt(2))


def test_the_loss_is_that_of_training() -> None:
    generator = np.random.default_rng(1)
    left, right = (generator.normal(size=(9, 4)) for _ in range(2))
    left, right = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (left, right))
    twins = generator.random((9, 9)) < 0.2
    twins |= twins.T
    expected = symmetric_info_nce(torch.tensor(left), torch.tensor(right), torch.tensor(twins), torch.tensor([0.1]))
    loss, chance = contrastive_loss(left, right, twins, 0.1)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    same = np.repeat(left[:1], 9, axis=0)
    assert contrastive_loss(same, same, twins, 0.1) == (pytest.approx(chance), pytest.approx(chance))


def test_measures_of_a_set(make_set: Any) -> None:
    generator = np.random.default_rng(3)
    unit = generator.normal(size=(40, 6)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    xray = unit.copy()
    xray[:10] = np.nan
    found = measure_geometry(make_set(40, width=6, xray=xray, text=unit, ecg=unit[:, ::-1].copy()), temperature=0.1)
    towers, pairs = found["towers"], found["pairs"]
    assert (towers["xray"]["rows"], towers["ecg"]["rows"], towers["xray"]["width"]) == (30, 40, 6)
    assert towers["xray"]["effective_rank"] == effective_rank(unit[10:])
    assert towers["xray"]["feature_rank"] > 3
    assert "feature_rank" not in towers["text"]
    assert pairs["xray"]["alignment"] == 0.0 and pairs["xray"]["gap"] == 0.0
    assert pairs["xray"]["held_out_loss"] < 0.5 * pairs["xray"]["chance"]
    assert pairs["ecg"]["alignment"] > 1.0
    assert pairs["xray"]["mismatched"] > 1.5
    assert json.loads(json.dumps(found)) == found


def test_equal_words_and_one_patients_studies_are_no_negatives(make_set: Any) -> None:
    reports = ["the same words"] * 20 + [f"other {row}" for row in range(20)]
    patients = [f"p{row}" for row in range(20)] + ["one patient"] * 20
    found = measure_geometry(make_set(40, report=reports, patient=patients, site=["north"] * 40), temperature=0.1)
    assert found["pairs"]["xray"]["chance"] == pytest.approx(math.log(21))
    # The same number at another site is another patient.
    apart = measure_geometry(
        make_set(40, report=reports, patient=patients, site=["north", "south"] * 20), temperature=0.1
    )
    assert apart["pairs"]["xray"]["chance"] == pytest.approx((math.log(21) + math.log(31)) / 2)


def test_too_few_rows_give_counts_alone(make_set: Any) -> None:
    found = measure_geometry(make_set(FEWEST_ROWS - 1), temperature=0.1)
    assert found["towers"]["xray"] == {"rows": FEWEST_ROWS - 1, "width": 4}
    assert found["pairs"]["ecg"] == {"rows": FEWEST_ROWS - 1}
    nothing = make_set(20, xray=np.full((20, 4), np.nan, dtype=np.float32))
    assert measure_geometry(nothing, temperature=0.1)["pairs"]["xray"] == {"rows": 0}


def test_a_set_in_which_all_say_the_same_has_nobody_to_compare_with(make_set: Any) -> None:
    found = measure_geometry(make_set(20, report=["the same"] * 20), temperature=0.1)
    assert found["pairs"]["xray"]["mismatched"] is None
    assert found["pairs"]["xray"]["chance"] == 0.0


def test_a_large_set_is_measured_on_some_rows(make_set: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_set(90)
    full = measure_geometry(whole, temperature=0.1)
    monkeypatch.setattr(health, "MOST_ROWS", 30)
    thinned = measure_geometry(whole, temperature=0.1)
    assert thinned["pairs"]["xray"]["chance"] == pytest.approx(math.log(30))
    assert thinned["towers"]["xray"]["rows"] == 90
    assert thinned["towers"]["xray"]["effective_rank"] == pytest.approx(
        full["towers"]["xray"]["effective_rank"], rel=0.1
    )
