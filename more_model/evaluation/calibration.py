"""Probabilities from scores, and how far they can be believed.

A score ranks; it becomes a probability by a logistic curve fitted on **validation** patients (Platt, 1999), never on
the patients it is judged on. Judged by

- the Brier score, mean (p - y)^2 (Brier, 1950), its skill against always saying the prevalence, and its
  decomposition reliability - resolution + uncertainty (Murphy, 1973);
- the expected calibration error: the mean distance between the share of positives and the mean probability over bins,
  weighted by rows (Naeini et al., 2015). Bins are closed above, (low, high], the lowest also holds 0, as in
  scikit-learn. ``width``: bins of equal width on [0, 1]. ``mass``: bins of about equal size; equal probabilities stay
  together. In a finite sample an ECE is never zero, even of perfect probabilities: `error_floor` says how much chance
  alone makes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from more_model.errors import DataError
from more_model.evaluation.embedded import Float64, Indices

Bins = Literal["width", "mass"]

#: How many bins an ECE and a reliability table have unless told otherwise.
BINS = 10

#: Rows of either class without which no calibrator is fitted: two parameters on fewer are noise.
MINIMUM_TO_CALIBRATE = 5


@dataclass(frozen=True, slots=True)
class Calibrator:
    """p = 1 / (1 + exp(-(slope * score + intercept))), fitted on ``rows`` rows.

    A negative slope is kept as it is: on validation patients the score then ranks the wrong way round.
    """

    slope: float
    intercept: float
    rows: int

    def probability(self, score: ArrayLike) -> Float64:
        """Probabilities in [0, 1] for scores of any shape; NaN stays NaN."""
        logit = self.slope * np.asarray(score, dtype=np.float64) + self.intercept
        # The logistic function, written so that it neither overflows nor warns about NaN.
        result: Float64 = 0.5 * (1.0 + np.tanh(0.5 * logit))
        return result

    def to_dict(self) -> dict[str, float | int]:
        """Ready for JSON; `from_dict` reads it back."""
        return {"slope": self.slope, "intercept": self.intercept, "rows": self.rows}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibrator:
        """What `to_dict` wrote. Raises DataError for anything else."""
        try:
            slope, intercept, rows = float(content["slope"]), float(content["intercept"]), int(content["rows"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("a calibrator has to state slope, intercept and rows as numbers") from error
        if not (math.isfinite(slope) and math.isfinite(intercept)):
            raise DataError("a calibrator has to state slope, intercept and rows as finite numbers")
        return cls(slope, intercept, rows)


def calibration_refusal(y: ArrayLike, score: ArrayLike) -> str | None:
    """Why no calibrator is fitted on these rows, or None when there is no objection."""
    labels, _ = _known(y, score)
    positives = int((labels == 1.0).sum())
    negatives = len(labels) - positives
    if min(positives, negatives) >= MINIMUM_TO_CALIBRATE:
        return None
    return (
        f"{positives} positives and {negatives} negatives to calibrate on, "
        f"at least {MINIMUM_TO_CALIBRATE} of either are needed"
    )


def fit_calibrator(y: ArrayLike, score: ArrayLike) -> Calibrator:
    """Fits a logistic curve to ``score`` [n] for ``y`` [n] of 0, 1 (rows with a NaN in either are left out).

    Give validation patients only. The targets are Platt's, (n1 + 1) / (n1 + 2) and 1 / (n0 + 2) instead of 1 and 0, so
    classes that the score separates perfectly get a finite slope. Raises DataError where `calibration_refusal` objects.
    """
    from sklearn.linear_model import LogisticRegression

    reason = calibration_refusal(y, score)
    if reason is not None:
        raise DataError(f"no calibrator: {reason}", remedy="show the score or its rank instead of a probability")
    labels, scores = _known(y, score)
    centre, scale = float(scores.mean()), float(scores.std())
    positives = int((labels == 1.0).sum())
    target = np.where(labels == 1.0, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2))
    if scale <= 1e-12 * max(1.0, abs(centre)):
        mean = float(target.mean())
        return Calibrator(0.0, math.log(mean / (1.0 - mean)), len(labels))
    standard = ((scores - centre) / scale)[:, None]
    # scikit-learn takes hard classes only: a row with target t is one positive of weight t and one negative of 1 - t.
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(
        np.concatenate([standard, standard]),
        np.repeat([1.0, 0.0], len(labels)),
        sample_weight=np.concatenate([target, 1.0 - target]),
    )
    slope = float(fitted.coef_[0, 0]) / scale
    return Calibrator(slope, float(fitted.intercept_[0]) - slope * centre, len(labels))


@dataclass(frozen=True, slots=True)
class Brier:
    """``value`` = ``reliability`` - ``resolution`` + ``uncertainty`` + ``within``.

    ``within`` is what binning leaves over (Stephenson et al., 2008): 0 where all probabilities of a bin are equal.
    ``skill`` is 1 - value / uncertainty, against always saying the prevalence; None where there is one class only.
    """

    value: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float
    skill: float | None


def brier(y: ArrayLike, probability: ArrayLike, *, bins: int = BINS, kind: Bins = "width") -> Brier:
    """Brier score and decomposition of ``probability`` [n] in [0, 1] for ``y`` [n] (rows with a NaN are left out).

    Raises DataError without a row, and for values out of range.
    """
    labels, p = _known_probabilities(y, probability)
    value, base = float(np.mean((p - labels) ** 2)), float(labels.mean())
    rows, said, seen = _per_bin(labels, p, bin_of(p, bins, kind))
    reliability = float((rows * (said - seen) ** 2).sum() / len(p))
    resolution = float((rows * (seen - base) ** 2).sum() / len(p))
    uncertainty = base * (1.0 - base)
    within = value - (reliability - resolution + uncertainty)
    return Brier(value, reliability, resolution, uncertainty, within, 1 - value / uncertainty if uncertainty else None)


def expected_calibration_error(
    y: ArrayLike, probability: ArrayLike, *, bins: int = BINS, kind: Bins = "width"
) -> float:
    """ECE in [0, 1]; arguments and errors as for `brier`."""
    labels, p = _known_probabilities(y, probability)
    rows, said, seen = _per_bin(labels, p, bin_of(p, bins, kind))
    return float((rows * np.abs(said - seen)).sum() / len(p))


def error_floor(probability: ArrayLike, *, bins: int = BINS, kind: Bins = "width") -> float:
    """The ECE that perfectly calibrated ``probability`` [n] would show on average, by chance alone.

    The gap of a bin is then about normal with variance sum p (1 - p) / n^2, and its mean distance from zero is
    sqrt(2 / pi) deviations; rows are taken as independent.
    """
    p = np.asarray(probability, dtype=np.float64)
    p = p[~np.isnan(p)]
    variance = np.bincount(bin_of(p, bins, kind), weights=p * (1.0 - p))
    return float(np.sqrt(2.0 / np.pi * variance).sum() / len(p))


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The rows whose probability lies in one bin: from ``low`` to ``high`` (as they occur), ``predicted`` on average,
    and the share that was ``observed`` positive."""

    low: float
    high: float
    rows: int
    predicted: float
    observed: float


