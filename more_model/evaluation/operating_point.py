"""Sensitivity at a fixed specificity, and specificity at a fixed sensitivity.

Convention: a row is called positive when its score is **at least** the threshold, thresholds are scores that occur, and
nothing is interpolated between them: what is reported can be had. At a fixed specificity the threshold is the lowest
score of a positive at which the specificity is still at least the one asked for (below it more false alarms, above it
fewer hits); where even the highest is too low, nothing is called positive: sensitivity 0, no threshold. At a fixed
sensitivity it is the highest at which the sensitivity is at least the one asked for.

The threshold is chosen on the rows that are judged. Under resampling it is chosen anew in every replicate, so an
interval holds the uncertainty of the choice, too; a threshold carried to other patients keeps neither figure exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from more_model.errors import DataError
from more_model.evaluation.auroc import refusal
from more_model.evaluation.embedded import Float64
from more_model.evaluation.ranked import Called, Figure, called_once, rank, share

#: The specificities that tables show.
SPECIFICITIES = (0.9, 0.95)

#: The sensitivities that tables show.
SENSITIVITIES = (0.9,)

#: A share such as 9 of 10 must meet 0.9 whatever its last bit.
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What one threshold gives: all three are None with a ``reason`` where there is no figure; ``threshold`` alone is
    None where nothing is called positive."""

    sensitivity: float | None
    specificity: float | None
    threshold: float | None
    positives: int
    negatives: int
    reason: str | None = None


def sensitivity_at_specificity(y: ArrayLike, score: ArrayLike, specificity: float = 0.9) -> OperatingPoint:
    """The highest sensitivity of ``score`` [n] for ``y`` [n] with at least this specificity.

    Rows with a NaN in either are left out. Refuses where `auroc` does. Raises DataError for a share outside (0, 1].
    """
    return _point(y, score, "specificity", specificity)


def specificity_at_sensitivity(y: ArrayLike, score: ArrayLike, sensitivity: float = 0.9) -> OperatingPoint:
    """The highest specificity of ``score`` [n] for ``y`` [n] with at least this sensitivity; else as above."""
    return _point(y, score, "sensitivity", sensitivity)


def sensitivity_figure(specificity: float) -> Figure:
    """Sensitivity [b] at this specificity, for `more_model.evaluation.ranked.weighted_figures`."""
    _require_share(specificity)

    def figure(called: Called) -> Float64:
        hits = np.where(_specific_enough(called, specificity), called.hits, 0.0).max(axis=0, initial=0.0)
        return share(hits, called.positives)

    return figure


def specificity_figure(sensitivity: float) -> Figure:
    """Specificity [b] at this sensitivity, for `more_model.evaluation.ranked.weighted_figures`."""
    _require_share(sensitivity)

    def figure(called: Called) -> Float64:
        spared = called.negatives - called.alarms
        best = np.where(_sensitive_enough(called, sensitivity), spared, 0.0).max(axis=0, initial=0.0)
        return share(best, called.negatives)

    return figure


def _point(y: ArrayLike, score: ArrayLike, fixed: str, at: float) -> OperatingPoint:
    _require_share(at)
    ranked = rank(y, score)
    positives, negatives = len(ranked.positive), len(ranked.negative)
    reason = refusal(positives, negatives)
    if reason is not None:
        return OperatingPoint(None, None, None, positives, negatives, reason)
    called = called_once(ranked)
    # Thresholds fall along the rows: specificity is met by the first of them, sensitivity by the last.
    met = (_specific_enough(called, at) if fixed == "specificity" else _sensitive_enough(called, at))[:, 0]
    rows = np.flatnonzero(met)
    if len(rows) == 0:
        return OperatingPoint(0.0, 1.0, None, positives, negatives)
    row = rows[-1] if fixed == "specificity" else rows[0]
    return OperatingPoint(
        sensitivity=float(called.hits[row, 0] / positives),
        specificity=float(1.0 - called.alarms[row, 0] / negatives),
        threshold=float(ranked.thresholds[row]),
        positives=positives,
        negatives=negatives,
    )


def _specific_enough(called: Called, specificity: float) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    allowed: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = (
        called.alarms <= (1.0 - specificity + _SLACK) * called.negatives
    )
    return allowed


def _sensitive_enough(called: Called, sensitivity: float) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    enough: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = called.hits >= (sensitivity - _SLACK) * called.positives
    return enough


def _require_share(value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise DataError(f"an operating point at {value}: give a share in (0, 1], such as 0.9")
