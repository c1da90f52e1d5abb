"""Means over cases with patient-bootstrap intervals, and the ratio of hits to chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from more_model.evaluation.bootstrap import Resamples, percentile_interval
from more_model.evaluation.embedded import Float64, Indices, Mask

Estimate = dict[str, Any]


def mean_estimate(values: Float64, unit: Indices, resamples: Resamples) -> Estimate:
    """The mean of ``values`` [n], NaN left out; ``unit`` [n] are rows of ``resamples.counts``."""
    used = ~np.isnan(values)
    value = float(values[used].mean()) if used.any() else None
    return _estimate(value, _replicates(values[used], unit[used], resamples))


def difference_estimate(values: Float64, present: Mask, unit: Indices, resamples: Resamples) -> Estimate:
    """The mean of ``values`` [n] where ``present``, minus the mean where not, on the same resamples."""
    if present.all() or not present.any():
        return _estimate(None, np.empty(0))
    sides = [_replicates(values[side], unit[side], resamples) for side in (present, ~present)]
    return _estimate(float(values[present].mean() - values[~present].mean()), sides[0] - sides[1])


def ratio_estimate(above: Float64, below: Float64, unit: Indices, resamples: Resamples) -> Estimate:
    """Mean of ``above`` [n] over mean of ``below`` [n], both NaN in the same places."""
    used = ~np.isnan(above)
    if not used.any() or below[used].sum() == 0:
        return _estimate(None, np.empty(0))
    upper, lower = (_replicates(values[used], unit[used], resamples) for values in (above, below))
    ratio = np.divide(upper, lower, out=np.full(len(upper), np.nan), where=lower > 0)
    return _estimate(float(above[used].mean() / below[used].mean()), ratio)


def by_label(labels: Sequence[str], values: Float64) -> dict[str, Estimate]:
    """For each label the mean of ``values`` [n], NaN left out, and of how many."""
    named = np.asarray(labels)
    groups = {label: values[(named == label) & ~np.isnan(values)] for label in sorted(set(labels))}
    return {label: {"value": float(group.mean()), "cases": len(group)} for label, group in groups.items() if len(group)}


def _replicates(values: Float64, unit: Indices, resamples: Resamples) -> Float64:
    weight = resamples.counts[unit].astype(np.float64)
    total = weight.sum(axis=0)
    means: Float64 = np.divide(values @ weight, total, out=np.full(len(total), np.nan), where=total > 0)
    return means


def _estimate(value: float | None, replicates: Float64) -> Estimate:
    interval = None if value is None else percentile_interval(replicates)
    return {"value": value, "ci95": None if interval is None else list(interval)}


def above(estimate: Estimate, bound: float) -> bool:
    """Whether the whole interval lies above ``bound``."""
    return estimate["ci95"] is not None and estimate["ci95"][0] > bound
