"""How far readers agree beyond chance, with intervals from resampled cases.

Cohen's kappa (Educational and Psychological Measurement 1960) for two readers and its weighted form (Psychological
Bulletin 1968): kappa = 1 - sum(d * observed) / sum(d * expected), where d is the disagreement of two categories: 1 for
any two different ones, or their distance, or its square. Fleiss' kappa (Psychological Bulletin 1971) for several
readers who need not be the same for every case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from more_model.errors import DataError
from more_model.evaluation.embedded import Float64
from more_model.reader_study.intervals import interval_or_reason

Weighting = Literal["none", "linear", "quadratic"]

_ALL_ALIKE = "all answers are the same: agreement beyond chance is not defined"


@dataclass(frozen=True, slots=True, eq=False)
class Kappa:
    """``value`` is at most 1, or None with the ``reason``; ``observed`` and ``expected`` agreement are shares (weighted
    agreement where disagreement is weighted). ``replicates`` [b] has one kappa per weighting of the cases."""

    value: float | None
    observed: float
    expected: float
    cases: int
    replicates: Float64
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The figure with its 95 % interval, ready for JSON."""
        facts: dict[str, Any] = {"kappa": self.value, "cases": self.cases}
        if self.value is None:
            return {**facts, "reason": self.reason}
        interval, reason = interval_or_reason(self.replicates)
        facts |= {"ci95": interval, "observed": self.observed, "expected": self.expected}
        return facts if reason is None else {**facts, "interval_reason": reason}


def cohen_kappa(
    first: ArrayLike,
    second: ArrayLike,
    categories: int,
    *,
    weighting: Weighting = "none",
    case_weights: NDArray[np.generic] | None = None,
) -> Kappa:
    """Cohen's kappa of two readers: ``first`` and ``second`` [cases] hold category numbers 0, 1, ... or NaN (not read).

    Cases that one of them did not read are left out. ``case_weights`` [cases, b] gives the replicates. Raises
    DataError for numbers outside ``categories``.
    """
    a, b = _numbers(first, categories), _numbers(second, categories)
    both = ~np.isnan(a) & ~np.isnan(b)
    pairs = np.zeros((int(both.sum()), categories * categories))
    cells = (a[both] * categories + b[both]).astype(np.intp)
    pairs[np.arange(len(pairs)), cells] = 1.0
    if not len(pairs):
        return _none("no case was read by both")
    distance = _distance(categories, weighting)
    own = _cohen(pairs.sum(axis=0, keepdims=True), distance)
    replicates = np.empty(0)
    if case_weights is not None:
        kappas, _, _ = _cohen(case_weights[both].T.astype(np.float64) @ pairs, distance)
        replicates = kappas
    return _finished(own, len(pairs), replicates)


def fleiss_kappa(counts: ArrayLike, *, case_weights: NDArray[np.generic] | None = None) -> Kappa:
    """Fleiss' kappa: ``counts`` [cases, categories] says how many readers gave each answer.

    Cases with fewer than two readers are left out. Where their number differs from case to case, each case's agreement
    is over its own pairs of readers and every answer counts equally towards chance; with equal numbers this is Fleiss'
    formula. ``case_weights`` [cases, b] gives the replicates.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or (table < 0).any():
        raise DataError(f"counts of shape {table.shape}: expected [cases, categories], none below zero")
    enough = table.sum(axis=1) >= 2
    table = table[enough]
    if not len(table):
        return _none("no case was read by two readers")
    own = _fleiss(table, np.ones((len(table), 1)))
    replicates = np.empty(0)
    if case_weights is not None:
        replicates, _, _ = _fleiss(table, case_weights[enough].astype(np.float64))
    return _finished(own, len(table), replicates)


def answer_counts(answers: Float64, categories: int) -> Float64:
    """``answers`` [readers, cases] of category numbers or NaN as counts [cases, categories]."""
    numbers = _numbers(answers, categories)
    return np.stack([(numbers == category).sum(axis=0) for category in range(categories)], axis=1).astype(np.float64)


def _cohen(confusion: Float64, distance: Float64) -> tuple[Float64, Float64, Float64]:
    """Kappas, observed and expected agreement [b] of flattened confusion matrices [b, categories²]."""
    categories = len(distance)
    matrices = confusion.reshape(-1, categories, categories)
    total = matrices.sum(axis=(1, 2))
    shares = np.divide(matrices, total[:, None, None], out=np.zeros_like(matrices), where=total[:, None, None] > 0)
    chance = shares.sum(axis=2)[:, :, None] * shares.sum(axis=1)[:, None, :]
    # Scaled so that the worst disagreement counts 1, which makes the agreement a share.
    scaled = distance / max(float(distance.max()), 1.0)
    observed, expected = 1.0 - (shares * scaled).sum(axis=(1, 2)), 1.0 - (chance * scaled).sum(axis=(1, 2))
    return _beyond_chance(observed, np.where(total > 0, expected, 1.0)), observed, expected


def _fleiss(table: Float64, weights: Float64) -> tuple[Float64, Float64, Float64]:
    """Kappas, observed and expected agreement [b] of counts [cases, categories] under ``weights`` [cases, b]."""
    readers = table.sum(axis=1)
    agreement = ((table**2).sum(axis=1) - readers) / (readers * (readers - 1))
    total = weights.sum(axis=0)
    observed = np.divide(weights.T @ agreement, total, out=np.zeros(len(total)), where=total > 0)
    answers = weights.T @ readers
    share = np.divide(
        weights.T @ table, answers[:, None], out=np.zeros((len(total), table.shape[1])), where=answers[:, None] > 0
    )
    expected = (share**2).sum(axis=1)
    return _beyond_chance(observed, np.where(total > 0, expected, 1.0)), observed, expected


def _beyond_chance(observed: Float64, expected: Float64) -> Float64:
    # Below this the room for agreement beyond chance is a rounding error.
    room = 1.0 - expected
    kappa: Float64 = np.divide(observed - expected, room, out=np.full(len(room), np.nan), where=room > 1e-12)
    return kappa


def _finished(own: tuple[Float64, Float64, Float64], cases: int, replicates: Float64) -> Kappa:
    kappa, observed, expected = (float(part[0]) for part in own)
    value, reason = (None, _ALL_ALIKE) if np.isnan(kappa) else (kappa, None)
    return Kappa(value, observed, expected, cases, replicates, reason)


def _none(reason: str) -> Kappa:
    return Kappa(None, float("nan"), float("nan"), 0, np.empty(0), reason)


def _distance(categories: int, weighting: Weighting) -> Float64:
    apart = np.abs(np.subtract.outer(np.arange(categories), np.arange(categories))).astype(np.float64)
    return {"none": (apart > 0).astype(np.float64), "linear": apart, "quadratic": apart**2}[weighting]


def _numbers(answers: ArrayLike, categories: int) -> Float64:
    values = np.asarray(answers, dtype=np.float64)
    known = values[~np.isnan(values)]
    if not np.isin(known, np.arange(categories)).all():
        raise DataError(f"category numbers have to be 0 to {categories - 1}")
    return values
