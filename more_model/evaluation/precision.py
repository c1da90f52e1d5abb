"""The area under the precision-recall curve, as average precision: exact, with ties, and under many weightings at once.

AP = sum over thresholds, from the highest down, of (recall gained) x (precision there): the step-wise area of Davis and
Goadrich (ICML 2006, no straight line between two points). Its level without skill is the prevalence, not 0.5, so it is
comparable only where the prevalence is: always show both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from more_model.evaluation.auroc import refusal
from more_model.evaluation.embedded import Float64
from more_model.evaluation.ranked import Called, called_once, rank, share, weighted_figures


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """``value`` in [0, 1], or None with the ``reason`` why there is none."""

    value: float | None
    positives: int
    negatives: int
    reason: str | None = None

    @property
    def prevalence(self) -> float | None:
        """The share of positives: what scores without skill would reach. None without rows."""
        rows = self.positives + self.negatives
        return self.positives / rows if rows else None


def average_precision(y: ArrayLike, score: ArrayLike) -> AveragePrecision:
    """Average precision of ``score`` [n] for ``y`` [n] (0, 1; rows with a NaN in either are left out).

    Rows of equal score enter together. The value is None, with a reason, where `auroc` refuses one.
    """
    ranked = rank(y, score)
    positives, negatives = len(ranked.positive), len(ranked.negative)
    reason = refusal(positives, negatives)
    if reason is not None:
        return AveragePrecision(None, positives, negatives, reason)
    return AveragePrecision(float(precision_figure(called_once(ranked))[0]), positives, negatives)


def weighted_average_precisions_by_unit(
    y: ArrayLike, score: ArrayLike, unit: NDArray[np.intp], unit_weights: NDArray[np.generic]
) -> Float64:
    """One average precision per weighting, float64 [replicates]; arguments as in `weighted_aurocs_by_unit`.

    NaN where a weighting leaves one class without weight.
    """
    result: Float64 = weighted_figures(rank(y, score), unit, unit_weights, [precision_figure])[0]
    return result


def precision_figure(called: Called) -> Float64:
    """Average precision [b]: every positive adds its weight times the precision at its own score."""
    precision = share(called.hits, called.hits + called.alarms)
    return share((called.weight * precision).sum(axis=0), called.positives)
