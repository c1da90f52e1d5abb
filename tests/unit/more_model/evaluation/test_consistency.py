"""Given an X-ray, find an ECG of the same patient: over all studies of those who have both."""

from __future__ import annotations

import json

import numpy as np
import pytest

from more_model.errors import DataError
from more_model.evaluation.consistency import Studies, consistency, consistency_by_site

AXES = np.eye(4, dtype=np.float32)


def studies(axes: list[int], patient: str, site: str = "") -> Studies:
    return Studies(AXES[axes], list(patient), list(site or "n" * len(patient)))


def test_by_hand() -> None:
    # Patients a, b and c have both; d has no ECG and e no X-ray, so these two are neither asked nor found.
    xrays = studies([0, 1, 2, 3], "abcd")
    # a: two ECGs, one right. b: like c's X-ray. c: like b's.
    ecgs = studies([3, 0, 2, 1, 1], "aabce")
    result = consistency(xrays, ecgs)
    assert result["patients"] == 3
    forth, back = result["xray->ecg"], result["ecg->xray"]
    # b's X-ray: c's ECG stands first, then b's own ties with both of a: rank 4. c's likewise.
    assert forth["candidates"] == 4
    assert forth["recall@1"] == pytest.approx(1 / 3)
    assert forth["mrr"] == pytest.approx((1 + 1 / 4 + 1 / 4) / 3)
    assert forth["median_rank"] == 4.0
    assert forth["chance@1"] == pytest.approx((2 / 4 + 1 / 4 + 1 / 4) / 3)
    # a's first ECG resembles no X-ray: all three tie, rank 3. Its second finds it. b's and c's: 3.
    assert back["candidates"] == 3
    assert back["mrr"] == pytest.approx((1 / 3 + 1 + 1 / 3 + 1 / 3) / 4)


def test_patients_of_two_hospitals_are_two_patients() -> None:
    xrays = studies([0, 1], "77", "ns")
    ecgs = studies([1, 0], "77", "ns")
    result = consistency(xrays, ecgs)
    assert result["patients"] == 2
    assert result["xray->ecg"]["recall@1"] == 0.0


def test_each_site_alone() -> None:
    xrays = studies([0, 1, 0, 1], "abab", "nnss")
    ecgs = studies([0, 1, 1, 0], "abab", "nnss")
    result = consistency_by_site(xrays, ecgs)
    assert list(result) == ["n", "s"]
    assert result["n"]["xray->ecg"]["recall@1"] == 1.0
    assert result["s"]["xray->ecg"]["recall@1"] == 0.0


def test_random_vectors_find_at_the_rate_of_chance() -> None:
    generator = np.random.default_rng(0)

    def random(count: int) -> np.ndarray:
        rows = generator.normal(size=(count, 16))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    patient, site = [f"p{i // 2}" for i in range(600)], ["n"] * 600
    figures = consistency(Studies(random(600), patient, site), Studies(random(600), patient, site), replicates=100)
    for way in ("xray->ecg", "ecg->xray"):
        low, high = figures[way]["ci95"]["median_rank"]
        assert low <= figures[way]["chance_median_rank"] <= high
        assert figures[way]["mrr"] == pytest.approx(figures[way]["chance_mrr"], abs=0.015)
    json.dumps(figures, allow_nan=False)


def test_too_few_are_a_reason_and_unequal_parts_an_error() -> None:
    result = consistency(studies([0, 1], "ab"), studies([0], "a"), replicates=5)
    assert result["xray->ecg"]["recall@1"] is None
    assert result["xray->ecg"]["reason"] == "1 patients have both an X-ray and an ECG"
    empty = Studies(np.empty((0, 4), dtype=np.float32), [], [])
    assert consistency(empty, empty)["patients"] == 0
    assert consistency_by_site(empty, empty) == {}
    with pytest.raises(DataError, match="differ in length"):
        Studies(AXES, ["a"], ["n"])
