"""The logistic regression of probes and fusion."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from more_model.evaluation.regression import logistic_regression, one_blas_thread


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_weights_and_bias_are_where_the_gradient_vanishes() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 3))
    y = (x @ [1.0, -2.0, 0.0] + 0.5 + generator.normal(size=200) > 0).astype(float)
    share = generator.uniform(0.2, 1.0, 200)
    weight, bias = logistic_regression(x, y, 0.7, share=share)
    off = share * (1 / (1 + np.exp(-(x @ weight + bias))) - y)
    np.testing.assert_allclose(0.7 * off @ x + weight, 0.0, atol=1e-2)
    assert off.sum() == pytest.approx(0.0, abs=2e-2)


def test_one_thread_inside_and_as_many_as_before_afterwards() -> None:
    before = blas_threads()
    with one_blas_thread():
        assert set(blas_threads()) == {1}
    assert blas_threads() == before
    with pytest.raises(ValueError, match="lost"), one_blas_thread():
        raise ValueError("lost")
    assert blas_threads() == before
