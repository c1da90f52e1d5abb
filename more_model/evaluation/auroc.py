"""The area under the ROC curve: exact, with ties, and under many weightings at once.

AUROC = P(score of a positive > score of a negative) + P(equal) / 2, the Mann-Whitney statistic (Hanley and McNeil,
Radiology 1982). With weights, both probabilities are over weighted draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from more_model.errors import DataError
from more_model.evaluation.embedded import Float64

#: An AUROC needs at least this many rows of either class; with fewer it is a coin, not a figure.
MINIMUM_PER_CLASS = 2

#: Bound on one block of weights while many weightings are computed.
_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Auroc:
    """``value`` in [0, 1], or None with the ``reason`` why there is none."""

    value: float | None
    positives: int
    negatives: int
    reason: str | None = None


def auroc(y: ArrayLike, score: ArrayLike) -> Auroc:
    """AUROC of ``score`` [n] for ``y`` [n] (0, 1; rows with a NaN in either are left out).

    The value is None, with a reason, when fewer than two rows of either class remain.
    """
    positive, negative = _split(y, score)
    reason = refusal(len(positive), len(negative))
    if reason is not None:
        return Auroc(None, len(positive), len(negative), reason)
    below, up_to = _positions(positive, negative)
    wins = float((below + up_to).sum()) / 2
    return Auroc(wins / (len(positive) * len(negative)), len(positive), len(negative))


def refusal(positives: int, negatives: int) -> str | None:
    """Why no AUROC is given for this many rows of each class, or None when there is no objection."""
    short = [
        f"{count} {name}{'' if count == 1 else 's'}"
        for name, count in (("positive", positives), ("negative", negatives))
        if count < MINIMUM_PER_CLASS
    ]
    if not short:
        return None
    return f"{' and '.join(short)}, at least {MINIMUM_PER_CLASS} of either are needed"


def weighted_aurocs(y: ArrayLike, score: ArrayLike, weights: ArrayLike) -> Float64:
    """One AUROC per weighting: ``weights`` [replicates, n] >= 0 gives float64 [replicates].

    NaN where a weighting leaves one class without weight. Rows with a NaN in ``y`` or ``score`` are left out.
    The scores are sorted once; each weighting then costs one cumulative sum.
    """
    matrix = np.asarray(weights)
    if matrix.ndim != 2 or matrix.shape[1] != len(np.asarray(y)):
        raise DataError(f"weights have shape {matrix.shape}, expected [replicates, {len(np.asarray(y))}]")
    return weighted_aurocs_by_unit(y, score, np.arange(matrix.shape[1]), np.ascontiguousarray(matrix.T))


def weighted_aurocs_by_unit(
    y: ArrayLike, score: ArrayLike, unit: NDArray[np.intp], unit_weights: NDArray[np.generic]
) -> Float64:
    """Like `weighted_aurocs` where rows share weights: row i weighs ``unit_weights[unit[i]]``, [units, replicates].

    This layout keeps the weights of one patient contiguous and never builds the [replicates, n] matrix.
    """
    values, scores = np.asarray(y, dtype=np.float64), np.asarray(score, dtype=np.float64)
    known = ~np.isnan(values) & ~np.isnan(scores)
    is_positive, is_negative = known & (values == 1.0), known & (values == 0.0)
    order = np.argsort(scores[is_negative], kind="stable")
    negative, negative_unit = scores[is_negative][order], unit[is_negative][order]
    positive, positive_unit = scores[is_positive], unit[is_positive]
    below, up_to = _positions(positive, negative)
    replicates = unit_weights.shape[1]
    block = max(1, _BLOCK_BYTES // (8 * max(1, len(positive) + len(negative))))
    result = np.empty(replicates)
    for start in range(0, replicates, block):
        part = np.s_[start : start + block]
        columns = unit_weights[:, part].astype(np.float64)
        result[part] = _block_aurocs(columns[positive_unit], columns[negative_unit], below, up_to)
    return result


def _block_aurocs(positive: Float64, negative: Float64, below: NDArray[np.intp], up_to: NDArray[np.intp]) -> Float64:
    """Weights [positives, b] and [negatives sorted by score, b] to AUROCs [b]; NaN where a class weighs nothing."""
    cumulative = np.zeros((len(negative) + 1, negative.shape[1]))
    np.cumsum(negative, axis=0, out=cumulative[1:])
    # The weight of the negatives strictly below, plus half of the equal ones, is the mean of these two.
    beaten = (cumulative[below] + cumulative[up_to]) / 2
    wins = np.einsum("ib,ib->b", positive, beaten)
    pairs = positive.sum(axis=0) * cumulative[-1]
    result: Float64 = np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return result


def roc_curve(y: ArrayLike, score: ArrayLike, *, points: int = 200) -> tuple[Float64, Float64]:
    """False and true positive rates from (0, 0) to (1, 1), at most ``points`` of them, rising in both.

    Rows with a NaN are left out. Both arrays are empty where `auroc` refuses a value. Thinning keeps points that lie
    evenly along the curve and never moves one.
    """
    positive, negative = _split(y, score)
    if refusal(len(positive), len(negative)) is not None:
        return np.empty(0), np.empty(0)
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    hits = len(positive) - np.searchsorted(np.sort(positive), thresholds, side="left")
    alarms = len(negative) - np.searchsorted(np.sort(negative), thresholds, side="left")
    fpr = np.concatenate([[0.0], alarms / len(negative)])
    tpr = np.concatenate([[0.0], hits / len(positive)])
    if len(fpr) > points:
        length = fpr + tpr
        keep = np.unique(np.searchsorted(length, np.linspace(0.0, length[-1], points)))
        fpr, tpr = fpr[keep], tpr[keep]
    return fpr, tpr


def delong_variance(y: ArrayLike, score: ArrayLike) -> float | None:
    """Variance of the AUROC after DeLong, DeLong and Clarke-Pearson (Biometrics 1988), rows taken as independent.

    A cross-check for the bootstrap: with one row per patient both agree, with several rows per patient this one is too
    small. None where `auroc` refuses a value.
    """
    return delong_difference_variance(y, score, np.zeros(len(np.asarray(score))))


def delong_difference_variance(y: ArrayLike, a: ArrayLike, b: ArrayLike) -> float | None:
    """Variance of AUROC(a) - AUROC(b) on the same rows (DeLong 1988); a constant ``b`` contributes nothing."""
    values, first, second = (np.asarray(part, dtype=np.float64) for part in (y, a, b))
    known = ~np.isnan(values) & ~np.isnan(first) & ~np.isnan(second)
    if refusal(int((values[known] == 1.0).sum()), int((values[known] == 0.0).sum())) is not None:
        return None
    over_positives_a, over_negatives_a = _placements(*_split(values[known], first[known]))
    over_positives_b, over_negatives_b = _placements(*_split(values[known], second[known]))
    positives, negatives = over_positives_a - over_positives_b, over_negatives_a - over_negatives_b
    return float(positives.var(ddof=1) / len(positives) + negatives.var(ddof=1) / len(negatives))


def _placements(positive: Float64, negative: Float64) -> tuple[Float64, Float64]:
    """For each positive the share of negatives below it, for each negative the share of positives above (ties half)."""
    below, up_to = _positions(positive, negative)
    of_positive = (below + up_to) / (2 * len(negative))
    below, up_to = _positions(negative, positive)
    of_negative = 1.0 - (below + up_to) / (2 * len(positive))
    return of_positive, of_negative


def _positions(first: Float64, second: Float64) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each of ``first``: how many of ``second`` are smaller, and how many are smaller or equal."""
    ordered = np.sort(second)
    return np.searchsorted(ordered, first, side="left"), np.searchsorted(ordered, first, side="right")


def _split(y: ArrayLike, score: ArrayLike) -> tuple[Float64, Float64]:
    """The scores of the positives and of the negatives, rows with NaN left out; DataError for other labels."""
    values, scores = np.asarray(y, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if values.shape != scores.shape or values.ndim != 1:
        raise DataError(f"labels of shape {values.shape} and scores of shape {scores.shape} do not belong together")
    known = ~np.isnan(values) & ~np.isnan(scores)
    if not np.isin(values[known], (0.0, 1.0)).all():
        raise DataError(
            "labels other than 0, 1 and NaN cannot be ranked",
            remedy="apply an uncertainty policy (settle_uncertain) before scoring",
        )
    return scores[known & (values == 1.0)], scores[known & (values == 0.0)]
