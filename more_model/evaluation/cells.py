"""Every figure of one set of labelled scores, each with its bootstrap replicates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from more_model.evaluation.auroc import auroc, weighted_aurocs_by_unit
from more_model.evaluation.bootstrap import Resamples
from more_model.evaluation.calibration import (
    BINS,
    Bins,
    bin_of,
    brier,
    error_floor,
    expected_calibration_error,
)
from more_model.evaluation.embedded import Float64, Indices
from more_model.evaluation.operating_point import (
    SENSITIVITIES,
    SPECIFICITIES,
    OperatingPoint,
    sensitivity_at_specificity,
    sensitivity_figure,
    specificity_at_sensitivity,
    specificity_figure,
)
from more_model.evaluation.precision import average_precision, precision_figure
from more_model.evaluation.ranked import Figure, rank, weighted_figures

_KINDS: tuple[Bins, ...] = ("width", "mass")

#: Bound on one block of resampling weights turned to floats.
_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Rows with a label and a score: ``y``, ``score``, ``probability`` (or None) and ``unit`` [n], the patient's row in
    the resamples."""

    y: Float64
    score: Float64
    probability: Float64 | None
    unit: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """One figure and its replicates; ``point`` where it is an operating point."""

    value: float
    replicates: Float64
    interval: Literal["percentile", "reverse"] = "percentile"
    point: OperatingPoint | None = None


#: Figures by name; operating points are named in words, such as ``sensitivity at specificity 0.9``.
Figures: TypeAlias = Mapping[str, Estimate]


def figures_of(cells: Cells, resamples: Resamples) -> Figures:
    """All figures of some cells; none where `auroc` refuses."""
    value = auroc(cells.y, cells.score).value
    precision = average_precision(cells.y, cells.score).value
    if value is None or precision is None:
        return {}
    points: dict[str, tuple[OperatingPoint, float | None, Figure]] = {}
    for at in SPECIFICITIES:
        point = sensitivity_at_specificity(cells.y, cells.score, at)
        points[f"sensitivity at specificity {at:g}"] = (point, point.sensitivity, sensitivity_figure(at))
    for at in SENSITIVITIES:
        point = specificity_at_sensitivity(cells.y, cells.score, at)
        points[f"specificity at sensitivity {at:g}"] = (point, point.specificity, specificity_figure(at))
    wanted = [precision_figure, *(figure for _, _, figure in points.values())]
    drawn = weighted_figures(rank(cells.y, cells.score), cells.unit, resamples.counts, wanted)
    figures = {
        "auroc": Estimate(value, weighted_aurocs_by_unit(cells.y, cells.score, cells.unit, resamples.counts)),
        "auprc": Estimate(precision, drawn[0]),
    }
    for row, (name, (point, best, _)) in enumerate(points.items(), start=1):
        if best is not None:
            figures[name] = Estimate(best, drawn[row], point=point)
    return figures | _calibration_figures(cells, resamples)


def _calibration_figures(cells: Cells, resamples: Resamples) -> dict[str, Estimate]:
    """Brier score, its skill, both calibration errors; bins are those of the whole set in every replicate."""
    if cells.probability is None:
        return {}
    y, p = cells.y, cells.probability
    bins = [bin_of(p, BINS, kind) for kind in _KINDS]
    off = [np.where(number == one, p - y, 0.0) for number in bins for one in range(BINS)]
    drawn = _weighted_sums(np.stack([np.ones(len(y)), y, (p - y) ** 2, *off]), cells.unit, resamples)
    rows, positives, squares = np.where(drawn[0] > 0, drawn[0], np.nan), drawn[1], drawn[2]
    base = positives / rows
    spread = np.where((base > 0) & (base < 1), base * (1 - base), np.nan)
    whole = brier(y, p)
    figures = {
        "brier": Estimate(whole.value, squares / rows),
        "ece_floor": Estimate(error_floor(p), np.full(len(rows), np.nan)),
    }
    if whole.skill is not None:
        figures["brier_skill"] = Estimate(whole.skill, 1 - squares / rows / spread)
    errors = np.abs(drawn[3:]).reshape(len(_KINDS), BINS, -1).sum(axis=1) / rows
    for name, kind, replicates in zip(("ece", "ece_mass"), _KINDS, errors, strict=True):
        figures[name] = Estimate(expected_calibration_error(y, p, kind=kind), replicates, "reverse")
    return figures


def _weighted_sums(values: Float64, unit: Indices, resamples: Resamples) -> Float64:
    """Sums [k, replicates] of ``values`` [k, n], each row weighing as often as its patient was drawn."""
    units = len(resamples.counts)
    by_unit = np.stack([np.bincount(unit, weights=row, minlength=units) for row in values])
    block = max(1, _BLOCK_BYTES // (8 * max(1, units)))
    starts = range(0, resamples.replicates, block)
    return np.concatenate([by_unit @ resamples.counts[:, i : i + block].astype(np.float64) for i in starts], axis=1)


def has_one_patient_class(cells: Cells) -> bool:
    """Whether all positives or all negatives are of one patient: resampling then yields that patient or nothing."""
    return any(len(np.unique(cells.unit[cells.y == side])) < 2 for side in (0.0, 1.0))
