"""Factors against numpy's own SVD of the dense product, and what stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from server.aggregation.low_rank import best_factors
from server.aggregation.methods import aggregation

Build = Callable[..., Any]
A, B = ".lora_A.default.weight", ".lora_B.default.weight"


def nearest(dense: np.ndarray[Any, Any], rank: int) -> np.ndarray[Any, Any]:
    """The nearest matrix of that rank (Eckart and Young 1936)."""
    u, s, vt = np.linalg.svd(dense, full_matrices=False)
    return np.asarray((u[:, :rank] * s[:rank]) @ vt[:rank])


@pytest.mark.parametrize(
    ("out", "inner", "inputs", "rank"),
    [(7, 6, 9, 2), (7, 6, 4, 2), (1, 6, 9, 3), (9, 2, 9, 2), (3, 4, 2, 4), (5, 5, 5, 5), (2, 3, 3, 3)],
)
def test_factors_are_those_of_the_nearest_product(out: int, inner: int, inputs: int, rank: int) -> None:
    generator = np.random.default_rng(out + inner)
    left, right = generator.normal(size=(out, inner)), generator.normal(size=(inner, inputs))
    b, a = best_factors(left, right, rank)
    assert (b.shape, a.shape) == ((out, rank), (rank, inputs))
    assert np.allclose(b @ a, nearest(left @ right, rank), atol=1e-12)
    full = min(rank, inputs)
    assert np.allclose(a[:full] @ a[:full].T, np.eye(full), atol=1e-12)
    assert not a[full:].any()


def test_directions_without_weight_are_kept_for_later() -> None:
    # Nothing learned yet: a B of zero. A must still offer every direction that it had.
    right = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 3)))[0].T
    b, a = best_factors(np.zeros((5, 3)), right, 3)
    assert not b.any()
    assert np.allclose(a @ a.T, np.eye(3), atol=1e-12)
    assert np.allclose(a.T @ a, right.T @ right, atol=1e-12)


def test_flexlora_is_the_nearest_of_its_rank_to_the_mean_product_and_nearer_than_fedit(trained: Build) -> None:
    sites = trained("flexlora")
    combined = aggregation("flexlora").combine(sites.start, sites.updates, sites.spec)
    averaged = aggregation("fedit").combine(sites.start, sites.updates, sites.spec)
    for adapted in ("text.query", "xray.qkv", "text.value"):
        wanted = sites.wanted(adapted)
        assert np.allclose(sites.effective(combined, adapted), nearest(wanted, 2), atol=1e-6)
    lost, lost_by_mean = (
        np.linalg.norm(sites.wanted("text.query") - sites.effective(t, "text.query")) for t in (combined, averaged)
    )
    assert lost < 0.9 * lost_by_mean


@pytest.mark.parametrize("method", ["fedsvd", "flexlora"])
def test_a_comes_back_orthonormal(trained: Build, method: str) -> None:
    sites = trained(method)
    combined = aggregation(method).combine(sites.start, sites.updates, sites.spec)
    for adapted in ("text.query", "xray.qkv"):
        a = combined[adapted + A]
        assert a.dtype == np.float32
        assert np.allclose(a @ a.T, np.eye(2), atol=1e-6)
        assert not np.allclose(a, sites.start[adapted + A], atol=1e-3)


def test_fedsvd_turns_a_but_opens_no_new_direction_over_many_rounds(trained: Build) -> None:
    sites = trained("fedsvd")
    tensors, name = sites.start, "text.query" + A
    for _ in range(50):
        tensors = aggregation("fedsvd").combine(tensors, sites.updates, sites.spec)
    before, after = sites.start[name].astype(float), tensors[name].astype(float)
    assert np.allclose(after @ after.T, np.eye(2), atol=1e-6)
    assert np.allclose(after.T @ after, before.T @ before, atol=1e-5)


@pytest.mark.parametrize("method", ["fedsvd", "flexlora", "fedex"])
def test_a_tower_that_nobody_trained_stays_bit_identical(trained: Build, method: str) -> None:
    sites = trained(method)
    without_xray = [update for update in sites.updates if update.weights["xray"] == 0]
    combined = aggregation(method).combine(sites.start, without_xray, sites.spec)
    for tensor in sites.spec.tensors:
        same = combined[tensor.name].tobytes() == sites.start[tensor.name].tobytes()
        assert same is (tensor.tower == "xray")
        assert combined[tensor.name] is not sites.start[tensor.name]


@pytest.mark.parametrize("method", ["fedsvd", "flexlora", "fedex"])
def test_order_of_arrival_does_not_change_a_bit_and_inputs_are_not_written_to(trained: Build, method: str) -> None:
    sites = trained(method)
    before = {name: array.copy() for name, array in sites.start.items()}
    one = aggregation(method).combine(sites.start, sites.updates, sites.spec)
    other = aggregation(method).combine(sites.start, sites.updates[::-1], sites.spec)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert all(np.array_equal(before[name], array) for name, array in sites.start.items())


def test_the_residual_of_fedex_adds_up_over_rounds(trained: Build) -> None:
    sites, name = trained("fedex"), "text.query.lora_residual"
    first = aggregation("fedex").combine(sites.start, sites.updates, sites.spec)
    assert not np.allclose(first[name], sites.start[name], atol=1e-3)
    # Sites that all say the same leave nothing to correct.
    alike = [sites.updates[0]]
    second = aggregation("fedex").combine(first, alike, sites.spec)
    assert np.allclose(second[name], first[name], atol=1e-6)
