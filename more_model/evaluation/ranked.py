"""What precision and operating points share: hits and false alarms at every positive's score, under many weightings.

A row is called positive when its score is at least the threshold. Between the scores of two positives lowering the
threshold only adds false alarms, so the scores of the positives are all the thresholds worth looking at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from more_model.errors import DataError
from more_model.evaluation.embedded import Float64, Indices

#: Bound on one block of weights while many weightings are computed.
_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The rows that have a label and a score, highest score first.

    ``positive`` [p] and ``negative`` [m] are row numbers, ``thresholds`` [p] the scores of the positives, falling.
    ``hits_upto`` and ``alarms_upto`` [p] say how many positives and negatives score at least that much.
    """

    positive: Indices
    negative: Indices
    thresholds: Float64
    hits_upto: Indices
    alarms_upto: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Called:
    """Weights under b weightings at the thresholds of p positives, falling.

    ``weight`` [p, b] of the positives themselves, ``hits`` [p, b] and ``alarms`` [p, b] of the positives and negatives
    called positive, ``positives`` [b] and ``negatives`` [b] of all.
    """

    weight: Float64
    hits: Float64
    alarms: Float64
    positives: Float64
    negatives: Float64


#: One figure [b] from the calls under b weightings.
Figure: TypeAlias = Callable[[Called], Float64]


def rank(y: ArrayLike, score: ArrayLike) -> Ranked:
    """Ranks ``score`` [n] for ``y`` [n] of 0 and 1, rows with a NaN in either left out; DataError for other labels."""
    values, scores = np.asarray(y, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if values.shape != scores.shape or values.ndim != 1:
        raise DataError(f"labels of shape {values.shape} and scores of shape {scores.shape} do not belong together")
    known = ~np.isnan(values) & ~np.isnan(scores)
    if not np.isin(values[known], (0.0, 1.0)).all():
        raise DataError(
            "labels other than 0, 1 and NaN cannot be ranked",
            remedy="apply an uncertainty policy (settle_uncertain) before scoring",
        )
    positive, negative = (_falling(np.flatnonzero(known & (values == side)), scores) for side in (1.0, 0.0))
    thresholds = scores[positive]
    # Searching the negated scores: they rise, and side "right" counts those equal to the threshold as well.
    hits_upto = np.searchsorted(-scores[positive], -thresholds, side="right")
    alarms_upto = np.searchsorted(-scores[negative], -thresholds, side="right")
    return Ranked(positive, negative, thresholds, hits_upto, alarms_upto)


def called_once(ranked: Ranked) -> Called:
    """The calls with every row weighing one (b = 1)."""
    return _called(ranked, np.ones((len(ranked.positive), 1)), np.ones((len(ranked.negative), 1)))


def weighted_figures(
    ranked: Ranked, unit: NDArray[np.intp], unit_weights: NDArray[np.generic], figures: Sequence[Figure]
) -> Float64:
    """Several figures under many weightings, float64 [figures, replicates].

    Row i of the ranked data weighs ``unit_weights[unit[i]]``, [units, replicates], as in `weighted_aurocs_by_unit`. NaN
    where a weighting leaves one class without weight.
    """
    replicates = unit_weights.shape[1]
    block = max(1, _BLOCK_BYTES // (8 * max(1, len(ranked.positive) + len(ranked.negative))))
    result = np.empty((len(figures), replicates))
    for start in range(0, replicates, block):
        part = np.s_[start : start + block]
        columns = unit_weights[:, part].astype(np.float64)
        called = _called(ranked, columns[unit[ranked.positive]], columns[unit[ranked.negative]])
        empty = (called.positives <= 0) | (called.negatives <= 0)
        for row, figure in enumerate(figures):
            result[row, part] = np.where(empty, np.nan, figure(called))
    return result


def share(part: Float64, whole: Float64) -> Float64:
    """``part`` / ``whole``, 0 where the whole is 0 (nothing was called: nothing is added to any sum)."""
    result: Float64 = np.divide(
        part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole > 0
    )
    return result


def _falling(rows: Indices, scores: Float64) -> Indices:
    return rows[np.argsort(-scores[rows], kind="stable")]


def _called(ranked: Ranked, positive: Float64, negative: Float64) -> Called:
    hits, alarms = _cumulative(positive), _cumulative(negative)
    return Called(positive, hits[ranked.hits_upto], alarms[ranked.alarms_upto], hits[-1], alarms[-1])


def _cumulative(weights: Float64) -> Float64:
    """[k + 1, b]: the weight of the first 0, 1, ..., k rows."""
    total = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=total[1:])
    return total