def reliability_table(
    y: ArrayLike, probability: ArrayLike, *, bins: int = BINS, kind: Bins = "width"
) -> list[ReliabilityBin]:
    """The bins that hold a row, lowest first; arguments and errors as for `brier`."""
    labels, p = _known_probabilities(y, probability)
    number = bin_of(p, bins, kind)
    return [
        ReliabilityBin(
            float(p[inside].min()), float(p[inside].max()), int(inside.sum()), float(p[inside].mean()), float(seen)
        )
        for inside, seen in ((number == one, labels[number == one].mean()) for one in np.unique(number))
    ]


def bin_of(probability: Float64, bins: int, kind: Bins) -> Indices:
    """The bin number of every probability [n]; bins without a row may be missing from the count."""
    if bins < 1:
        raise DataError(f"{bins} bins asked for; at least one is needed")
    shares = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    edges = shares if kind == "width" else np.unique(np.quantile(probability, shares))
    return np.searchsorted(edges, probability, side="left")


def _per_bin(labels: Float64, p: Float64, number: Indices) -> tuple[Float64, Float64, Float64]:
    """Rows, mean probability and share of positives of every bin that holds a row."""
    rows = np.bincount(number).astype(np.float64)
    held = rows > 0
    said, seen = (np.bincount(number, weights=values)[held] / rows[held] for values in (p, labels))
    return rows[held], said, seen


def _known(y: ArrayLike, score: ArrayLike) -> tuple[Float64, Float64]:
    labels, scores = np.asarray(y, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise DataError(f"labels of shape {labels.shape} and scores of shape {scores.shape} do not belong together")
    known = ~np.isnan(labels) & ~np.isnan(scores)
    if not np.isin(labels[known], (0.0, 1.0)).all():
        raise DataError(
            "labels other than 0, 1 and NaN cannot be calibrated",
            remedy="apply an uncertainty policy (settle_uncertain) before scoring",
        )
    return labels[known], scores[known]


def _known_probabilities(y: ArrayLike, probability: ArrayLike) -> tuple[Float64, Float64]:
    labels, p = _known(y, probability)
    if len(p) == 0:
        raise DataError("no row with both a label and a probability")
    if (p < 0.0).any() or (p > 1.0).any():
        raise DataError("probabilities outside [0, 1]", remedy="calibrate the scores first (fit_calibrator)")
    return labels, p
