"""Confidence intervals by resampling patients, the unit that is independent.

One draw of the resamples serves every arm and every label (the same seed and the same patients give the same draw), so
differences between arms are paired. Intervals are percentile intervals (Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from more_model.errors import DataError
from more_model.evaluation.auroc import weighted_aurocs_by_unit
from more_model.evaluation.embedded import Float64, ScoredLabel

#: Site and patient: two hospitals may number their patients alike.
Unit: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Resamples:
    """``counts`` [patients, replicates]: how often each patient was drawn in each replicate."""

    row_of: dict[Unit, int]
    counts: NDArray[np.int16]

    @property
    def replicates(self) -> int:
        """How many resamples there are."""
        return int(self.counts.shape[1])

    def rows(self, patient: Sequence[str], site: Sequence[str]) -> NDArray[np.intp]:
        """The row of ``counts`` for each of n rows of data. Raises DataError for a patient that was not resampled."""
        try:
            return np.fromiter((self.row_of[unit] for unit in zip(site, patient, strict=True)), np.intp, len(patient))
        except KeyError as missing:
            # The key is a patient identifier: it must not reach a message.
            raise DataError("a row belongs to a patient that is not among the resampled ones") from missing


def resample_patients(patient: Sequence[str], site: Sequence[str], *, replicates: int, seed: int) -> Resamples:
    """Draws as many patients as there are, with replacement, ``replicates`` times.

    The draw depends on the seed and on the *set* of patients only: neither the order nor the number of their rows.
    """
    if replicates < 1:
        raise DataError(f"{replicates} bootstrap replicates asked for; at least one is needed")
    units = sorted(set(zip(site, patient, strict=True)))
    counts = np.empty((len(units), replicates), dtype=np.int16)
    generator = np.random.default_rng(seed)
    for replicate in range(replicates):
        drawn = generator.integers(len(units), size=len(units)) if units else np.empty(0, dtype=np.int64)
        counts[:, replicate] = np.bincount(drawn, minlength=len(units))
    return Resamples({unit: row for row, unit in enumerate(units)}, counts)


def resample_arms(arms: Sequence[Sequence[ScoredLabel]], *, replicates: int, seed: int) -> Resamples:
    """One draw over all patients that occur in any label of any arm, scored or not."""
    units = sorted({unit for arm in arms for scored in arm for unit in zip(scored.patient, scored.site, strict=True)})
    return resample_patients(
        [patient for patient, _ in units], [site for _, site in units], replicates=replicates, seed=seed
    )


def replicate_aurocs(scored: ScoredLabel, resamples: Resamples) -> Float64:
    """The AUROC of one label in every replicate, float64 [replicates]; NaN where the replicate lacks a class."""
    rows = resamples.rows(scored.patient, scored.site)
    return weighted_aurocs_by_unit(scored.y, scored.score, rows, resamples.counts)


def percentile_interval(replicates: Float64, *, level: float = 0.95) -> tuple[float, float] | None:
    """The central ``level`` of the replicates, NaN left out; None when fewer than two are left."""
    usable = replicates[~np.isnan(replicates)]
    if len(usable) < 2:
        return None
    tail = (1.0 - level) / 2
    low, high = np.quantile(usable, [tail, 1.0 - tail])
    return float(low), float(high)


def reverse_percentile_interval(
    value: float, replicates: Float64, *, level: float = 0.95
) -> tuple[float, float] | None:
    """The percentile interval mirrored at ``value`` and cut to [0, 1] (the basic bootstrap, Davison and Hinkley 1997).

    For a figure that resampling pushes one way, such as a calibration error: replicates lie above ``value`` about
    as far as ``value`` lies above the truth, which mirroring takes back. ``value`` itself may lie outside.
    """
    interval = percentile_interval(replicates, level=level)
    if interval is None:
        return None
    low, high = (min(1.0, max(0.0, 2.0 * value - end)) for end in reversed(interval))
    return low, high


def mean_over_labels(replicates: Float64) -> Float64:
    """Macro mean [replicates] of AUROCs [labels, replicates], over the labels that have a value in that replicate.

    A replicate without any value is NaN. That a rare label is missing from some replicates makes the interval slightly
    wider, never narrower: the mean then also varies with which labels are in it.
    """
    present = ~np.isnan(replicates)
    count = present.sum(axis=0)
    total = np.where(present, replicates, 0.0).sum(axis=0)
    mean: Float64 = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return mean
