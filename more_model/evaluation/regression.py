"""The logistic regression of the linear probe and of late fusion."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from more_model.evaluation.embedded import Float64

_MAX_ITERATIONS = 300
_TOLERANCE = 1e-4


def logistic_regression(
    columns: Float64, y: Float64, strength: float, *, share: Float64 | None = None
) -> tuple[Float64, float]:
    """Weights [width] and bias of an L2-regularised fit of ``y`` [n] (0, 1) to ``columns`` [n, width].

    ``strength`` is the inverse of the regularisation (C of scikit-learn), ``share`` [n] the weight of each row.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS, tol=_TOLERANCE)
    with warnings.catch_warnings():
        # A fit that stops at the iteration limit still ranks; the validation set decides whether it is used.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(columns, y, sample_weight=share)
    return np.asarray(model.coef_[0], dtype=np.float64), float(model.intercept_[0])


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy and SciPy compute on one thread inside; torch is not touched.

    A regression makes thousands of products too small to be worth sharing: the threads of OpenBLAS then spend several
    times the work on waiting for each other, and the last bits of a fit depend on how many cores the machine has.
    """
    # It comes with scikit-learn, which depends on it.
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=1, user_api="blas"):
        yield
